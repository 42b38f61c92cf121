"""From a scan to a label map on its own grid, by one model, or by several as one.

A `Predictor` is made of models and, where they are several, of the rule that fuses their probabilities.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from viscera.core.anatomy import ClassTable
from viscera.core.config import PredictConfig
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import HuArray, LabelArray, LabelMap, Volume
from viscera.core.shape_hints import given_path, refuse_other_than
from viscera.core.unused_settings import unseen_mirrors
from viscera.engine.ensemble import mean_of, warn_without_weights
from viscera.engine.fusion import FusionRecord, FusionRule
from viscera.engine.hardware import LEAST_MEMORY, out_of_memory_explained
from viscera.engine.temperature import calibrated
from viscera.engine.trained_model import Model
from viscera.engine.trust import ConfidenceTally, TrainingRanges, load_ranges
from viscera.imaging.cleanup import cleaned
from viscera.imaging.most_probable import OnPlane
from viscera.imaging.resample import GridChange, coarsen_volume, stacked
from viscera.io.runlog import RunFolder, runs_in

log = logging.getLogger(__name__)


class Segmentation(NamedTuple):
    """A label map, and what the models say of it.

    `confidence` is the mean probability of each organ where its model finds it most probable, (L,); None of background,
    and of organs that are nowhere. `entropy`, likewise, is how undecided its model is there, from 0 to 1.
    """

    label_map: LabelMap  # on the scan's own grid and in its voxel order; or on the canonical one of a prepared scan
    confidence: tuple[float | None, ...]
    entropy: tuple[float | None, ...]
    unlike: frozenset[str] = frozenset()  # organs whose model saw scans more than 1.5 times coarser or finer


@dataclass(frozen=True, eq=False)
class View:
    """A scan as the models see it: on the grid of each."""

    geometry: Geometry  # of the scan
    changes: tuple[GridChange, ...]  # of each model, from the scan's canonical grid
    scans: tuple[HuArray, ...]  # of each model
    own_bytes: int  # that these take, and the scan itself does not


@dataclass(frozen=True, eq=False)
class Predictor:
    """One or several trained models that answer on the scan's own grid: `predictor(volume)`."""

    models: dict[str, Model]  # by name; one alone is called `last` or `best`
    combination: FusionRule | None  # of several models; None of one alone
    config: PredictConfig  # how to predict
    training: TrainingRanges  # what the predicted organs are held against, each as its own model saw them
    checksum: str  # SHA-256 of the checkpoint; or of what decides in `fusion.yaml`, with the checksums of its models
    members: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of a mean, by run: step and checksum

    @classmethod
    def load(
        cls,
        run: str | Path | RunFolder,
        config: PredictConfig | None = None,
        device: str = "auto",
        *,
        folded: bool = True,
    ) -> "Predictor":
        """From a folder alone: a Run, what `viscera export --to safetensors` made of one, or several models as one.

        The latter as `viscera study --fuse` makes them.

        Args:
            run: the folder, or a `viscera.Run`; or a folder that holds runs, such as an arm with its seeds or the folds
                of a training, whose probabilities are averaged.
            config: how to predict; by default as the Run's own configuration says. Of several models it replaces the
                settings of each, but for `checkpoint`.
            device: to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, …
            folded: as it predicts fastest; else the networks are as they were trained.

        Raises:
            BadTypeError: a `run` that is no path, a `config` that is no `PredictConfig`.
            BadInputError: no run, no such checkpoint in it, or a damaged one; a model of several that is not the one
                that was chosen; runs of other classes or another grid than each other; no such device.
        """
        folder = given_path(run.path if isinstance(run, RunFolder) else run, "the run")
        if config is not None and not isinstance(config, PredictConfig):
            raise BadTypeError(
                f"config: {type(config).__name__}, and a PredictConfig was expected, as "
                "viscera.PredictConfig(overlap=0.25)."
            )
        predictor, models = cls._loaded(folder, config, device, folded=folded)
        if config is not None:  # what the run's own settings mean was said as it was trained
            strange = {text for each in models if (text := unseen_mirrors(each.trained_with.train, config))}
            for text in sorted(strange, key=len)[-1:]:
                log.warning("%s: %s", folder, text)
        if not predictor.training.organs:
            log.warning(
                "%s: it does not know what the organs of its training cases were like (training_ranges.json, which a "
                "training writes with its last checkpoint), so no organ is flagged as doubtful, whatever it is like.",
                folder,
            )
        return predictor

    @classmethod
    def _loaded(
        cls, run: Path, config: PredictConfig | None, device: str, *, folded: bool
    ) -> "tuple[Predictor, Collection[Model]]":
        """The predictor, and all models that have a part in it."""
        folder = RunFolder(run)
        if folder.path.is_file():
            raise BadInputError(f"{run}: this is a file. Give the folder of the run: {folder.path.absolute().parent}.")
        if not folder.path.is_dir():
            missing = FileNotFoundError(run)
            raise BadInputError(f"{run}: there is no such run. Make one with `viscera train`.") from missing
        training = load_ranges(folder.training_ranges) or TrainingRanges({})
        load = partial(Model.load, device=device, folded=folded)
        runs = runs_in(folder.path)
        if runs:
            each = {path.name: cls._loaded(path, config, device, folded=folded) for path in runs}
            models = [model for _, own in each.values() for model in own]
            return cls._mean(folder.path, {name: predictor for name, (predictor, _) in each.items()}), models
        if folder.fusion.exists():
            record = FusionRecord.read(folder)
            names, rule = record.rule()
            fused = {name: load(record.model_path(folder, name), config) for name in names}
            how = config or fused[names[0]].config
            return cls(fused, rule, how, training, record.checksum), fused.values()
        last, best = folder.weights, folder.weights if folder.is_export else folder.best
        model = load(best if config and config.checkpoint == "best" else last, config)
        if config is None and model.config.checkpoint == "best" and best != last:
            model = load(best, None)
        model, training = calibrated(model, folder, training)
        if unfinished := folder.unfinished(model.checkpoint.step):
            log.warning("%s: this run is %s; it predicts with the weights that it has.", run, unfinished)
        return cls({model.config.checkpoint: model}, None, model.config, training, model.checksum), [model]

    @classmethod
    def _mean(cls, folder: Path, each: dict[str, "Predictor"]) -> "Predictor":
        """Several runs, whose probabilities are averaged."""
        fused = [name for name, predictor in each.items() if predictor.combination is not None or predictor.members]
        if fused:
            raise BadInputError(f"{folder / fused[0]}: several models as one already. Give a folder of single runs.")
        models = {name: one for name, predictor in each.items() for one in predictor.models.values()}
        _warn_of_mean(folder, models)
        model = mean_of(models, folder)
        training = TrainingRanges.joined([predictor.training for predictor in each.values()])
        members = {name: _provenance(one) for name, one in models.items()}
        return cls({"mean": model}, None, model.config, training, model.checksum, members)

    def __repr__(self) -> str:
        several = f"{len(self.members) or len(self.models)} models"
        how = f"mean of {several}, " if self.members else f"{several}, each organ by one, " if self.combination else ""
        return f"Predictor({how}{self._each[0].text})"

    @property
    def classes(self) -> ClassTable:
        """What the labels stand for."""
        return self._each[0].checkpoint.classes

    @property
    def provenance(self) -> dict[str, Any]:
        """What a prediction records of its predictor; of several models the step is None where they differ."""
        models = self.members or {name: _provenance(model) for name, model in self.models.items()}
        steps = {each["step"] for each in models.values()}
        settings = self.config.model_dump(mode="json")
        if not self.config.mirror_axes:  # as it was recorded before there were mirrors
            del settings["mirror_axes"]
        return {
            "run_sha256": self.checksum,
            "step": steps.pop() if len(steps) == 1 else None,
            "settings": settings,
            "classes": list(self.classes.names),
            "temperature": _provenance(self._each[0]).get("temperature"),
            **({"models": models} if self.combination is not None or self.members else {}),
        }

    def __call__(self, volume: Volume) -> LabelMap:
        """Segment a scan, (I, J, K) int16 HU of any orientation: uint8 labels on its grid and in its voxel order.

        Raises BadTypeError for anything but a `Volume`, and RunFailedError where memory runs out.
        """
        return self.segment(volume).label_map

    def segment(self, volume: Volume) -> Segmentation:
        """As calling it, with what the models say of it."""
        return self.segment_view(self.view(volume))

    def view(self, volume: Volume) -> View:
        """The scan on the models' grids, which is all that they need of it."""
        refuse_other_than(Volume, volume, "the scan")
        canonical = volume.canonical()
        changes = tuple(model.change_for(canonical.geometry) for model in self._each)
        coarse = {each.factors: coarsen_volume(canonical, each).hu for each in {c.factors: c for c in changes}.values()}
        for factors, hu in coarse.items():
            if min(hu.strides) < 0:  # a view of a scan whose axes run the other way, which PyTorch does not take
                coarse[factors] = np.array(hu, order="K")
        own_bytes = sum(hu.nbytes for hu in coarse.values() if not np.may_share_memory(hu, volume.hu))
        return View(volume.geometry, changes, tuple(coarse[change.factors] for change in changes), own_bytes)

    def segment_view(self, view: View, on_plane: OnPlane | None = None) -> Segmentation:
        """Segment a scan that is on the models' grids already.

        `on_plane` is told of each plane of the scan's canonical grid; not where a rule fuses several models.
        """
        order = AxisOrder.to_canonical(view.geometry)
        labels, confidence, entropies = self._combined(view.scans, view.changes, on_plane)
        label_map = LabelMap(np.asfortranarray(order.undo(labels)), view.geometry, self.classes)
        canonical = order.apply_to_geometry(view.geometry)
        unlike = [model.is_unlike(canonical) for model in self._each]
        organs = zip(self.classes.organs, self._owners, strict=True)
        unlike_organs = frozenset(organ.name for organ, owner in organs if unlike[owner])
        return Segmentation(label_map, confidence, entropies, unlike_organs)

    def segment_prepared(self, hu: HuArray, change: GridChange, on_plane: OnPlane | None = None) -> Segmentation:
        """Segment a scan on the networks' grid, (I, J, K) int16 on `change.coarse`; the labels are on `change.fine`."""
        number = len(self.models)
        labels, confidence, entropies = self._combined([hu] * number, [change] * number, on_plane)
        return Segmentation(LabelMap(labels, change.fine, self.classes), confidence, entropies)

    def is_unlike(self, geometry: Geometry) -> bool:
        """Whether a scan is more than 1.5 times finer or coarser than those that any of the models was trained on."""
        return any(model.is_unlike(geometry) for model in self._each)

    @property
    def _each(self) -> tuple[Model, ...]:
        return tuple(self.models.values())

    @property
    def _owners(self) -> tuple[int, ...]:
        return self.combination.owners if self.combination is not None else (0,) * (len(self.classes) - 1)

    def _combined(
        self, scans: Sequence[HuArray], changes: Sequence[GridChange], on_plane: OnPlane | None
    ) -> tuple[LabelArray, tuple[float | None, ...], tuple[float | None, ...]]:
        """From the scan as each model sees it to labels on the fine grid, which all share, confidence and entropy."""
        tallies = [ConfidenceTally(len(self.classes)) for _ in changes]
        views = list(zip(self._each, scans, changes, tallies, strict=True))
        with out_of_memory_explained(LEAST_MEMORY):
            if self.combination is None:
                (model, hu, change, tally), *_ = views
                labels = model.labels(hu, change, tally, on_plane)
            else:
                parts = [model.probabilities(hu, change, tally) for model, hu, change, tally in views]
                labels = stacked(map(self.combination, zip(*parts, strict=True)), changes[0].fine.shape, np.uint8)
            labels = cleaned(labels, self.config.cleanup, self.classes)
        own = [(tally.means(), tally.mean_entropies()) for tally in tallies]
        owners = list(enumerate(self._owners, start=1))
        confidence, entropies = ((None, *(own[owner][which][label] for label, owner in owners)) for which in (0, 1))
        return labels, confidence, entropies


def _provenance(model: Model) -> dict[str, Any]:
    temperature = {} if model.temperature == 1 else {"temperature": model.temperature}
    return {"step": model.checkpoint.step, "sha256": model.checksum, **temperature}


def _warn_of_mean(folder: Path, models: Mapping[str, Model]) -> None:
    """Say which runs have no part in a mean, and where only some are calibrated."""
    warn_without_weights(folder)
    calibrated_runs = [name for name, model in models.items() if model.temperature != 1]
    if 0 < len(calibrated_runs) < len(models):
        log.warning(
            "%s: of its %d runs these alone are calibrated: %s. The mean of their probabilities is of calibrated and "
            "uncalibrated ones. Calibrate all of them, each with its own validation cases.",
            *(folder, len(models), ", ".join(calibrated_runs)),
        )
