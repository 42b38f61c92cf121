"""From the files of a run to what its model card says of it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import viscera
from viscera.card.card_statements import CITATION
from viscera.card.model_card import CalibrationFacts, ModelDetails, OtherSetting, WeightsFile
from viscera.core.arms import weighting_name
from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.geometry import size_text
from viscera.core.settings import fields_of
from viscera.io.checkpoint import Checkpoint, load_with_checksum
from viscera.io.files import sha256
from viscera.io.manifest import Split
from viscera.io.records import read_json, validated
from viscera.io.runlog import RunFolder, refuse_export
from viscera.io.started_from import StartedFrom
from viscera.io.store import Store
from viscera.io.training_data import TrainingData, was_trained_on

_DECIDED = {
    "train.precision",
    "train.intensity.mean_hu",
    "train.intensity.sd_hu",
    "prepare.folds",
}  # by machine or data

Written = Mapping[str, Checkpoint]  # by file; without the values of their weights


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
    """What the card of a run is made of."""

    details: ModelDetails
    data: TrainingData
    calibration: tuple[CalibrationFacts, ...]
    checkpoint: Checkpoint  # the last
    splits: Mapping[str, Split | None] | None = None  # of each case, as this training saw them; None: not known

    @classmethod
    def read(cls, run: Path, store: Store | None = None, written: Written | None = None) -> "RunFacts":
        """Of a single run, and of the store that it was trained on, where that is given.

        Checkpoints that this process has `written` are not read again, but for their checksums.

        Raises BadInputError for no run, several models of which each organ has its own, a damaged file, or a store of
        other training cases.
        """
        folder = RunFolder(run)
        if folder.fusion.exists():
            raise BadInputError(
                f"{run}: several models as one, each organ from its own (`viscera study --fuse`). Give the run of one "
                "of them: each has a card of its own."
            )
        refuse_export(folder)
        checkpoint, checksum = _checkpoint(folder.last, written)
        fold = checkpoint.config.train.fold
        data = TrainingData.read(folder.training_data) or TrainingData(
            classes=checkpoint.classes.names,
            cases={"train": len(checkpoint.training_spacings_mm)},
            fold=fold,
        )
        splits = None
        if store is not None:
            store = store.of_fold(fold)
            _refuse_other_store(folder, store, checkpoint)
            data = TrainingData.of(store, fold)
            splits = {name: record.split for name, record in store.manifest.cases.items()}
        best = _checkpoint(folder.best, written) if folder.best.exists() else None
        details = _details(folder, checkpoint, checksum, best)
        return cls(details, data, tuple(_calibrations(folder.calibration, details)), checkpoint, splits)


def _checkpoint(path: Path, written: Written | None) -> tuple[Checkpoint, str]:
    if written and path.name in written:
        return written[path.name], sha256(path)
    return load_with_checksum(path)


def _refuse_other_store(folder: RunFolder, store: Store, checkpoint: Checkpoint) -> None:
    if store.classes != checkpoint.classes or not was_trained_on(folder, checkpoint, store):
        raise BadInputError(
            f"{store.path}: {folder.path} was trained on other cases than those that this store has for training now. "
            "Give the store that it was trained on, as it was, or leave --store out."
        )


def _calibrations(path: Path, details: ModelDetails) -> Iterator[CalibrationFacts]:
    """Of these weights, by checkpoint."""
    value = read_json(path) if path.exists() else {}
    for name, found in value.items() if isinstance(value, dict) else ():
        if isinstance(found, dict) and any(found.get("sha256") == each.sha256 for each in details.weights):
            known = {key: found.get(key) for key in CalibrationFacts.model_fields.keys() - {"checkpoint"}}
            yield validated(CalibrationFacts, known | {"checkpoint": name}, path, "Calibrate the run again.")


def _details(
    folder: RunFolder, checkpoint: Checkpoint, checksum: str, best: tuple[Checkpoint, str] | None
) -> ModelDetails:
    status, config, before = folder.read_status(), checkpoint.config, StartedFrom.read(folder)
    weights = [WeightsFile(file=folder.last.name, sha256=checksum, step=checkpoint.step)]
    if best is not None:
        weights.append(WeightsFile(file=folder.best.name, sha256=best[1], step=best[0].step))
    machine = ""
    if status is not None and status.hardware:
        threads = (
            f", {status.threads} {'thread' if status.threads == 1 else 'threads'}" if status.device == "cpu" else ""
        )
        machine = f"{status.hardware} ({status.device}{threads})"
    return ModelDetails(
        name=folder.path.resolve().name,
        viscera=viscera.__version__,
        date="",
        network=_network(config),
        parameters=sum(
            tensor.numel()
            for name, tensor in checkpoint.applied.items()
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ),
        inputs=_inputs(config),
        outputs=checkpoint.classes.names,
        loss=_loss(config),
        class_voxel_counts=tuple(checkpoint.class_voxel_counts.tolist()),
        class_weights=tuple(float(f"{weight:.6g}") for weight in checkpoint.class_weights.tolist()),
        other_settings=tuple(other_settings(config)),
        started_from=f"{Path(before.run).name}, step {before.step}, SHA-256 {before.sha256}" if before else "",
        may_have_seen_held_out=before is not None and not before.held_out_unseen,
        state=status.state if status else "unknown",
        step=checkpoint.step,
        iterations=config.train.iterations,
        training_seconds=status.wall_seconds if status else None,
        machine=machine,
        versions=status.versions if status else {},
        weights=tuple(weights),
        citation=CITATION,
    )


def other_settings(config: Config) -> Iterator[OtherSetting]:
    """Those that decide what is computed and are not as the preset `paper` has them, prediction's included."""
    for key, (before, here) in differing([Config(), config]):
        yield OtherSetting(setting=key, paper=before, here=here)


