"""Metrics, and everything that is measured with them.

`metrics` and `clip_metrics` judge a clip, with networks from `perception`; `experiment` runs
methods on clips and keeps the figures; `reproduction` makes the paper's tables again.
"""
