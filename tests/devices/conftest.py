"One thread: the clips here are tiny, and threads would wait for each other."

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)
