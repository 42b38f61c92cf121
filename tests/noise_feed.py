"""Windows of noise."""

import numpy as np

from viscera.engine.feed import Feed


def feed() -> Feed:
    """Of 8³ voxels, two at a time, of three cases with labels of all eight classes."""
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-500, 500, (9, 10, 8)).astype(np.int16), random.integers(0, 8, (9, 10, 8)).astype(np.uint8))
        for _ in range(3)
    ]
    return Feed(cases, 8, 2, seed=0)
