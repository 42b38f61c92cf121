"""viscera: multi-organ segmentation of abdominal CT, and the truth about Dice loss weighting.

The library: class weights, the loss, the network, reading scans, a trained predictor, scores. Names are imported when
they are first used, so that `import viscera` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viscera.core.errors import VisceraError as VisceraError
    from viscera.core.network_config import NetworkConfig as NetworkConfig
    from viscera.core.scan import LabelMap as LabelMap
    from viscera.core.scan import Volume as Volume
    from viscera.engine.predictor import Predictor as Predictor
    from viscera.io.nifti import read_labels as read_labels
    from viscera.io.scans import read_volume as read_volume
    from viscera.losses.balance import class_weights as class_weights
    from viscera.losses.dice import WeightedDiceLoss as WeightedDiceLoss
    from viscera.metrics.scoring import score as score
    from viscera.networks.unet3d import UNet3D as UNet3D

__version__ = "0.1.0"

_HOMES = {
    "LabelMap": "core.scan",
    "NetworkConfig": "core.network_config",
    "Predictor": "engine.predictor",
    "UNet3D": "networks.unet3d",
    "VisceraError": "core.errors",
    "Volume": "core.scan",
    "WeightedDiceLoss": "losses.dice",
    "class_weights": "losses.balance",
    "read_labels": "io.nifti",
    "read_volume": "io.scans",
    "score": "metrics.scoring",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'viscera' has no attribute '{name}'")
    return getattr(importlib.import_module(f"viscera.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
