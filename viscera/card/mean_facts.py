"""From a folder of runs, which predict as one by the mean of their probabilities, to what its model card says."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from viscera.card.card_facts import RunFacts, differing
from viscera.card.model_card import CalibrationFacts, DifferingSetting, Member, ModelDetails, WeightsFile
from viscera.core.errors import BadInputError
from viscera.core.wording import counted
from viscera.engine.ensemble import refuse_unlike, warn_without_weights
from viscera.io.manifest import Split
from viscera.io.runlog import runs_in
from viscera.io.store import Store
from viscera.io.training_data import TrainingData
from viscera.io.training_sets import joined

Value = TypeVar("Value")
_FINISHED = "finished"


@dataclasses.dataclass(frozen=True, eq=False)
class MeanFacts:
    """What the card of a mean of runs is made of."""

    details: ModelDetails  # what the runs share
    data: TrainingData  # the training sets of all runs together
    members: tuple[Member, ...]
    differing: tuple[DifferingSetting, ...]
    calibration: tuple[CalibrationFacts, ...]
    splits: Mapping[str, Split | None] | None = None  # of each case: `train` where any run was trained on it

    @classmethod
    def read(cls, folder: Path, store: Store | None = None) -> "MeanFacts":
        """Of the runs in a folder, and of the store that all were trained on, where that is given.

        Raises BadInputError as `RunFacts.read`, and for runs that cannot be one predictor.
        """
        runs = {path.name: RunFacts.read(path, store) for path in runs_in(folder)}
        warn_without_weights(folder)
        refuse_unlike({name: facts.checkpoint for name, facts in runs.items()}, folder)
        data, splits = joined([facts.data for facts in runs.values()]), None
        if store is not None:
            splits = _splits_of_all([facts.splits or {} for facts in runs.values()])
            folds = {facts.checkpoint.config.train.fold for facts in runs.values()}
            fold = next(iter(folds)) if len(folds) == 1 else "all"  # of two folds one run or the other has seen a case
            changed = {"fold": data.fold} | ({"validation_sha256": ""} if len(folds) > 1 else {})  # each has its own
            data = TrainingData.of(store.of_fold(fold), fold).model_copy(update=changed)
        return cls(
            _shared(folder, [facts.details for facts in runs.values()]),
            data,
            tuple(_member(facts) for facts in runs.values()),
            tuple(_differing(runs)),
            tuple(_renamed(name, each) for name, facts in runs.items() for each in facts.calibration),
            splits,
        )

    def refuse_no_folds(self, folder: Path) -> None:
        """Raise BadInputError where the runs are no cross-validation, of which every case was held out once."""
        folds = self.data.folds
        held_out = [member.training_data.fold for member in self.members]
        if not folds or sorted(map(str, held_out)) != sorted(map(str, range(folds))):
            said = ", ".join("none" if fold is None else str(fold) for fold in held_out)
            wanted = f"folds 0 to {folds - 1}, each once" if folds else "one run of each fold of a store"
            raise BadInputError(
                f"{folder}: scores out of fold are of {wanted}; the runs there held out: {said}. Leave --out-of-fold "
                "out if the scores are of the mean of these runs."
            )


def _member(facts: RunFacts) -> Member:
    seed, details = facts.checkpoint.config.train.seed, facts.details
    return Member(seed=seed, model_details=details, training_data=facts.data, calibration=facts.calibration)


def _renamed(run: str, facts: CalibrationFacts) -> CalibrationFacts:
    return facts.model_copy(update={"checkpoint": f"{run}/{facts.checkpoint}"})


def _differing(runs: Mapping[str, RunFacts]) -> Iterator[DifferingSetting]:
    for key, values in differing([facts.checkpoint.config for facts in runs.values()]):
        yield DifferingSetting(setting=key, here=dict(zip(runs, values, strict=True)))


def _shared(folder: Path, members: Sequence[ModelDetails]) -> ModelDetails:
    """What is the same of all, and of the rest what they come to together."""
    first = members[0]
    unfinished = [each for each in members if each.state != _FINISHED or each.step < each.iterations]
    seconds = [each.training_seconds for each in members if each.training_seconds is not None]
    settings = [
        each for each in first.other_settings if all(each in other.other_settings for other in members)
    ]  # in the same value
    return first.model_copy(
        update={
            "name": folder.resolve().name,
            "network": f"mean of the probabilities of {counted(len(members), 'network')}: {_each(members, 'network')}",
            "parameters": sum(each.parameters for each in members),
            "inputs": _each(members, "inputs"),
            "loss": _each(members, "loss"),
            "class_voxel_counts": _same([each.class_voxel_counts for each in members], ()),
            "class_weights": _same([each.class_weights for each in members], ()),
            "other_settings": tuple(settings),
            "started_from": _same([each.started_from for each in members], ""),
            "may_have_seen_held_out": any(each.may_have_seen_held_out for each in members),
            "state": unfinished[0].state if unfinished else first.state,
            "step": min(each.step for each in members),
            "iterations": max(each.iterations for each in members),
            "training_seconds": round(sum(seconds), 2) if len(seconds) == len(members) else None,
            "machine": _each(members, "machine"),
            "versions": {
                name: " or ".join(dict.fromkeys(each.versions[name] for each in members if name in each.versions))
                for name in first.versions
            },
            "weights": tuple(_weights(members)),
        }
    )


def _weights(members: Iterable[ModelDetails]) -> Iterator[WeightsFile]:
    for member in members:
        for file in member.weights:
            yield file.model_copy(update={"file": f"{member.name}/{file.file}"})


def _each(members: Sequence[ModelDetails], field: str) -> str:
    """The different texts of a field."""
    return "; or ".join(filter(None, dict.fromkeys(getattr(each, field) for each in members)))


def _same(values: Sequence[Value], otherwise: Value) -> Value:
    return values[0] if all(value == values[0] for value in values) else otherwise


def _splits_of_all(splits: Sequence[Mapping[str, Any]]) -> dict[str, Split | None]:
    """A case that any run was trained on is a training case of their mean."""

    def of_all(name: str) -> Split | None:
        found = [each.get(name) for each in splits]
        return next((split for split in ("train", "validation", "test") if split in found), None)

    return {name: of_all(name) for name in splits[0]}
