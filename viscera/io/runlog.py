"""What a Run leaves behind beside its weights: config.yaml, curve.jsonl, run.json; and the folders of a Study."""

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import Arm, arms_of
from viscera.core.config import ClassNames, Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import as_recorded, resolve_config
from viscera.core.settings import Settings
from viscera.core.shape_hints import given_path
from viscera.core.wording import counted
from viscera.io.files import append, fsync, reading, write_text, writing
from viscera.io.format_versions import refuse_newer
from viscera.io.records import read_json, read_yaml, validated, write_record, write_yaml
from viscera.io.seals import KEY, DamagedFileError, Seal, line_seal, sealed_line

_STUDY_VERSION = 1  # of `study.yaml`; version 0.1 wrote none


class _Inside:
    """A path in a folder: `folder.last` is `folder.path / "last.pt"`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder | StudyFolder", owner: type) -> Path:
        return folder.path / self.name


RunState = Literal["running", "finished", "failed", "interrupted"]  # running: or crashed; failed: diverged, no memory


class RunStatus(Settings):
    """`run.json`: how far a run is, what it ran on and what it cost."""

    state: RunState
    step: int  # steps done
    iterations: int
    message: str = ""  # why it stopped, for people
    wall_seconds: float = 0.0  # training time over all its parts
    device: str = ""
    hardware: str = ""  # the processor's name
    threads: int = 0
    peak_memory_mib: float = 0.0  # largest resident set (CPU) or allocation (GPU) of the training process
    versions: dict[str, str] = Field(default_factory=dict)
    training_voxel_counts: tuple[int, ...] = ()  # (L,), so that a run without its weights still says what it is of


@dataclass(frozen=True, init=False)
class RunFolder:
    """Paths and small files of a Run."""

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", given_path(path, "the folder"))

    config_path = _Inside("config.yaml")  # resolved configuration
    curve_path = _Inside("curve.jsonl")  # one JSON object a logged step
    last = _Inside("last.pt")  # newest checkpoint
    best = _Inside("best.pt")  # checkpoint that the validation cases picked
    exported = _Inside("model.safetensors")  # in place of both, in an export (`io.hub_folder`)
    export_config = _Inside("config.json")  # beside that, what else a checkpoint says
    export_record = _Inside("export.json")  # of any export: which files belong to it
    training_ranges = _Inside("training_ranges.json")  # what the organs of the training cases are like
    training_data = _Inside("training_data.json")  # which data it was trained on: counts and sizes, no names
    calibration = _Inside("calibration.json")  # the temperature of its probabilities, where it was calibrated
    probe = _Inside("probe.json")  # where each class's voxels went, and why, by `viscera doctor`
    status_path = _Inside("run.json")  # how far it is
    started_from = _Inside("started_from.json")  # what was taken of another run, and of which, by name and checksum
    source_path = _Inside(".started_from")  # where that lies, as long as this run has no weights of its own
    started_by = _Inside(".started_by")  # which calls of torchrun, one a node, began it; they may start it again
    # within a Study:
    predictions = _Inside("predictions")
    scores = _Inside("scores.csv")
    confusion = _Inside("confusion.csv")  # which class the voxels of each class are called, of the same cases
    validation_predictions = _Inside("validation_predictions")  # where the study is fused
    validation_scores = _Inside("validation_scores.csv")  # of those, on the scans' own grids
    fusion = _Inside("fusion.yaml")  # which model each organ comes from; in the folder of a fused predictor alone

    def __repr__(self) -> str:
        with contextlib.suppress(BadInputError, OSError):
            if status := self.read_status():
                return f"RunFolder({self.path}, {status.state}, step {status.step} of {status.iterations})"
        return f"RunFolder({self.path})"

    @property
    def has_begun(self) -> bool:
        """Whether a training began here, maybe elsewhere, or knows the run whose weights it begins with."""
        return any(path.exists() for path in (self.last, self.status_path, self.started_from))

    @property
    def is_export(self) -> bool:
        """Whether the weights of another run were written here, for a hub of models."""
        return self.exported.exists() and not self.last.exists()

    @property
    def weights(self) -> Path:
        """The newest, those of an export too."""
        return self.exported if self.is_export else self.last

    def scores_at(self, step: int) -> Path:
        """Scores after fewer steps, kept when a Study is extended."""
        return self.path / f"scores_at_{step}.csv"

    def write_status(self, status: RunStatus) -> None:
        """Write run.json."""
        write_record(self.status_path, status.model_dump(mode="json"))

    def read_status(self) -> RunStatus | None:
        """Read run.json; None where there is none."""
        if not self.status_path.exists():
            return None
        return validated(RunStatus, read_json(self.status_path), self.status_path, "Train this run again.")

    def unfinished(self, step: int) -> str:
        """How far its training is, whose checkpoint is of that step, for a sentence; empty: it is finished."""
        status = self.read_status()
        if status is None or status.state == "finished":
            return ""
        state = "running, or was killed" if status.state == "running" else status.state
        return f"{state}, at step {step} of {status.iterations}"

    def read_curve(self) -> list[dict[str, Any]]:
        """The logged steps in order; a half-written last line (after a crash) is left out.

        Raises BadInputError where another line is not as it was written.
        """
        if not self.curve_path.exists():
            return []
        with reading(self.curve_path):
            *whole, cut = self.curve_path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        values: list[dict[str, Any]] = []
        for number, line in enumerate(whole, start=1):
            value = None if line_seal(line) is Seal.BROKEN else _value(line)
            if value is None:
                raise DamagedFileError(
                    f"{self.curve_path}: damaged, line {number} is not as viscera wrote it. Delete that line, or the "
                    "whole file: the checkpoints do not need it."
                )
            values.append(value)
        last = _value(cut)
        return values if last is None or line_seal(cut) is Seal.BROKEN else [*values, last]

    def keep_curve_until(self, step: int) -> None:
        """Drop the lines after `step`, before a run goes on from there; raises BadInputError where it is no curve."""
        if self.curve_path.exists():
            try:
                kept = [line for line in self.read_curve() if line["step"] <= step]
            except DamagedFileError:
                raise
            except (ValueError, TypeError, KeyError) as error:
                raise BadInputError(
                    f"{self.curve_path}: damaged ({error}). Delete it to continue without it."
                ) from error
            write_text(self.curve_path, "".join(sealed_line(line) + "\n" for line in kept))

    def append_curve(self, line: dict[str, Any]) -> None:
        """Append one logged step, and have it on the disk: no checkpoint is of a step that the curve has not seen.

        Raises BadInputError where the disk is full.
        """
        with writing(self.curve_path):
            append(self.curve_path, (sealed_line(line) + "\n").encode())
            fsync(self.curve_path)


def _finite(text: str) -> float:
    """A number that JSON has; others it could not be written as again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


