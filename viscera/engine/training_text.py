"""How a training is doing, in a few words: beside its progress, and as a table at its end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.core.loss_config import LossConfig
from viscera.core.quantities import duration_text
from viscera.io.runlog import RunFolder
from viscera.losses.balance import Weights
from viscera.metrics.learning import dice_of_present


def lowest_loss(weights_L: Weights, voxel_counts_L: npt.NDArray[np.int64], loss: LossConfig) -> float:
    """What Eq. 6 is at best: minus the mean of the class weights.

    Without smoothing a class that no training case has stays at 0 in it, however large its weight.
    """
    return -float((weights_L * ((voxel_counts_L > 0) | (loss.smoothing > 0))).mean())


def step_text(loss: float, rate: float, lowest: float, line: Mapping[str, Any]) -> str:
    """`loss -0.327  11 steps/s  gallbladder lags: Dice 0.01`, from the last logged line of the curve.

    The lowest value that the loss can have stands beside it where that lies below -1.
    """
    best = f" (at best {lowest:.3g})" if lowest < -1.001 else ""
    parts = [f"loss {loss:.4g}{best}", f"{rate:.2g} steps/s"]
    organ = lagging_organ(line)
    if organ is not None:
        parts.append(f"{title_of(organ)} lags: Dice {line['dice'][organ]:.2f}")
    return "  ".join(parts)


def lagging_organ(line: Mapping[str, Any]) -> str | None:
    """The organ with the lowest Dice on the monitored patches; None where nothing was measured yet."""
    dice = dice_of_present(line)
    known = {organ: value for organ, value in dice.items() if value is not None and organ != "background"}
    return min(known, key=lambda organ: known[organ]) if known else None


def end_text(folder: RunFolder) -> str:
    """How far a run came, and the Dice of each class at its last logged step; empty where nothing was logged."""
    curve, status = folder.read_curve(), folder.read_status()
    if not curve:
        return ""
    last = curve[-1]
    columns = {"training\npatches": dice_of_present(last)}
    if validation := last.get("validation_dice"):
        columns["validation\ncases"] = validation
    names = list(columns["training\npatches"])
    rows = [(title_of(name), *(_score(column.get(name)) for column in columns.values())) for name in names]
    took = f" in {duration_text(status.wall_seconds)}" if status else ""
    table = tabulate(rows, ("Dice", *columns), disable_numparse=True, colalign=("left", *["right"] * len(columns)))
    return f"{folder.path}: {last['step']:,} steps{took}, loss {last['loss']:.4g}\n{table}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
