"""One experiment and many: what it is given, how it runs, and how its figures are kept until
something that decides them changes.
"""
