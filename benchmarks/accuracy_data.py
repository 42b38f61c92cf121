"""What all contenders of `bench_accuracy` share: the cases, what a contender is, CPU seconds, and the score.

A work folder holds one data set: `raw/Dataset901_Accuracy` (nnU-Net raw layout, training cases only), `unseen/images`
and `unseen/labels`, and `data.json`, which says where it is from.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from viscera.core.errors import BadInputError
from viscera.core.geometry import Index3
from viscera.io.nifti import read_labels
from viscera.io.records import read_json, write_json
from viscera.metrics.overlap import confusion_matrix, dice
from viscera.stages.phantom import make_phantoms

NUMBER = 901  # of the data set, as nnU-Net counts them
_ENDING = ".nii.gz"
OnStep = Callable[[], None]  # called after each step of the optimiser


@dataclass(frozen=True)
class Phantom:
    """The data set where none is given."""

    cases: int
    unseen: int  # of them
    shape: Index3
    spacing_mm: float
    seed: int = 0


PHANTOM = Phantom(cases=38, unseen=6, shape=(128, 128, 100), spacing_mm=3.0)
QUICK_PHANTOM = Phantom(cases=4, unseen=1, shape=(32, 32, 32), spacing_mm=12.0)


@dataclass(frozen=True)
class DataSet:
    """The cases of a work folder."""

    work: Path
    name: str  # of the data, in the names of results
    description: str
    classes: tuple[str, ...]  # by number, background first
    training: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def raw(self) -> Path:
        """Training cases, in nnU-Net's raw layout."""
        return self.work / "raw" / f"Dataset{NUMBER}_Accuracy"

    @property
    def scans(self) -> list[Path]:
        """Of the unseen cases."""
        return [self.work / "unseen" / "images" / f"{case}_0000{_ENDING}" for case in self.unseen]

    @property
    def references(self) -> list[Path]:
        """Of the unseen cases, in the same order."""
        return [self.work / "unseen" / "labels" / f"{case}{_ENDING}" for case in self.unseen]

    @classmethod
    def opened(cls, work: Path) -> "DataSet":
        """That of a work folder. Raises BadInputError where there is none."""
        if not (work / "data.json").exists():
            raise BadInputError(f"{work}: there is no data.json. Begin with `bench_accuracy cost`.")
        values = read_json(work / "data.json")
        lists = {key: tuple(values[key]) for key in ("classes", "training", "unseen")}
        return cls(work, values["name"], values["description"], **lists)


def piece_folder(work: Path, contender: str, seed: int, minutes: float) -> Path:
    """Of one training within one budget."""
    return work / "pieces" / contender / f"seed_{seed}" / f"{minutes:g}_minutes"


