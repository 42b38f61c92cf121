"""Networks that differ from the paper's, each in what it names: settings of `train.network`, for three levels."""

from typing import Any

DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {},
    "instance": {"normalisation": "instance"},
    "group": {"normalisation": "group", "groups": 2},
    "deep supervision": {"deep_supervision": True},
    "dropout": {"dropout": 0.5},
    "residual": {"encoder": "residual", "blocks": (1, 2, 3)},
    "residual instance": {"encoder": "residual", "blocks": (2, 1, 1), "normalisation": "instance"},
    "residual anisotropic": {
        "encoder": "residual",
        "blocks": (1, 2, 1),
        "strides": ((2, 2, 1), (1, 2, 2)),
        "kernels": ((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    },
    "anisotropic": {"strides": ((2, 2, 1), (2, 1, 2)), "kernels": ((3, 3, 1), (5, 3, 3), (3, 3, 3))},
}
