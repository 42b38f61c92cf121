"""What cannot be trained on is refused in a sentence, before any work, by everything that trains."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.doctor.diagnosis import diagnose
from viscera.engine.feed import training_cases
from viscera.io.store import Store
from viscera.planning.plan_stage import plan_training
from viscera.planning.training_plan import Wanted
from viscera.stages.prepare import prepare
from viscera.stages.train import train
from viscera.study.find_rates import find_rates
from viscera.study.launch import run_study

Configure = Callable[..., Config]
MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
Command = Callable[[Path, Path, Config], object]

COMMANDS: dict[str, Command] = {
    "train": train,
    "doctor": lambda store, _out, config: diagnose(store, config),
    "find-rate": lambda store, out, config: find_rates(store, out, config, ["uniform"]),
    "study": run_study,
}


def plan(store: Path, out: Path, config: Config) -> object:
    """`viscera plan`, which trains a few steps."""
    return plan_training(store, out, config, Wanted(iterations=10))


everything_that_trains = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


@pytest.fixture(scope="module")
def make_store(
    tmp_path_factory: pytest.TempPathFactory, make_nnunet: MakeDataSet, make_case: MakeCase
) -> Callable[[int, float], Store]:
    """A store of so many cases, of which a share is for testing."""

    def make(number: int, test_fraction: float) -> Store:
        folder = tmp_path_factory.mktemp("store")
        raw = make_nnunet(folder / "raw", {f"case_{n}": make_case(n) for n in range(number)})
        return prepare(raw, folder / "store", PrepareConfig(downsample=1, test_fraction=test_fraction))

    return make


@everything_that_trains
def test_no_training_case(
    command: Command, make_store: Callable[[int, float], Store], tmp_path: Path, tiny_config: Configure
) -> None:
    store = make_store(2, 0.99)
    assert store.names("train") == []
    with pytest.raises(BadInputError, match=r"no training case in this store\. Prepare it with a lower"):
        command(store.path, tmp_path / "out", tiny_config())
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def mostly_unlabelled(
    tmp_path_factory: pytest.TempPathFactory, make_nnunet: MakeDataSet, make_case: MakeCase
) -> tuple[Store, int]:
    """Four cases of which nobody labelled anything but of the first, and the one fold of two that has that."""
    folder = tmp_path_factory.mktemp("unlabelled")
    cases = {f"case_{n}": make_case(n) for n in range(4)}
    for name, (_, labels) in cases.items():
        labels[...] = 8 * (name != "case_0")
    names = {name: number for number, name in enumerate((*CLASS_NAMES, "ignore"))}
    raw = make_nnunet(folder / "raw", cases, names=names)
    store = prepare(raw, folder / "store", PrepareConfig(downsample=1, test_fraction=0, folds=2))
    fold = store.manifest.cases["case_0"].fold
    assert fold is not None
    return store, fold


@pytest.mark.parametrize("command", ["train", "doctor", "find-rate", "plan"])
def test_nothing_is_labelled_in_any_training_case(
    command: str,
    mostly_unlabelled: tuple[Store, int],
    tmp_path: Path,
    tiny_config: Configure,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, fold = mostly_unlabelled
    with pytest.raises(BadInputError) as refused:
        ({**COMMANDS, "plan": plan})[command](store.path, tmp_path / "out", tiny_config(fold=fold))
    assert str(refused.value) == (
        f"{store.path}: nobody labelled anything in its 2 training cases when fold {fold} is held out "
        "(every voxel is `ignore`). Hold out another fold, or add cases that are labelled."
    )
    assert not caplog.messages  # no note for each class beside it
    assert training_cases(store.of_fold(1 - fold))


def test_nothing_labelled_is_left_in_the_only_training_case(tiny_store: Store) -> None:
    """One case, whose labels were lost to what nobody labelled; or of which nothing was labelled at all."""
    (first, record), *_ = tiny_store.manifest.cases.items()
    nothing = (0,) * len(tiny_store.classes)
    lost = record.model_copy(update={"split": "train", "voxel_counts_prepared": nothing, "ignored_prepared": 9})
    for case, said in (
        (lost, "no labelled voxel is left of its only training case at the store's voxel size: "),
        (lost.model_copy(update={"voxel_counts_original": nothing}), "nobody labelled anything in its only training c"),
    ):
        store = Store(tiny_store.path, tiny_store.manifest.model_copy(update={"cases": {first: case}}))
        with pytest.raises(BadInputError) as refused:
            training_cases(store)
        assert str(refused.value).startswith(f"{store.path}: {said}")
        assert "fold" not in str(refused.value)


def test_one_case_lowers_the_batch_of_doctor_to_one_value(
    make_store: Callable[[int, float], Store], tiny_config: Configure
) -> None:
    config = tiny_config(patch=8, levels=4, batch_size=3)
    with pytest.raises(BadInputError, match="batch normalisation needs two"):
        diagnose(make_store(2, 0.5).path, config)


@pytest.mark.parametrize("command", [COMMANDS["doctor"], COMMANDS["study"]], ids=["doctor", "study"])
def test_settings_that_a_variant_of_one_arm_makes_untrainable(
    command: Command, tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    good = tiny_config()
    variants = {"": {}, "tiny": {"train.patch": 2, "train.batch_size": 1}}
    bad = good.model_copy(update={"study": good.study.model_copy(update={"variants": variants})})
    with pytest.raises(BadInputError, match=r"tiny.*batch normalisation needs two"):
        command(tiny_store.path, tmp_path / "out", bad)
    assert not (tmp_path / "out").exists()


def test_a_window_larger_than_the_scans_is_warned_of(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    smallest = min(min(tiny_store.image(name).shape) for name in tiny_store.names("train"))
    for patch, warned in ((smallest, False), (smallest + 1, True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            train(tiny_store.path, tmp_path / str(patch), tiny_config(iterations=1, patch=patch))
        assert any("smaller than the patch" in message for message in caplog.messages) == warned
