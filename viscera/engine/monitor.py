"""What is watched in a training: its losses, Dice on fixed windows and on validation cases, what goes wrong."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from viscera.core.anatomy import IGNORED, ClassTable
from viscera.core.arms import weighting_name
from viscera.core.config import PredictConfig, TrainConfig
from viscera.core.scan import HuArray, LabelArray
from viscera.engine.distributed import ALONE, Ranks
from viscera.engine.feed import Batch, Feed
from viscera.engine.hardware import autocast
from viscera.engine.sliding_window import predict_probabilities
from viscera.engine.trust import ConfidenceTally, HeldOut
from viscera.imaging.most_probable import most_probable
from viscera.imaging.windows import network_input
from viscera.io.runlog import RunFolder
from viscera.io.watched_cases import WatchedCases
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import LoggedStep, Outcome, batch_norm_remedy, flags, statistics_gap, summary
from viscera.metrics.overlap import as_labelled, confusion_matrix, dice

log = logging.getLogger(__name__)
DiceByOrgan = dict[str, float | None]
_MONITOR_SEED = 2**31  # the windows are the same for every seed of training, and none of its own


@dataclass(frozen=True)
class Monitor:
    """Measures a network."""

    windows: Sequence[Batch]  # of fixed training windows; their HU lie on the device, their labels do not
    validation: Sequence[tuple[HuArray, LabelArray]]  # of each case, on the prepared grid
    train: TrainConfig
    predict: PredictConfig
    device: torch.device
    classes: ClassTable
    labelled: npt.NDArray[np.bool_] | None = None  # (validation cases, L) the classes that each labels; None: all
    ranks: Ranks = ALONE  # that share windows and validation cases; all of them get the same figures
    watched: WatchedCases | None = None  # of the cases on this node, this rank's part
    held_out: list[HeldOut] = field(default_factory=list)  # organs of validation cases, when last measured

    @classmethod
    def create(
        cls,
        feed: Feed,
        validation: Sequence[tuple[HuArray, LabelArray]],
        train: TrainConfig,
        predict: PredictConfig,
        device: torch.device,
        labelled: npt.NDArray[np.bool_] | None = None,
    ) -> "Monitor":
        """With the first `train.monitor_windows` windows of a feed of its own seed."""
        fixed = replace(feed, seed=_MONITOR_SEED, augment=None, organ_windows=None)
        batches = [fixed.batch(step) for step in range(-(-train.monitor_windows // feed.batch_size))]
        on_device = [batch._replace(hu=batch.hu.to(device)) for batch in batches]
        return cls(on_device, validation, train, predict, device, feed.classes, labelled, feed.ranks)

    def refuse_changed_cases(self) -> None:
        """Raise BadInputError, on all ranks, where another process has changed a case on any node."""
        if self.watched is not None:
            with self.ranks.together():
                self.watched.refuse_changed()

    def batch_statistics_dice(self, network: nn.Module, *, keep: bool) -> DiceByOrgan:
        """As `training_dice`, every batch of windows normalised by its own statistics, as in training.

        Empty where the network has no batch normalisation: it is applied as it is trained.

        The same pass gives the means of these statistics, which the network keeps where that is wanted: with few steps
        or a high rate running means lag behind (docs/decisions/0003).
        """
        if not self.train.network.normalises_batches:
            return {}
        found: list[npt.NDArray[np.uint8]] = []
        before = {name: value.clone() for name, value in network.named_buffers()}
        hook = network.register_forward_hook(lambda _network, _inputs, logits: found.append(_most_probable(logits)))
        with hook, autocast(self.device, self.train.precision):
            update_bn((self._input(batch) for batch in self.windows), network)
        if not keep:
            for name, value in network.named_buffers():
                value.copy_(before[name])
        return _dice(self._outcomes(found))

    def training_dice(self, network: nn.Module) -> DiceByOrgan:
        """Dice per class over the voxels of all fixed windows together, of an organ over those that label it."""
        return _dice(self.training_outcomes(network))

    @torch.no_grad()
    def training_outcomes(self, network: nn.Module) -> dict[str, Outcome]:
        """What has become of each class, over the same voxels: its Dice, and how it fails."""
        network.eval()
        with autocast(self.device, self.train.precision):
            found = [_most_probable(network(self._input(batch))) for batch in self.windows]
        network.train()
        return self._outcomes(found)

    def _outcomes(self, found: Sequence[npt.NDArray[np.uint8]]) -> dict[str, Outcome]:
        confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        for labels, batch in zip(found, self.windows, strict=True):
            known = labels
            if batch.labelled is not None:
                known = np.stack([as_labelled(*window) for window in zip(labels, batch.labelled.numpy(), strict=True)])
            confusion += confusion_matrix(known, batch.labels.numpy(), len(self.classes))
        return Confusion.of_matrix(self.ranks.counted(confusion), self.classes).outcomes

    def _input(self, batch: Batch) -> Tensor:
        return network_input(batch.hu, self.train.intensity)

    def validation_dice(self, network: nn.Module) -> DiceByOrgan | None:
        """Mean Dice per class over the validation cases where it is defined; None without such cases."""
        if not self.validation:
            return None
        network.eval()
        own = self.ranks.own(len(self.validation))
        of_own = [self._of_case(network, number) for number in range(own.start, own.stop)]
        found = [each for of_rank in self.ranks.gathered(of_own) for each in of_rank]
        network.train()
        self.held_out[:] = [pair for _, pairs in found for pair in pairs]
        columns = zip(*(scores for scores, _ in found), strict=True)
        by_class = ([value for value in column if value is not None] for column in columns)
        means = [float(np.mean(values)) if values else None for values in by_class]
        return dict(zip(self.classes.names, means, strict=True))

    def _of_case(self, network: nn.Module, number: int) -> tuple[list[float | None], list[HeldOut]]:
        """Dice per class of a validation case, and what became of its organs."""
        hu, labels = self.validation[number]
        probabilities = predict_probabilities(network, hu, self.train, self.predict, self.device)
        prediction = most_probable(probabilities).label.numpy()
        if self.labelled is not None:
            prediction = as_labelled(prediction, self.labelled[number])
        scores = dice(confusion_matrix(prediction, np.asarray(labels), len(self.classes)))
        confidence = ConfidenceTally(len(self.classes))
        confidence.add(probabilities, np.asarray(labels) != IGNORED)
        return scores, confidence.held_out(self.classes.names[1:], scores)


def _dice(outcomes: Mapping[str, Outcome]) -> DiceByOrgan:
    return {organ: outcome.dice for organ, outcome in outcomes.items()}


def _most_probable(logits_BLIJK: Tensor) -> npt.NDArray[np.uint8]:
    return logits_BLIJK.max(dim=1).indices.to(torch.uint8).cpu().numpy()


def foreground_mean(values: DiceByOrgan) -> float:
    """Mean over the organs where it is defined, background left out; 0 where none is."""
    defined = [value for organ, value in values.items() if organ != "background" and value is not None]
    return float(np.mean(defined)) if defined else 0.0


@dataclass
class LossWatch:
    """Losses that are known, and those that still lie on the device."""

    step: int  # of the newest loss
    newest: float = math.nan  # that was read, no unit; NaN before the first
    _unread: list[Tensor] = field(default_factory=list)

    def add(self, loss: float | Tensor) -> None:
        """The loss of the next step: a number, or a scalar tensor that is left where it is until `read`."""
        self.step += 1
        self._unread.append(torch.as_tensor(loss, dtype=torch.float64) if isinstance(loss, float) else loss)

    def read(self) -> tuple[int, float] | None:
        """Read what is unread, in one transfer; the first loss that is not finite, after its step."""
        if not self._unread:
            return None
        values: list[float] = torch.stack(self._unread).tolist()
        first = self.step - len(values) + 1
        self._unread.clear()
        self.newest = values[-1]
        return next((each for each in enumerate(values, start=first) if not math.isfinite(each[1])), None)


class StepResult(NamedTuple):
    """One training step."""

    loss: float | Tensor  # no unit; a scalar tensor on the device where reading it is put off (`LossWatch`)
    soft_dice: Tensor  # (L,) of the batch
    gradient_norms: Tensor | None  # (L,) at the logits, see `engine.diagnostics`; None where not asked for
    parameter_norm: Tensor | None = None  # of the gradient over all parameters; None where nothing is clipped


def is_logged(train: TrainConfig, step: int) -> bool:
    """Whether a step has a line in the curve."""
    return is_validated(train, step) or step % train.logged_every == 0


def is_validated(train: TrainConfig, step: int) -> bool:
    """Whether the validation cases are measured after a step."""
    return step == train.iterations or step % train.validate_every == 0


def warn_of_batch_norm(folder: RunFolder, train: TrainConfig, line: Mapping[str, Any]) -> None:
    """One warning, in the second half, where the kept statistics of batch normalisation hide what was learnt."""
    gap, half = statistics_gap(LoggedStep.from_line(line)), train.iterations / 2
    if gap is None or line["step"] < half:
        return
    earlier = (LoggedStep.from_line(each) for each in folder.read_curve() if half <= each["step"] < line["step"])
    if not any(map(statistics_gap, earlier)):
        log.warning("%s: %s. %s", _where(train, line["step"]), gap, batch_norm_remedy(train.batch_norm))


def warn_half_way(folder: RunFolder, train: TrainConfig, step: int, classes: ClassTable) -> None:
    """At the first logged step of the second half, one warning that names the organs that are lost or starving."""
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
