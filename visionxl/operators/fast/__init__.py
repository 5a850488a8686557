"""What makes operators fast: the bases in which they are diagonal, and conjugate gradients taken on
numbers there.

`factors` says how an operator looks in its own coordinates, `diagonal` and `passes` take a clip
there and back, `polynomial` and `spectral` solve step 3 with it. No operator has to know this
folder: one without `factors()` goes through plain conjugate gradients.
"""
