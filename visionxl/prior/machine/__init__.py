"""How a prior fits into a machine: frames at once, networks that take turns, tiles, and the count
before anything is downloaded.
"""