class _Line(BaseModel):
    """A logged step: numbers, or a number of each class, but for the class that its voxels are mostly called."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | dict[str, float | None] | None]

    step: int
    mostly_called: dict[str, str | None] = {}


def _value(line: str) -> dict[str, Any] | None:
    """A line of a curve without its checksum; None where it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(line, parse_float=_finite, parse_constant=_finite)
        if isinstance(value, dict):
            value.pop(KEY, None)
            _Line.model_validate(value)
            return value
    return None


def runs_in(folder: Path) -> list[Path]:
    """The runs that a folder holds, by name: an arm's seeds, the folds of a training; none where it is a run itself."""
    own = RunFolder(folder)
    if any(path.exists() for path in (own.last, own.fusion, own.exported)) or not folder.is_dir():
        return []
    names = ("last.pt", "fusion.yaml", "model.safetensors")
    found = {path.parent for name in names for path in folder.glob(f"*/{name}")}
    return sorted(path for path in found if not path.name.startswith("."))


def refuse_export(folder: RunFolder) -> None:
    """Raise BadInputError for exported weights where the run itself is needed."""
    if folder.is_export:
        raise BadInputError(
            f"{folder.path}: these are the exported weights of a run. Give the run that they were made from."
        )


def without_weights(folder: Path) -> list[Path]:
    """Runs beside those of `runs_in` that have no weights yet: begun, and killed before their first checkpoint."""
    runs = runs_in(folder)
    begun = {path.parent for path in folder.glob("*/config.yaml")} if runs else set()
    return sorted(path for path in begun - set(runs) if not path.name.startswith("."))


