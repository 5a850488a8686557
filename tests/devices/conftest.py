"One thread: the clips here are tiny, and threads would wait for each other."

from one_thread import one_thread  # noqa: F401
