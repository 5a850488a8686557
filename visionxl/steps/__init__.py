"""The five steps of Algorithm 1, one module each: inversion, Tweedie, data consistency, low-pass filter, renoising.

Each module holds the step as a pure function of tensors."""
