"""viscera: multi-organ segmentation of abdominal CT, and a study of Dice loss weighting.

The library: class weights, the loss, the network, reading scans, a trained predictor, scores. Names are imported when
they are first used, so that `import viscera` costs nothing.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viscera.core.anatomy import ClassTable as ClassTable
    from viscera.core.errors import VisceraError as VisceraError
    from viscera.core.geometry import Geometry as Geometry
    from viscera.core.network_config import NetworkConfig as NetworkConfig
    from viscera.core.predict_config import PredictConfig as PredictConfig
    from viscera.core.scan import LabelMap as LabelMap
    from viscera.core.scan import Volume as Volume
    from viscera.engine.own_network import sliding_window_probabilities as sliding_window_probabilities
    from viscera.engine.predictor import Predictor as Predictor
    from viscera.io.nifti import read_labels as read_labels
    from viscera.io.runlog import RunFolder, StudyFolder
    from viscera.io.scans import read_volume as read_volume
    from viscera.io.store import Store as Store
    from viscera.losses.balance import WeightSchedule as WeightSchedule
    from viscera.losses.balance import class_weights as class_weights
    from viscera.losses.dice import WeightedDiceLoss as WeightedDiceLoss
    from viscera.metrics.scoring import score as score
    from viscera.networks.unet3d import UNet3D as UNet3D

    Run = RunFolder
    Study = StudyFolder

__version__ = "0.2.0"

_HOMES = {
    "ClassTable": "core.anatomy",
    "Geometry": "core.geometry",
    "LabelMap": "core.scan",
    "NetworkConfig": "core.network_config",
    "PredictConfig": "core.predict_config",
    "Predictor": "engine.predictor",
    "Run": "io.runlog:RunFolder",
    "Store": "io.store",
    "Study": "io.runlog:StudyFolder",
    "UNet3D": "networks.unet3d",
    "VisceraError": "core.errors",
    "Volume": "core.scan",
    "WeightSchedule": "losses.balance",
    "WeightedDiceLoss": "losses.dice",
    "class_weights": "losses.balance",
    "read_labels": "io.nifti",
    "read_volume": "io.scans",
    "score": "metrics.scoring",
    "sliding_window_probabilities": "engine.own_network",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'viscera' has no attribute '{name}'")
    if "IPython" in sys.modules:
        _show_in_notebooks()
    module, _, found = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"viscera.{module}"), found or name)


def load_ipython_extension(shell: Any) -> None:  # noqa: ANN401 - IPython's
    """Let a notebook show scans, label maps, stores, runs and studies; where IPython runs it does so by itself."""
    html = shell.display_formatter.formatters["text/html"]
    for name in ("Volume", "LabelMap", "Store", "Run", "Study"):
        module, _, found = _HOMES[name].partition(":")
        html.for_type_by_name(f"viscera.{module}", found or name, _html_of)


def _html_of(artifact: object) -> str:
    """Loads what draws when something is shown for the first time."""
    text: str = importlib.import_module("viscera.notebook.displays").html_of(artifact)
    return text


def _show_in_notebooks() -> None:
    from IPython import get_ipython  # noqa: PLC0415 - it is there: it called

    shell = get_ipython()
    if shell is not None:
        load_ipython_extension(shell)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