def differing(configs: Sequence[Config]) -> Iterator[tuple[str, list[Any]]]:
    """Settings that decide what is computed and are not the same in all: dotted key, and the value of each."""
    schedules = [config.train.rate_schedule for config in configs]
    plain_schedule = all(each.shape == "constant" and each.warm_up == 0 for each in schedules)
    for key, _, role in fields_of(Config):
        if role == "machine" or key in _DECIDED or not key.startswith(("prepare.", "train.", "predict.")):
            continue
        if key == "train.rate_schedule.steps" and plain_schedule:  # written into every run
            continue
        values = [_plain(attrgetter(key)(config)) for config in configs]
        if any(value != values[0] for value in values):
            yield key, values


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any setting
    return list(value) if isinstance(value, tuple) else value


def _network(config: Config) -> str:
    train, network = config.train, config.train.network
    design = f"{train.levels} levels, {train.filters} filters, {network.normalisation} normalisation"
    parts = [
        f"3D U-Net ({'residual encoder, ' if network.encoder == 'residual' else ''}{design})",
        f"trained on patches of {train.patch}³ voxels, {train.batch_size} per step",
        f"{train.optimiser.name} at a rate of {train.learning_rate:g} ({train.rate_schedule.shape})",
        train.precision,
    ]
    return ", ".join(parts)


def _inputs(config: Config) -> str:
    prepare, intensity = config.prepare, config.train.intensity
    if prepare.spacing_mm is not None:
        spacing = prepare.spacing_mm
        each = spacing if isinstance(spacing, tuple) else (spacing,) * 3
        grid = f"resampled to voxels of {size_text(each)} mm"
    else:
        factors = prepare.downsample if isinstance(prepare.downsample, tuple) else (prepare.downsample,) * 3
        grid = "on its own grid" if set(factors) == {1} else f"made {size_text(factors)} times coarser along R, A, S"
    scale = "0 to 1" if intensity.scaling == "unit" else "z-scores"
    return f"CT in HU, {grid}; {intensity.low_hu:g} to {intensity.high_hu:g} HU become {scale}"


def _loss(config: Config) -> str:
    train = config.train
    weighting = weighting_name(train.weighting)
    loss = f"soft Dice of all classes, weights: {weighting} (Eq. 2 to 6 of the paper)"
    if train.loss.schedule.to is not None:
        loss += f", which become {weighting_name(train.loss.schedule.to)}"
    if train.loss.cross_entropy:
        own = weighting_name(train.loss.cross_entropy_weighting)
        loss += f"; and {train.loss.cross_entropy:g} times the cross-entropy, weights: {own}"
    return loss
