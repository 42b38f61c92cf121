"""Steps that are recorded and replayed do what plain steps do, to the last bit; here a replay calls the function.

As those of a CUDA graph, its results lie where those of the first replay lay: whoever reads one late is found.
"""

import dataclasses
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from viscera.core.config import AugmentConfig, Config
from viscera.core.progress import unseen
from viscera.engine import captured_step
from viscera.engine.feed import Feed, NetworkInput, TrainingFacts
from viscera.engine.forward_pass import Forward
from viscera.engine.monitor import Monitor
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.losses.balance import WeightSchedule

Configure = Callable[..., Config]
Step = Callable[[], Forward]
CPU = torch.device("cpu")
START, END = np.linspace(0.5, 2, 8), np.linspace(2, 0.5, 8)
STEPS, SHAPE = 9, (9, 10, 8)
PARTIAL = np.ones((4, 8), dtype=np.bool_)
PARTIAL[1, 3] = False
FACTS = TrainingFacts(torch.arange(1, 9), WeightSchedule(START, START), ((1.0, 1.0, 1.0),) * 4)


def feed(augment: AugmentConfig | None = None, labelled: Any = None, batch_size: int = 2) -> Feed:
    random = np.random.default_rng(0)
    cases = [
        (random.integers(-500, 500, SHAPE).astype(np.int16), random.integers(0, 8, SHAPE).astype(np.uint8))
        for _ in range(4)
    ]
    return Feed(cases, 8, batch_size, 0, augment, labelled=labelled)


def in_place(function: Step) -> Step:
    first: list[Forward] = []

    def replay() -> Forward:
        result = function()
        if not first:
            first.append(result)
        for place, value in zip(first[0], result, strict=True):
            place.copy_(value)
        return first[0]

    return replay


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What was recorded, one after another."""
    made: list[Step] = []

    def recorded(function: Step, _device: torch.device) -> Step:
        made.append(function)
        return in_place(function)

    monkeypatch.setattr(captured_step, "recorded", recorded)
    return made


def trained(folder: Path, config: Config, feed: Feed, *, resumed: bool = False, until: int = STEPS) -> RunFolder:
    folder.mkdir(exist_ok=resumed)
    run = RunFolder(folder)
    changing = dataclasses.replace(FACTS, class_weights=WeightSchedule(START, END, 2, 6))
    trainer = Trainer.create(config, changing if config.train.loss.schedule.to else FACTS, CPU)
    if resumed:
        trainer.restore(load_checkpoint(run.last))
    monitor = Monitor.create(feed, [], config.train, config.predict, CPU)
    stop = Event()

    def report(progress: Any) -> None:
        if progress.done == until < STEPS:
            stop.set()

    if until < STEPS:
        with pytest.raises(Exception, match="stopped at step"):
            trainer.run(feed, monitor, run, stop, report)
    else:
        trainer.run(feed, monitor, run, stop, unseen)
    return run


def everything(run: RunFolder) -> tuple[list[Any], dict[str, Any]]:
    """The curve without its seconds, and all tensors of the checkpoint."""
    checkpoint: Checkpoint = load_checkpoint(run.last)
    tensors = {f"model {name}": value for name, value in checkpoint.model.items()}
    tensors |= {f"average {name}": value for name, value in checkpoint.average.items()}
    for number, state in checkpoint.optimizer["state"].items():
        tensors |= {f"{number} {name}": value for name, value in state.items()}
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in checkpoint.optimizer["param_groups"]
    ]
    return [{**line, "seconds": 0} for line in run.read_curve()] + groups, tensors


def assert_same(ours: RunFolder, expected: RunFolder) -> None:
    (curve, tensors), (expected_curve, expected_tensors) = everything(ours), everything(expected)
    assert curve == expected_curve
    assert tensors.keys() == expected_tensors.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected_tensors[name])] == []


VARIANTS: dict[str, dict[str, Any]] = {
    "keras": {},
    "pytorch": {"adam": {"epsilon_place": "pytorch"}},
    "schedule": {"loss": {"schedule": {"to": "uniform"}}},
    "sub_volume": {"loss": {"sums": "sub_volume"}, "batch_norm": "running"},
    "bfloat16": {"precision": "bfloat16"},
    "average": {"average": 0.9},
    "entropy": {"loss": {"cross_entropy": 0.5}},
    "rate": {"rate_schedule": {"shape": "polynomial", "warm_up": 2}},
    "deep supervision": {"levels": 3, "network": {"deep_supervision": True}},
    "dropout and no batch statistics": {"network": {"dropout": 0.5, "normalisation": "instance"}},
}


def configured(tiny_config: Configure, capture: str, **more: Any) -> Config:
    how = {"log_every": 4, "checkpoint_every": 6, "validate_every": 20, "monitor_windows": 2, "diagnose": True}
    return tiny_config(iterations=STEPS, capture=capture, **how, **more)


@pytest.fixture(scope="module")
def plainly(tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of plain steps alone; to read only."""
    return trained(tmp_path_factory.mktemp("plain") / "run", configured(tiny_config, "never"), feed())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_is_the_same_to_the_bit(
    variant: str, tmp_path: Path, tiny_config: Configure, recordings: list[Step]
) -> None:
    """Weights, moments, epsilon, counts of steps, losses, shares of the gradient: all that a run writes."""
    more = VARIANTS[variant]
    plain = trained(tmp_path / "plain", configured(tiny_config, "never", **more), feed())
    assert not recordings
    ours = trained(tmp_path / "ours", configured(tiny_config, "always", **more), feed())
    assert len(recordings) == 1
    assert_same(ours, plain)


