"""Temperature scaling: the one number by which a run's logits are divided so that its probabilities can be believed.

It is fitted on validation cases by their negative log-likelihood (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, section 4.2), on the grids of their scans, where it is used. It stands in `calibration.json` of
the run, beside its weights, which stay.
"""

import logging
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from viscera.core.config import PredictConfig
from viscera.core.scan import LabelArray
from viscera.core.settings import Settings, differences
from viscera.engine.trained_model import Model
from viscera.engine.trust import TrainingRanges
from viscera.imaging.probabilities import log_probabilities
from viscera.io.records import read_json, validated, write_record
from viscera.io.runlog import RunFolder
from viscera.metrics.calibration import Reliability

log = logging.getLogger(__name__)
MOST_VOXELS = 2**20  # that the temperature is fitted on
RANGE = (0.05, 20.0)  # in which it is looked for
# in settings of prediction: each checkpoint has its own temperature, and the others change no probability
_WITHOUT_PART = ("checkpoint", "batch_windows", "largest_component", "fill_holes")


class Calibration(Settings):
    """How one checkpoint of a run was calibrated, and what that was worth on the same cases."""

    sha256: str  # of the checkpoint
    temperature: float = Field(gt=0)
    nll_before: float  # mean negative log-likelihood of a voxel, nats
    nll_after: float
    ece_before: float  # expected calibration error of the most probable class, 0 to 1
    ece_after: float
    voxels: int  # of the validation cases, on the grids of their scans
    fitted_on: int  # of these, drawn at random; the four figures are of them
    cases: int  # how many; the file travels with the run, and names none of them, nor where they lie
    store_fingerprint: str
    predict: PredictConfig  # how the cases were segmented
    # as of `TrainingRanges`, with the calibrated probabilities of the same cases
    least_confidence: float
    most_entropy: dict[str, float]
    viscera: str  # version


def read_calibrations(folder: RunFolder) -> dict[str, Calibration]:
    """By checkpoint, `last` or `best`; empty where there are none. Raises BadInputError where they are damaged."""
    path = folder.calibration
    again = "Calibrate the run again, or delete the file to predict without it."
    return validated(dict[str, Calibration], read_json(path), path, again) if path.exists() else {}


def write_calibration(folder: RunFolder, checkpoint: str, calibration: Calibration) -> None:
    """Keep it, atomically, beside that of the other checkpoint."""
    kept = {**read_calibrations(folder), checkpoint: calibration}
    write_record(folder.calibration, {name: each.model_dump(mode="json") for name, each in kept.items()})


def calibrated(model: Model, folder: RunFolder, training: TrainingRanges) -> tuple[Model, TrainingRanges]:
    """A run's model with its temperature, and what calibrated predictions are held against; as they are without one."""
    found = read_calibrations(folder).get(model.config.checkpoint)
    if found is None:
        return model, training
    if found.sha256 != model.checksum:
        log.warning(
            "%s: made for an earlier state of %s.pt, and not used: its probabilities are as the network gives them. "
            "Calibrate it again with `viscera calibrate`.",
            *(folder.calibration, model.config.checkpoint),
        )
        return model, training
    _warn_of_other_settings(folder, found, model.config)
    levels = {"least_confidence": found.least_confidence, "most_entropy": found.most_entropy}
    return replace(model, temperature=found.temperature), replace(training, **levels)  # type: ignore[arg-type]


def _warn_of_other_settings(folder: RunFolder, found: Calibration, config: PredictConfig) -> None:
    """Say where the probabilities come about otherwise than those that the temperature was fitted to."""
    other = differences(found.predict, config, apart_from=_WITHOUT_PART, within="predict.")
    if other:
        log.warning(
            "%s: the temperature was fitted to predictions with other settings, %s: probabilities, confidence and "
            "entropy may be less well calibrated. Predict with those, or calibrate again with these.",
            *(folder.calibration, ", ".join(other)),
        )


class Fit(NamedTuple):
    """How well probabilities at a temperature fit the truth."""

    nll: float  # mean negative log-likelihood of a voxel, nats
    ece: float  # expected calibration error of the most probable class, 0 to 1


@dataclass
class Sample:
    """Voxels drawn from validation cases: the logarithms of their probabilities, and what they may be."""

    share: float  # of the voxels that is drawn
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    scores: list[Tensor] = field(default_factory=list)  # (N, L) each
    truths: list[Tensor] = field(default_factory=list)  # (N, L) bool each

    @classmethod
    def of(cls, voxels: int) -> "Sample":
        """To be drawn from so many, all of them where they are not more than `MOST_VOXELS`."""
        return cls(min(1.0, MOST_VOXELS / max(1, voxels)))

    def __len__(self) -> int:
        return sum(map(len, self.scores))

    def add(self, probabilities_LIJ: Tensor, truth_LIJ: Tensor) -> None:
        """Draw from a plane, and remember what is no voxel that nobody labelled."""
        drawn = torch.from_numpy(self.random.random(probabilities_LIJ.shape[1:]) < self.share) & truth_LIJ.any(dim=0)
        if drawn.any():
            self.scores.append(log_probabilities(probabilities_LIJ[:, drawn].T))
            self.truths.append(truth_LIJ[:, drawn].T)

    def temperature(self) -> float:
        """That of the least negative log-likelihood, within `RANGE`."""
        from scipy.optimize import minimize_scalar  # noqa: PLC0415 - 70 MiB and a second, and predictions need none

        bounds = np.log(RANGE)
        found = minimize_scalar(
            lambda log_temperature: self._mean_nll(float(np.exp(log_temperature))),
            bounds=(bounds[0], bounds[1]),
            method="bounded",
            options={"xatol": 1e-4},
        )
        return float(np.exp(found.x))

    def fit(self, temperature: float) -> Fit:
        """How well the voxels' probabilities fit at a temperature."""
        reliability = Reliability()
        for scores, truths in zip(self.scores, self.truths, strict=True):
            best, label = torch.softmax(scores / temperature, dim=1).max(dim=1)
            correct = truths.gather(1, label[:, None])[:, 0].numpy().astype(np.int64)
            reliability.add(best.numpy(), np.ones_like(correct), correct)
        return Fit(self._mean_nll(temperature), reliability.expected_error() or 0.0)

    def _mean_nll(self, temperature: float) -> float:
        pieces = zip(self.scores, self.truths, strict=True)
        return sum(float(nll(scores / temperature, truths).sum()) for scores, truths in pieces) / max(1, len(self))


def nll(scores: Tensor, truth: Tensor) -> Tensor:
    """Negative log-likelihood of voxels, nats: (N,) of (N, L) logits, and of which classes each may be, (N, L) bool."""
    scores = scores.double()
    return scores.logsumexp(dim=1) - scores.masked_fill(~truth, -torch.inf).logsumexp(dim=1)


def may_be(labels_IJ: LabelArray, labelled_L: npt.NDArray[np.bool_]) -> Tensor:
    """(L, I, J) bool: the class that a voxel is labelled as; background may be what the case does not label, too.

    A voxel that nobody labelled has none, and is in no sample.
    """
    classes = torch.arange(len(labelled_L), dtype=torch.uint8).view(-1, 1, 1)
    labels = torch.from_numpy(np.ascontiguousarray(labels_IJ))
    unlabelled = torch.from_numpy(~labelled_L).view(-1, 1, 1)
    return (classes == labels) | (unlabelled & (labels == 0))
