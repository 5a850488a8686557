"""Degradations as linear operators: the six tasks, their parts, and the bases in which they are
diagonal.

Every operator is two methods and two shapes (`LinearOperator`). The rest of the folder makes them
fast.
"""
