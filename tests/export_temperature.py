"""A run that was calibrated, without a calibration."""

from pathlib import Path

from viscera.core.config import PredictConfig
from viscera.engine.temperature import Calibration, write_calibration
from viscera.io.files import sha256
from viscera.io.runlog import RunFolder


def write_temperature(run: Path, temperature: float) -> None:
    """Of the last checkpoint; what its predictions are held against is nothing in particular."""
    figures = dict.fromkeys(("nll_before", "nll_after", "ece_before", "ece_after", "least_confidence"), 0.1)
    counts = dict.fromkeys(("voxels", "fitted_on", "cases"), 1)
    found = Calibration(
        sha256=sha256(run / "last.pt"), temperature=temperature, store_fingerprint="", predict=PredictConfig(),
        most_entropy={}, viscera="", **figures, **counts,
    )  # fmt: skip
    write_calibration(RunFolder(run), "last", found)
