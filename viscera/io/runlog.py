"""What a Run leaves behind beside its weights: config.yaml, curve.jsonl, run.json; and the folders of a Study."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import Arm
from viscera.core.config import ClassNames, Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import as_recorded, resolve_config
from viscera.core.settings import Settings
from viscera.io.files import write_error, write_text
from viscera.io.records import damaged, read_json, read_yaml, write_json, write_yaml


class RunStatus(Settings):
    """`run.json`: how far a run is, what it ran on and what it cost.

    Attributes:
        state: `running` also stands there after a crash; `failed`: diverged or out of memory.
        step: steps done.
        message: why it stopped, for people.
        wall_seconds: training time over all its parts.
        device, hardware: for example `cpu` and the processor's name.
        peak_memory_mib: largest resident set (CPU) or allocation (GPU) of the training process, MiB.
        training_voxel_counts: (L,) of the training set, so that a run without its weights still says what it is of.
    """

    state: Literal["running", "finished", "failed", "interrupted"]
    step: int
    iterations: int
    message: str = ""
    wall_seconds: float = 0.0
    device: str = ""
    hardware: str = ""
    threads: int = 0
    peak_memory_mib: float = 0.0
    versions: dict[str, str] = Field(default_factory=dict)
    training_voxel_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of a Run."""

    path: Path

    @property
    def config_path(self) -> Path:
        """Resolved configuration."""
        return self.path / "config.yaml"

    @property
    def curve_path(self) -> Path:
        """One JSON object a logged step."""
        return self.path / "curve.jsonl"

    @property
    def last(self) -> Path:
        """Newest checkpoint."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Checkpoint that the validation cases picked."""
        return self.path / "best.pt"

    @property
    def training_ranges(self) -> Path:
        """What the organs of the training cases are like."""
        return self.path / "training_ranges.json"

    @property
    def predictions(self) -> Path:
        """Folder of predictions, within a Study."""
        return self.path / "predictions"

    @property
    def scores(self) -> Path:
        """Scores of those, within a Study."""
        return self.path / "scores.csv"

    def scores_at(self, step: int) -> Path:
        """Scores after fewer steps, kept when a Study is extended."""
        return self.path / f"scores_at_{step}.csv"

    @property
    def validation_predictions(self) -> Path:
        """Folder of predictions of the validation cases, within a Study that is fused."""
        return self.path / "validation_predictions"

    @property
    def validation_scores(self) -> Path:
        """Scores of those, on the scans' own grids."""
        return self.path / "validation_scores.csv"

    @property
    def fusion(self) -> Path:
        """Which model each organ comes from; in the folder of a fused predictor alone."""
        return self.path / "fusion.yaml"

    def write_status(self, status: RunStatus) -> None:
        """Write run.json."""
        write_json(self.path / "run.json", status.model_dump(mode="json"))

    def read_status(self) -> RunStatus | None:
        """Read run.json; None where there is none."""
        path = self.path / "run.json"
        if not path.exists():
            return None
        try:
            return RunStatus.model_validate(read_json(path))
        except ValidationError as error:
            raise damaged(path, error, "Train this run again.") from error

    def read_curve(self) -> list[dict[str, Any]]:
        """The logged steps in order; a half-written last line (after a crash) is left out."""
        return list(self._curve_lines())

    def keep_curve_until(self, step: int) -> None:
        """Drop the lines after `step`, before a run goes on from a checkpoint at that step.

        Raises:
            BadInputError: the file is not a curve.
        """
        if self.curve_path.exists():
            try:
                kept = [line for line in self._curve_lines() if line["step"] <= step]
            except (ValueError, TypeError, KeyError) as error:
                raise BadInputError(f"{self.curve_path}: damaged ({error}). Delete it to go on without it.") from error
            write_text(self.curve_path, "".join(json.dumps(line) + "\n" for line in kept))

    def append_curve(self, line: dict[str, Any]) -> None:
        """Append one logged step.

        Raises:
            BadInputError: the disk is full.
        """
        try:
            with self.curve_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise write_error(self.curve_path, error) from error

    def _curve_lines(self) -> Iterator[dict[str, Any]]:
        if not self.curve_path.exists():
            return
        for line in self.curve_path.read_text(encoding="utf-8").splitlines():
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                return
            yield value


class StudyRecord(Settings):
    """`study.yaml`: what a Study was run on and with.

    Attributes:
        version: of viscera.
        store: path of the store, absolute.
        dataset: description of the data, for the report ("phantom, 28 cases ...").
        config: resolved; `config.study` is the grid of arms.
        training_voxel_counts: (L,) of the store on the prepared grid: every arm trains on the same cases.
        classes: names, background first.
        unlabelled: by test case, the names of the classes that it does not label; those that label all are not there.
        stages: iterations at which every run is scored, ascending; the last is that of `config`. Empty: that alone.
    """

    version: str
    store: str
    dataset: str
    config: Config
    training_voxel_counts: tuple[int, ...] = ()
    classes: ClassNames = CLASS_NAMES
    unlabelled: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    stages: tuple[int, ...] = ()

    @property
    def all_stages(self) -> tuple[int, ...]:
        """`stages`, never empty."""
        return self.stages or (self.config.train.iterations,)


@dataclass(frozen=True)
class StudyFolder:
    """Paths and small files of a Study: `arms/ARM/seed_S/` are its Runs."""

    path: Path

    @property
    def record_path(self) -> Path:
        """Resolved configuration, and the store it was run on."""
        return self.path / "study.yaml"

    @property
    def forecast_path(self) -> Path:
        """What was expected of each arm before it was trained."""
        return self.path / "forecast.json"

    @property
    def rate_ranges(self) -> Path:
        """Folder of the learning-rate range tests, one a weighting (`study.rate_range`)."""
        return self.path / "rate_range"

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
            raise BadInputError(f"{self.path}: this is no study (it has no study.yaml). Run one with `viscera study`.")
        try:
            values = read_yaml(self.record_path)
            return StudyRecord.model_validate(values | {"config": as_recorded(values.get("config") or {})})
        except ValidationError as error:
            raise BadInputError(f"{self.record_path}: damaged ({error.error_count()} fields).") from error


def read_config(path: Path) -> Config:
    """Read a run's resolved configuration."""
    return resolve_config(file_values=as_recorded(read_yaml(path)), found_in=str(path))
