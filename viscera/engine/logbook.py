"""What a training reads and writes down: its losses, the lines of curve.jsonl, warnings of what goes wrong."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from viscera.core.anatomy import ClassTable
from viscera.core.arms import weighting_name
from viscera.core.config import Config, TrainConfig
from viscera.engine.diagnostics import full_diagnosis, full_steps, shares
from viscera.engine.feed import Batch, NetworkInput
from viscera.engine.hardware import autocast
from viscera.engine.monitor import DiceByOrgan, Monitor
from viscera.io.runlog import RunFolder
from viscera.losses.dice import WeightedDiceLoss
from viscera.metrics.learning import (
    DICE_BATCH_STATISTICS,
    LoggedStep,
    batch_norm_remedy,
    flags,
    statistics_gap,
    summary,
)

log = logging.getLogger(__name__)


class NotFinite(NamedTuple):
    """The first loss that is no number: `value` at `step`."""

    step: int
    value: float


@dataclass
class LossWatch:
    """Losses that are known, and those that still lie on the device.

    Attributes:
        step: of the newest loss.
        newest: the newest loss that was read, no unit; NaN before the first.
    """

    step: int
    newest: float = math.nan
    _unread: list[Tensor] = field(default_factory=list)

    def add(self, loss: float | Tensor) -> None:
        """The loss of the next step: a number, or a scalar tensor that is left where it is until `read`."""
        self.step += 1
        self._unread.append(torch.as_tensor(loss, dtype=torch.float64) if isinstance(loss, float) else loss)

    def read(self) -> NotFinite | None:
        """Read what is unread, in one transfer; says which was the first that is not finite."""
        if not self._unread:
            return None
        values: list[float] = torch.stack(self._unread).tolist()
        first = self.step - len(values) + 1
        self._unread.clear()
        self.newest = values[-1]
        bad = ((number, value) for number, value in enumerate(values, start=first) if not math.isfinite(value))
        return next((NotFinite(*each) for each in bad), None)


class StepResult(NamedTuple):
    """One training step.

    Attributes:
        loss: Eq. 6, no unit; a scalar tensor on the device where reading it is put off (`LossWatch`).
        soft_dice: (L,) of the batch.
        gradient_norms: (L,) at the logits, see `engine.diagnostics`; None where not asked for.
    """

    loss: float | Tensor
    soft_dice: Tensor
    gradient_norms: Tensor | None


class InTraining(Protocol):
    """The part of a `Trainer` that is written about."""

    config: Config
    device: torch.device
    optimizer: torch.optim.Adam
    loss: WeightedDiceLoss
    step: int
    seconds: float

    @property
    def classes(self) -> ClassTable:
        """What is learnt."""
        ...

    @property
    def network(self) -> nn.Module:
        """In training mode."""
        ...

    def network_input(self, batch: Batch) -> NetworkInput:
        """Of a batch, with its labels."""
        ...


def is_logged(train: TrainConfig, step: int) -> bool:
    """Whether a step has a line in the curve."""
    return step == train.iterations or step % train.logged_every == 0 or step % train.validate_every == 0


def curve_line(
    trainer: InTraining, monitor: Monitor, batch: Batch, result: StepResult, batch_statistics: DiceByOrgan
) -> dict[str, Any]:
    """One object of curve.jsonl.

    `step`, `loss` (Eq. 6), `soft_dice` (of the batch), `dice` (hard, on the fixed windows, by the network as it would
    be applied), `dice_batch_statistics` (the same by the statistics of each batch), `learning_rate`, `seconds`; at
    validation steps `validation_dice`; with `train.diagnose` the sum of the classes' gradient norms at the logits,
    `gradient_norm`, and `gradient_share` of each; at a few steps what `full_diagnosis` finds.
    """
    train, names = trainer.config.train, trainer.classes.names
    line: dict[str, Any] = {
        "step": trainer.step,
        "loss": float(result.loss),
        "soft_dice": dict(zip(names, result.soft_dice.tolist(), strict=True)),
        "dice": monitor.training_dice(trainer.network),
        DICE_BATCH_STATISTICS: batch_statistics,
        "learning_rate": train.learning_rate,
        "seconds": round(trainer.seconds, 3),
    }
    if result.gradient_norms is not None:
        line["gradient_norm"] = float(result.gradient_norms.sum())
        line["gradient_share"] = shares(result.gradient_norms, names)
    if train.diagnose and trainer.step in full_steps(train, len(names)):
        inputs = trainer.network_input(batch)
        with autocast(trainer.device, train.precision):
            line |= full_diagnosis(trainer.network, trainer.optimizer, trainer.loss, inputs, names)
    if trainer.step % train.validate_every == 0 or trainer.step == train.iterations:
        validation_dice = monitor.validation_dice(trainer.network)
        if validation_dice is not None:
            line["validation_dice"] = validation_dice
    return line


def warn_of_batch_norm(folder: RunFolder, train: TrainConfig, line: Mapping[str, Any]) -> None:
    """One warning, in the second half, where the kept statistics of batch normalisation hide what was learnt."""
    gap, half = statistics_gap(LoggedStep.from_line(line)), train.iterations / 2
    if gap is None or line["step"] < half:
        return
    earlier = (LoggedStep.from_line(each) for each in folder.read_curve() if half <= each["step"] < line["step"])
    if not any(map(statistics_gap, earlier)):
        log.warning("%s: %s. %s", _where(train, line["step"]), gap, batch_norm_remedy(train.batch_norm))


def warn_half_way(folder: RunFolder, train: TrainConfig, step: int, classes: ClassTable) -> None:
    """At the first logged step of the second half, one warning that names the organs that are dead or starving."""
    half = math.ceil(train.iterations / 2)
    if step < half or any(is_logged(train, earlier) for earlier in range(half, step)):
        return
    curve = [LoggedStep.from_line(line) for line in folder.read_curve()]
    found = [flag for flag in flags(curve, classes) if flag.organ != "background"]
    if found:
        log.warning("%s: %s. `viscera doctor %s` says more.", _where(train, step), summary(found), folder.path)


def _where(train: TrainConfig, step: int) -> str:
    name = weighting_name(train.weighting)
    return f"{name}, rate {train.learning_rate:g}, seed {train.seed}, at step {step} of {train.iterations}"
