"""Other programs that show a training while it runs: TensorBoard and MLflow, as observers of the curve's lines.

They are given what `curve.jsonl` is given, after it. What goes wrong there is said once, and the training goes on.
"""

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from viscera.core.config import Config
from viscera.core.errors import BadInputError, first_line
from viscera.io.files import write_text
from viscera.io.runlog import RunFolder

log = logging.getLogger(__name__)
OnLine = Callable[[Mapping[str, Any]], None]  # told of each line of the curve
_LONGEST_PARAMETER = 500  # that all of MLflow's stores take
_EXPERIMENT = "viscera"


def unheard(_line: Mapping[str, Any]) -> None:
    """Where nobody else is told."""


class Tracker(Protocol):
    """What shows a training."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Take the numbers of one line of the curve."""
        ...

    def close(self, *, is_well: bool) -> None:
        """The training has ended."""
        ...


class TensorBoard:
    """Event files in the run's folder `tensorboard`."""

    def __init__(self, folder: RunFolder, _config: Config, step: int) -> None:
        """From a step on: what was logged of later ones, before a crash, is not shown."""
        writer = _library("tensorboard").SummaryWriter
        self._writer = writer(str(folder.path / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """As scalars."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, is_well: bool) -> None:  # noqa: ARG002 - it has no place for that
        """Write what is left."""
        self._writer.close()


class MLflow:
    """A run of the experiment `viscera` where MLFLOW_TRACKING_URI says; else in the run's folder `mlruns`."""

    def __init__(self, folder: RunFolder, config: Config, _step: int) -> None:
        """The same run of MLflow's where the training is resumed."""
        mlflow = _library("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:
            uri = (folder.path / "mlruns").absolute().as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # without which MLflow 3 refuses files
        self._client, self._metric = mlflow.MlflowClient(tracking_uri=uri), mlflow.entities.Metric
        kept = folder.path / "mlflow_run"
        self._run = kept.read_text(encoding="utf-8").strip() if kept.exists() else ""
        if self._run:
            self._client.update_run(self._run, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(_EXPERIMENT)
        self._run = self._client.create_run(number, run_name=_name_of(folder.path)).info.run_id
        write_text(kept, f"{self._run}\n")
        for key, value in _settings(config.train.model_dump(mode="json"), "train"):
            self._client.log_param(self._run, key, value[:_LONGEST_PARAMETER])

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """As metrics."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [self._metric(name, value, now, step) for name, value in numbers.items()])

    def close(self, *, is_well: bool) -> None:
        """Say how it ended."""
        self._client.set_terminated(self._run, "FINISHED" if is_well else "KILLED")


TRACKERS: Mapping[str, tuple[type[TensorBoard | MLflow], str]] = {
    "tensorboard": (TensorBoard, "torch.utils.tensorboard"),
    "mlflow": (MLflow, "mlflow"),
}


def _library(name: str) -> ModuleType:
    """A tracker's library, told before it is loaded not to report what it is used for, as MLflow would."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return importlib.import_module(TRACKERS[name][1])


def refuse_missing_trackers(names: Sequence[str]) -> None:
    """Raise BadInputError where a library is not installed: before a training begins."""
    for name in names:
        try:
            _library(name)
        except ImportError as error:
            raise BadInputError(
                f"train.track {name}: it is not installed ({first_line(error)}). Install it: pip install "
                "'viscera[trackers]', or leave it out."
            ) from error


@contextmanager
def tracked(folder: RunFolder, config: Config, step: int, *, here: bool = True) -> Iterator[OnLine]:
    """What takes the lines of the curve of a training that goes on from a step; none where not `here`."""
    trackers: dict[str, Tracker] = {}

    def tried(name: str, what: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever that is
        try:
            return what()
        except Exception as error:  # noqa: BLE001 - a server that is away, a full disk: the training matters more
            trackers.pop(name, None)
            log.warning(
                "%s: no more is logged to %s (%s); the training continues.", folder.path, name, first_line(error)
            )

    def on_line(line: Mapping[str, Any]) -> None:
        for name, tracker in list(trackers.items()):
            tried(name, lambda tracker=tracker: tracker.log(numbers_of(line), int(line["step"])))  # type: ignore[misc]

    for name in config.train.track if here else ():
        made = tried(name, lambda name=name: TRACKERS[name][0](folder, config, step))  # type: ignore[misc]
        if made is not None:
            trackers[name] = made
    is_well = False
    try:
        yield on_line
        is_well = True
    finally:
        for tracker in trackers.values():
            with suppress(Exception):
                tracker.close(is_well=is_well)


def numbers_of(line: Mapping[str, Any], within: str = "") -> dict[str, float]:
    """The numbers of a line of the curve, by names such as `dice/liver`; without what is undefined."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{within}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{within}{key}"] = float(value)
    found.pop("step", None)
    return found


def _settings(values: Mapping[str, Any], within: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{within}.{key}")
        else:
            yield f"{within}.{key}", str(value)


def _name_of(run: Path) -> str:
    """`run`; of a study's `simple_lr0.01/seed_0`."""
    parts = run.absolute().parts
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-3] == "arms" else parts[-1]
