"""Degradations as linear operators: the six tasks, their parts, cameras, and operators of others.

Every operator is two methods and two shapes (`linear`). `algebra` adds the signs `@ + - *` to it
and is loaded with the folder. `fast` makes them fast, and `known` finds out what is known of one.
"""

from . import algebra as algebra