def first_settings(path: Path) -> dict[str, Any]:
    """What a run was made with, or the first of a folder of runs; empty where that does not say so."""
    run = RunFolder(next(iter(runs_in(path)), path))
    return read_yaml(run.config_path, ours=True) if run.config_path.exists() else {}


class StudyRecord(Settings):
    """`study.yaml`: what a Study was run on and with."""

    format_version: int = _STUDY_VERSION
    version: str  # of viscera
    store: str  # its absolute path, or its URL
    dataset: str  # description of the data, for the report ("phantom, 28 cases ...")
    config: Config  # resolved; `config.study` is the grid of arms
    training_voxel_counts: tuple[int, ...] = ()  # (L,) on the prepared grid: every arm trains on the same cases
    training_sha256: str = ""  # of the files of the training cases; empty in studies of before
    classes: ClassNames = CLASS_NAMES  # background first
    unlabelled: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # classes that a test case does not label
    stages: tuple[int, ...] = ()  # iterations at which every run is scored, ascending; empty: those of `config`

    @property
    def all_stages(self) -> tuple[int, ...]:
        """`stages`, never empty."""
        return self.stages or (self.config.train.iterations,)


@dataclass(frozen=True, init=False)
class StudyFolder:
    """Paths and small files of a Study: `arms/ARM/seed_S/` are its Runs."""

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", given_path(path, "the folder"))

    record_path = _Inside("study.yaml")  # resolved configuration, and the store it was run on
    plan_path = _Inside("plan.json")  # what was to be run and how analysed, written before the first run
    forecast_path = _Inside("forecast.json")  # what was expected of each arm before it was trained
    rate_ranges = _Inside("rate_range")  # folder of the learning-rate range tests, one a weighting

    def __repr__(self) -> str:
        with contextlib.suppress(BadInputError, OSError):
            if self.record_path.exists():
                grid = self.read_record().config.study
                runs = f"{counted(len(arms_of(grid)), 'arm')} × {counted(len(grid.seeds), 'seed')}"
                return f"StudyFolder({self.path}, {runs})"
        return f"StudyFolder({self.path})"

    def settings_so_far(self) -> dict[str, Any]:
        """What the study was made with so far, for settings that are not given again; empty for a new one."""
        return self.read_record().config.model_dump(mode="json") if self.record_path.exists() else {}

    def run(self, arm: Arm, seed: int) -> RunFolder:
        """The Run of one arm and seed."""
        return RunFolder(self.path / "arms" / arm.name / f"seed_{seed}")

    @property
    def fused(self) -> RunFolder:
        """The best model per organ, as one predictor."""
        return RunFolder(self.path / "fused")

    def write_record(self, record: StudyRecord) -> None:
        """Write study.yaml."""
        write_yaml(self.record_path, record.model_dump(mode="json"))

    def read_record(self) -> StudyRecord:
        """Read study.yaml; raises BadInputError where the folder is no Study."""
        if not self.record_path.exists():
            raise BadInputError(
                f"{self.path}: this is not a study (it has no study.yaml). Run one with `viscera study`."
            )
        values = read_yaml(self.record_path, ours=True)
        refuse_newer(self.record_path, values.get("format_version"), _STUDY_VERSION)
        config = values.get("config") or {}
        values |= {"config": as_recorded(config) if isinstance(config, dict) else config}
        return validated(StudyRecord, values, self.record_path, "Restore it, or run the study in a new folder.")


def read_config(path: Path) -> Config:
    """Read a run's resolved configuration."""
    return resolve_config(file_values=as_recorded(read_yaml(path, ours=True)), found_in=str(path))
