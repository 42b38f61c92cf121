"""Networks that differ from the paper's, each in what it names: settings of `train.network`."""

from typing import Any

DESIGNS: dict[str, dict[str, Any]] = {
    "paper": {},
    "instance": {"normalisation": "instance"},
    "group": {"normalisation": "group", "groups": 2},
}
