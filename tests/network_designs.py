"""Networks that differ from the paper's, each in what it names: settings of `train.network`, for three levels."""

from typing import Any

DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {},
    "instance": {"normalisation": "instance"},
    "group": {"normalisation": "group", "groups": 2},
    "anisotropic": {"strides": ((2, 2, 1), (2, 1, 2)), "kernels": ((3, 3, 1), (5, 3, 3), (3, 3, 3))},
}