@pytest.mark.parametrize("settings", [{"name": "sgd"}, {"name": "adamw"}, {"clip_norm": 1.0}, {"weight_decay": 0.1}])
def test_steps_of_other_optimisers_are_plain(
    settings: dict[str, Any], tiny_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(tiny_config, "always", optimiser=settings)
    assert Trainer.create(config, FACTS, CPU).captured is None
    assert "Steps of Adam alone" in caplog.text


@pytest.mark.parametrize("labelled", [None, PARTIAL])
def test_augmented_and_partly_labelled_windows_are_given_to_a_replay(
    labelled: Any, tmp_path: Path, tiny_config: Configure, recordings: list[Step]
) -> None:
    """A batch that labels everything is one that labels each class; the first that does not is recorded anew."""
    windows = feed(AugmentConfig(enabled=True, rotation_probability=1), labelled)
    given = {windows.batch(step).labelled is None for step in range(2, STEPS + 1)}
    assert given == ({True} if labelled is None else {True, False})
    plain = trained(tmp_path / "plain", configured(tiny_config, "never"), windows)
    ours = trained(tmp_path / "ours", configured(tiny_config, "always"), windows)
    assert_same(ours, plain)
    assert len(recordings) == (1 if labelled is None else 2)


@pytest.mark.parametrize(("first", "then"), [("always", "never"), ("never", "always"), ("always", "always")])
def test_a_run_that_was_stopped_goes_on_either_way(
    first: str, then: str, plainly: RunFolder, tmp_path: Path, tiny_config: Configure, recordings: list[Step]
) -> None:
    trained(tmp_path / "ours", configured(tiny_config, first), feed(), until=5)
    ours = trained(tmp_path / "ours", configured(tiny_config, then), feed(), resumed=True)
    assert_same(ours, plainly)
    assert len(recordings) == (first, then).count("always")


def test_what_a_recording_reads_and_writes_stays_where_it_is(
    tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch, recordings: list[Step]
) -> None:
    """Though steps are logged, statistics recomputed and checkpoints written between."""
    places: list[dict[str, int]] = []
    original = Trainer.training_step

    def noted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        tensors = {**self.network.state_dict(keep_vars=True), "class weights": self.loss.class_weights}
        for number, state in enumerate(self.optimizer.state.values()):
            tensors |= {f"{number} {name}": value for name, value in state.items()}
        places.append({name: value.data_ptr() for name, value in tensors.items()})
        return result

    monkeypatch.setattr(Trainer, "training_step", noted)
    trained(tmp_path / "r", configured(tiny_config, "always", **VARIANTS["schedule"]), feed())
    assert len(places) == STEPS
    assert all(each == places[0] for each in places)
    assert recordings


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that asks for a value, or brings one from the host: what no CUDA graph can hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        self.number += 1
        if name.split(".")[1] in {
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "lift_fresh",
            "equal",
            "is_nonzero",
        }:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("labelled", [None, PARTIAL])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_recorded_asks_the_device_for_nothing(
    variant: str, labelled: Any, tiny_config: Configure, recordings: list[Step]
) -> None:
    trainer, windows = Trainer.create(configured(tiny_config, "always", **VARIANTS[variant]), FACTS, CPU), feed()
    for step in (1, 2):
        flags = None if labelled is None else torch.from_numpy(labelled[:2])
        trainer.training_step(windows.batch(step)._replace(labelled=flags))
    with Watched() as watched:
        recordings[0]()
    assert watched.number > 100
    assert watched.found == []


def failing(_function: Step, _device: torch.device) -> Step:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")


def twice(function: Step, _device: torch.device) -> Step:
    def replay() -> Forward:
        function()
        return function()

    return replay


def of_another_batch(function: Step, _device: torch.device) -> Step:
    def replay() -> Forward:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        (buffers,) = (each for each in held if isinstance(each, NetworkInput))
        buffers.x.zero_()
        return function()

    return replay


@pytest.mark.parametrize(
    "wrong",
    [(failing, "CUDA error: operation"), (twice, "otherwise than the plain"), (of_another_batch, "otherwise than")],
    ids=["failing", "twice", "of another batch"],
)
def test_where_recording_fails_or_does_something_else_one_warning_says_so_and_steps_are_plain(
    wrong: tuple[Any, str],
    plainly: RunFolder,
    tmp_path: Path,
    tiny_config: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder, said = wrong
    caplog.clear()
    monkeypatch.setattr(captured_step, "recorded", recorder)
    ours = trained(tmp_path / "ours", configured(tiny_config, "always"), feed())
    assert_same(ours, plainly)
    warnings = [record.message for record in caplog.records if "could not be recorded" in record.message]
    assert len(warnings) == 1
    assert said in warnings[0]
    assert "\n" not in warnings[0]


def test_a_replay_that_does_nothing_is_found(
    tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def recorder(function: Step, _device: torch.device) -> Step:
        del function
        zeros = Forward(torch.zeros(()), torch.zeros(8), torch.zeros(2, 8, 8, 8, 8))
        return lambda: zeros

    monkeypatch.setattr(captured_step, "recorded", recorder)
    trained(tmp_path / "ours", configured(tiny_config, "always"), feed())
    assert "changes loss by" in caplog.text


def test_a_loss_that_is_not_finite_is_named_with_its_step(tmp_path: Path, tiny_config: Configure) -> None:
    with pytest.raises(Exception, match=r"the loss is nan at step|weights are not finite"):
        trained(tmp_path / "r", configured(tiny_config, "always", learning_rate=1e30), feed())


def test_a_cpu_computes_plainly_unless_told_otherwise(tiny_config: Configure) -> None:
    found = {each: Trainer.create(tiny_config(capture=each), FACTS, CPU).captured for each in ("auto", "never")}
    assert found == {"auto": None, "never": None}


def test_a_trainer_is_forgotten_with_what_it_recorded(tiny_config: Configure) -> None:
    """Without waiting for the garbage collector, since a GPU's memory is too small for two."""
    trainer = Trainer.create(tiny_config(capture="always"), FACTS, CPU)
    for step in (1, 2, 3):
        trainer.training_step(feed().batch(step))
        trainer.step = step
    network = weakref.ref(trainer.network)
    gc.disable()
    try:
        del trainer
        assert network() is None
    finally:
        gc.enable()
