"""What photographs are like, and the steps that use it: the spectrum of their differences, their
sparse details, their edges.
"""
