"""What TensorBoard and MLflow are given is what the curve has; what fails there stops no training."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import TINY, refused, run
from viscera.core.config import Config
from viscera.engine import trackers
from viscera.engine.trackers import numbers_of, tracked
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.train import train

TRACK = "train.track"


class Seen:
    """Remembers what it is given, and may fail."""

    given: list[tuple[int, Mapping[str, float]]]
    ended: list[bool]

    def __init__(self, _folder: RunFolder, _config: Config, _step: int) -> None:
        type(self).given, type(self).ended = [], []

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.given.append((step, numbers))

    def close(self, *, is_well: bool) -> None:
        self.ended.append(is_well)


class Failing(Seen):
    def log(self, numbers: Mapping[str, float], step: int) -> None:
        super().log(numbers, step)
        raise ConnectionError("the server is away\nand more")


def with_tracker(monkeypatch: pytest.MonkeyPatch, kind: type[Seen]) -> None:
    monkeypatch.setattr(trackers, "TRACKERS", {"tensorboard": (kind, "json"), "mlflow": (kind, "json")})


def test_numbers_of_a_line_are_named_by_their_place() -> None:
    line = {"step": 5, "loss": -0.5, "dice": {"liver": 0.25, "spleen": None}, "note": "x", "on": True}
    assert numbers_of(line | {"bad": float("nan")}) == numbers_of(line)
    assert numbers_of(line) == {"loss": -0.5, "dice/liver": 0.25}


def test_each_line_of_the_curve_is_given(
    tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tracker(monkeypatch, Seen)
    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("mlflow",)))
    curve = folder.read_curve()
    assert [step for step, _ in Seen.given] == [line["step"] for line in curve]
    assert len(curve) > 2
    assert [numbers["loss"] for _, numbers in Seen.given] == [line["loss"] for line in curve]
    assert Seen.ended == [True]


def test_a_server_that_is_away_stops_no_training(
    tiny_store: Store,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_tracker(monkeypatch, Failing)
    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("mlflow",)))
    assert len(folder.read_curve()) > 2
    assert len(Failing.given) == 1
    said = [message for message in caplog.messages if "mlflow" in message]
    assert said == [f"{folder.path}: no more is logged to mlflow (the server is away); the training continues."]


def test_one_that_cannot_begin_is_left_out(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unable(Seen):
        def __init__(self, *_: Any) -> None:
            raise OSError("no space")

    with_tracker(monkeypatch, Unable)
    with tracked(RunFolder(tmp_path), tiny_config(track=("mlflow",)), 0) as on_line:
        on_line({"step": 1, "loss": 0})


def test_a_library_that_is_not_installed_is_told_before_anything_is_made(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = refused(3, "train", tiny_store.path, tmp_path / "run", "--track", "mlflow", *TINY)
    assert "train.track mlflow: it is not installed" in said
    assert "pip install 'viscera[trackers]'" in said
    said = refused(3, "study", tiny_store.path, tmp_path / "study", "--track", "mlflow", *TINY)
    assert "pip install 'viscera[trackers]'" in said
    assert not list(tmp_path.iterdir())
    assert run("train", "s", "r", "--track", "wandb").exit_code == 2


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_shows_the_curve(tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `trackers` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("tensorboard",), iterations=4))
    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("tensorboard",), iterations=8), resume=True)
    shown = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    curve = folder.read_curve()
    assert [(each.step, each.value) for each in shown.Scalars("loss")] == [
        (line["step"], pytest.approx(line["loss"])) for line in curve
    ]
    assert "dice/liver" in shown.Tags()["scalars"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_shows_the_curve(
    tiny_store: Store, tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `trackers` is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("mlflow",), iterations=4))
    folder = train(tiny_store.path, tmp_path / "run", tiny_config(track=("mlflow",), iterations=8), resume=True)
    client = mlflow.MlflowClient(tracking_uri=(folder.path / "mlruns").as_uri())
    (shown,) = client.search_runs([client.get_experiment_by_name("viscera").experiment_id])
    assert shown.info.run_name == "run"
    assert shown.info.status == "FINISHED"
    assert shown.data.params["train.patch"] == "8"
    found = [(each.step, each.value) for each in client.get_metric_history(shown.info.run_id, "loss")]
    assert found == [(line["step"], line["loss"]) for line in folder.read_curve()]


def test_the_setting_is_of_the_machine(tiny_run: Path) -> None:
    """So a run may go on with another, and a model card says nothing of it."""
    assert Config().train.role_of("track") == "machine"
    assert "track" not in json.loads((tiny_run / "card.json").read_text())["model_details"]["other_settings"]


def test_mlflow_does_not_report_what_it_is_used_for(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its telemetry is on by default, but where it finds itself in a test or on a build server."""
    utils = pytest.importorskip("mlflow.telemetry.utils", reason="the extra `trackers` is not installed")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    monkeypatch.setattr(utils, "_IS_MLFLOW_TESTING_TELEMETRY", False)
    assert not utils.is_telemetry_disabled()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with tracked(RunFolder(tmp_path / "run"), tiny_config(track=("mlflow",)), 0):
        assert utils.is_telemetry_disabled()
