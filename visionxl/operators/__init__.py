"""Degradations as linear operators: the six tasks, their parts, and the bases in which they are
diagonal.

Every operator is two methods and two shapes (`LinearOperator`). `algebra` adds the signs `@ + - *`
to it and is loaded with the folder. The rest of the folder makes operators fast.
"""

from . import algebra as algebra
