"""The five steps of Algorithm 1, one module each: inversion, Tweedie, data consistency, low-pass
filter, renoising.

Each module holds the step as a pure function of tensors, and its variants: small frozen dataclasses
that a preset names and that `bind` to one clip. `problem` holds what a step may know and what it
leaves, `own` takes a plain function as a step, and `preset` puts them together.
"""
