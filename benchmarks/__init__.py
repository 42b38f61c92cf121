"""Benchmarks: ours and the peers alike get large pages from PyTorch, as the command `viscera` does."""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when the first tensor is made
