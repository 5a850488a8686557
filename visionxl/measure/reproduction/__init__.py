"""The tables of the paper: as they were published, made again, judged by their orderings, and
written.
"""
