"""A command beside another of its kind is refused by name, before it has changed anything; and clocks say nothing."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from torture.stand import digests
from torture.two_at_once import backwards
from viscera.core.config import Config, EvaluateConfig, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.export.export_stage import export
from viscera.io.disk.folder_lock import alone_in, alone_with, exclusive
from viscera.io.store import Store
from viscera.planning.plan_stage import Wanted, plan_training
from viscera.stages.calibrate import calibrate
from viscera.stages.evaluate import evaluate
from viscera.stages.phantom import make_phantoms
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study.find_rates import find_rates
from viscera.study.launch import run_study

Configure = Callable[..., Config]


class Place:
    """A folder, and what commands take from elsewhere."""

    def __init__(self, folder: Path, raw: Path, store: Store, run: Path, config: Config) -> None:
        self.folder, self.raw, self.store, self.run, self.config = folder, raw, store, run, config
        self.scan = raw / "imagesTr" / "case_0_0000.nii.gz"


@pytest.fixture
def place(tmp_path: Path, tiny_raw: Path, tiny_store: Store, tiny_run: Path, tiny_config: Configure) -> Place:
    return Place(tmp_path, tiny_raw, tiny_store, tiny_run, tiny_config())


COMMANDS: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], Callable[[Place], object]]] = {
    "phantom": (lambda at: alone_with(at / "a"), lambda it: make_phantoms(it.folder / "a", 1, shape=(8, 8, 8))),
    "prepare": (lambda at: exclusive(at / "a"), lambda it: prepare(it.raw, it.folder / "a", PrepareConfig())),
    "train": (lambda at: exclusive(at / "a"), lambda it: train(it.store.path, it.folder / "a", it.config)),
    "predict": (lambda at: alone_in(at / "a", "predict"), lambda it: predict(it.run, it.scan, it.folder / "a")),
    "predict beside a part of a job": (
        lambda at: alone_in(at / "a", "predict", beside_others=True),
        lambda it: predict(it.run, it.scan, it.folder / "a"),
    ),
    "predict a file": (
        lambda at: alone_with(at / "a.nii.gz"),
        lambda it: predict(it.run, it.scan, it.folder / "a.nii.gz"),
    ),
    "evaluate": (
        lambda at: alone_in(at, "evaluation"),
        lambda it: evaluate(it.raw / "labelsTr", it.raw, it.folder / "a.csv", EvaluateConfig(metrics=("dice",))),
    ),
    "study": (lambda at: exclusive(at / "a"), lambda it: run_study(it.store.path, it.folder / "a", it.config)),
    "export": (lambda at: alone_with(at / "a"), lambda it: export(it.run, it.folder / "a", ["slicer"])),
    "find-rate": (
        lambda at: alone_with(at / "a"),
        lambda it: find_rates(it.store.path, it.folder / "a", it.config, ["simple"]),
    ),
    "plan": (
        lambda at: alone_with(at / "a.yaml"),
        lambda it: plan_training(it.store.path, it.folder / "a.yaml", it.config, Wanted(None, 5, None)),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_beside_another_of_its_kind_a_command_is_refused_by_name(place: Place, name: str) -> None:
    hold, command = COMMANDS[name]
    with hold(place.folder):
        with pytest.raises(BadInputError, match=rf"{place.folder}.*: another process is working on it"):
            command(place)
        assert digests(place.folder) == {}


def test_beside_a_training_nothing_is_calibrated(place: Place) -> None:
    with exclusive(place.run), pytest.raises(BadInputError, match="another process is working on it"):
        calibrate(place.run, place.store.path)


def test_while_the_clock_goes_backwards_one_waits_as_long_as_it_should(tmp_path: Path) -> None:
    began = time.monotonic()
    with backwards(), alone_with(tmp_path / "a"):
        assert time.time() > time.time()
        with pytest.raises(BadInputError, match="another process"), alone_with(tmp_path / "a", wait_s=0.1):
            pass
    assert 0.1 <= time.monotonic() - began < 5


def test_of_an_export_whose_run_is_trained_on_nothing_is_written(
    place: Place, tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its forms read the weights one after another, and would be of different steps."""
    run = train(place.store.path, tmp_path / "run", tiny_config()).path

    def meanwhile(*_: object) -> None:
        train(place.store.path, run, tiny_config(iterations=7), resume=True)

    monkeypatch.setattr("viscera.export.slicer_form.write_json", meanwhile)
    with pytest.raises(BadInputError, match="a training has replaced its weights meanwhile"):
        export(run, tmp_path / "a", ["slicer"])
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.glob(".*"))