def set_up(work: Path, source: Path | None, name: str, phantom: Phantom = PHANTOM) -> DataSet:
    """The data set of a work folder: made once, phantoms or the cases of `source` (nnU-Net raw layout).

    Of a source a fifth, at most 12, are unseen, drawn by seed 0. Raises BadInputError for a source that is none.
    """
    if (work / "data.json").exists():
        return DataSet.opened(work)
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            made, shape = Path(folder), "×".join(map(str, phantom.shape))
            make_phantoms(made, phantom.cases, phantom.seed, phantom.shape, phantom.spacing_mm)
            told = f"phantoms of {shape} voxels of {phantom.spacing_mm:g} mm, seed {phantom.seed}"
            return _divided(made, work, name, told, phantom.unseen)
        table = source / "dataset.json"
        if not table.exists():
            raise BadInputError(f"{source}: there is no dataset.json. Give a data set in nnU-Net's raw layout.")
        told = str(read_json(table).get("description") or name)
        cases = len(list((source / "labelsTr").glob(f"*{_ENDING}")))
        return _divided(source, work, name, told, max(1, min(12, cases // 5)))


def _divided(source: Path, work: Path, name: str, description: str, unseen: int) -> DataSet:
    table = read_json(source / "dataset.json")
    labels = {int(number): label for label, number in table["labels"].items()}
    if sorted(labels) != list(range(len(labels))):
        raise BadInputError(f"{source / 'dataset.json'}: labels 0, 1, 2, … without gaps were expected.")
    cases = sorted(path.name.removesuffix(_ENDING) for path in (source / "labelsTr").glob(f"*{_ENDING}"))
    if len(cases) <= unseen:
        raise BadInputError(f"{source}: {len(cases)} cases found; more than {unseen} are needed.")
    held_out = {cases[index] for index in np.random.default_rng(0).permutation(len(cases))[:unseen]}
    training = tuple(case for case in cases if case not in held_out)
    data = DataSet(
        work, name, description, tuple(labels[number] for number in sorted(labels)), training, tuple(sorted(held_out))
    )
    for case in cases:
        seen = case not in held_out
        for kind, where, file in (
            ("imagesTr", data.raw / "imagesTr" if seen else work / "unseen" / "images", f"{case}_0000{_ENDING}"),
            ("labelsTr", data.raw / "labelsTr" if seen else work / "unseen" / "labels", f"{case}{_ENDING}"),
        ):
            where.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / kind / file, where / file)
    write_json(data.raw / "dataset.json", {**table, "numTraining": len(training)})
    values = {key: value for key, value in asdict(data).items() if key != "work"}
    write_json(work / "data.json", values)
    return data


# ------------------------------------------------------------------------------------------------------- contenders


@dataclass(frozen=True)
class Fast:
    """What makes a step faster and is no part of a recipe."""

    bfloat16: bool = False  # autocast
    channels_last: bool = False  # weights in that memory layout

    def __str__(self) -> str:
        return ("bfloat16 autocast" if self.bfloat16 else "float32") + (", channels last" if self.channels_last else "")


class Contender(Protocol):
    """One way from raw data to label maps of unseen cases, on one thread."""

    key: str  # of its folders and results: a letter, then letters, digits, . and -
    title: str
    costs_like: str  # what its costs are called: as itself, or as another, or by its key and a budget
    cost_title: str
    mirrors: bool  # whether it can average over mirrored scans
    prepared: Path  # folder that `prepare` makes; contenders may share one

    @property
    def fast(self) -> Sequence[Fast]:
        """What might be its fastest."""

    def settings(self) -> Mapping[str, Any]:
        """What was set, for the page."""

    def load(self) -> None:
        """Import its libraries, which is not counted."""

    def prepare(self) -> None:
        """From raw data to what a training reads, anew."""

    def prepare_again(self) -> None:
        """The same once more, on another machine, with what was decided then."""

    def train(self, steps: int, seed: int, folder: Path, fast: Fast, on_step: OnStep) -> int:
        """A model in a folder; goes on with what is there. Schedules end at the last step. The steps it has."""

    def predict(self, folder: Path, scans: Sequence[Path], out: Path, fast: Fast, *, mirrored: bool) -> None:
        """Label maps of scans, each on its own grid, as `out/CASE.nii.gz`."""


# ------------------------------------------------------------------------------------------------- time and the score


class Meter:
    """CPU seconds of this process, all its threads, since it was made."""

    def __init__(self) -> None:
        self._started = time.process_time()

    @property
    def seconds(self) -> float:
        """So far."""
        return time.process_time() - self._started


def score(data: DataSet, predictions: Path) -> dict[str, Any]:
    """Dice on the scans' own grids: by organ the mean over the unseen cases that have it, and the organs' mean."""
    rows = []
    for case, reference in zip(data.unseen, data.references, strict=True):
        pair = read_labels(predictions / f"{case}{_ENDING}").labels, read_labels(reference).labels
        rows.append(dice(confusion_matrix(*pair, len(data.classes)))[1:])
    found = np.array([[np.nan if value is None else value for value in row] for row in rows])
    organs = [float(np.nanmean(column)) if not np.isnan(column).all() else None for column in found.T]
    foreground = float(np.mean([value for value in organs if value is not None]))
    named = {name: None if v is None else round(v, 4) for name, v in zip(data.classes[1:], organs, strict=True)}
    return {"foreground": round(foreground, 4), "organs": named}


def note(path: Path, content: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file of lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
