"""Run the notebooks as tests: `nbdev_test`, with figures drawn at the size of a page.

    python tools/test_nbs.py WORKERS [FLAG]    FLAG: also the cells that are marked so, e.g. slow

nbdev draws each figure with twice as many pixels either way, for pages that it does not write here,
and waits a while before each notebook.
"""

import functools
import sys

import nbdev.test
from execnb.shell import CaptureShell


def main() -> None:
    workers, *flags = sys.argv[1:]
    nbdev.test.CaptureShell = functools.partial(CaptureShell, mpl_format="png")
    nbdev.test.nbdev_test.__wrapped__(
        n_workers=int(workers), flags=" ".join(flags), timing=True, pause=0
    )


if __name__ == "__main__":
    main()
