"""Whether two trainings came to the same model."""

from pathlib import Path

import torch

from viscera.io.checkpoint import load_checkpoint


def same_state(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, statistics, averages and moments, to the bit."""
    one, two = load_checkpoint(a), load_checkpoint(b)
    moments = (checkpoint.optimizer["state"] for checkpoint in (one, two))
    return (
        one.step == two.step
        and all(torch.equal(one.model[name], two.model[name]) for name in one.model)
        and one.average.keys() == two.average.keys()
        and all(torch.equal(one.average[name], two.average[name]) for name in one.average)
        and all(torch.equal(x[key], y[key]) for x, y in zip(*(m.values() for m in moments), strict=True) for key in x)
    )
