"""viscera injured on purpose: `make torture`. The short versions of the same are in `tests/torture`."""
