"""Going on with a run that was stopped, killed or finished: the same bits, and what is refused."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.same_checkpoints import same_state, stop_after
from tests.warm_processes import warm_context
from viscera.core.config import Config, PrepareConfig
from viscera.core.errors import BadInputError, InterruptedRunError
from viscera.core.progress import Progress
from viscera.core.resolve import as_recorded, resolve_config
from viscera.engine import distributed, hardware
from viscera.engine import trainer as engine
from viscera.engine.predictor import Predictor
from viscera.io.checkpoint import load_checkpoint, save_checkpoint
from viscera.io.records import read_yaml, write_yaml
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store
from viscera.stages.prepare import prepare
from viscera.stages.train import train

Configure = Callable[..., Config]
MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def of_nine_steps(
    tiny_store: Store, tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], RunFolder]:
    """A run that nothing stopped, of each kind of batch normalisation; to read only."""

    @cache
    def whole(batch_norm: str) -> RunFolder:
        folder = tmp_path_factory.mktemp("whole") / "run"
        return train(tiny_store.path, folder, tiny_config(iterations=9, batch_norm=batch_norm))

    return whole


def steps(run: RunFolder) -> list[int]:
    return [line["step"] for line in run.read_curve()]


@pytest.mark.parametrize("batch_norm", ["running", "recomputed"])
@pytest.mark.parametrize("stopped_at", [1, 3, 5, 8])
def test_stopped_and_resumed_ends_at_the_same_bits(
    tiny_store: Store,
    tmp_path: Path,
    tiny_config: Configure,
    of_nine_steps: Callable[[str], RunFolder],
    batch_norm: str,
    stopped_at: int,
) -> None:
    config, whole = tiny_config(iterations=9, batch_norm=batch_norm), of_nine_steps(batch_norm)
    stop, watch = stop_after(stopped_at)
    with pytest.raises(InterruptedRunError, match=f"stopped at step {stopped_at}. Resume with --resume"):
        train(tiny_store.path, tmp_path / "r", config, stop=stop, progress=watch)
    run = RunFolder(tmp_path / "r")
    assert load_checkpoint(run.last).step == stopped_at
    status = run.read_status()
    assert status is not None
    assert status.state == "interrupted"
    train(tiny_store.path, tmp_path / "r", config, resume=True)
    assert same_state(whole.last, run.last)
    assert same_state(whole.best, run.best)
    drop = {"seconds"}
    assert [{k: v for k, v in line.items() if k not in drop} for line in run.read_curve()] == [
        {k: v for k, v in line.items() if k not in drop} for line in whole.read_curve()
    ]


def test_with_augmentation_a_run_is_another_and_resumes_at_the_same_bits(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    config = tiny_config(augment={"enabled": True})
    whole = train(tiny_store.path, tmp_path / "whole", config)
    assert not same_state(whole.last, tiny_run / "last.pt")
    stop, watch = stop_after(3)
    with pytest.raises(InterruptedRunError):
        train(tiny_store.path, tmp_path / "r", config, stop=stop, progress=watch)
    with pytest.raises(BadInputError, match=r"trained with augment.enabled true \(now false\)"):
        train(tiny_store.path, tmp_path / "r", tiny_config(), resume=True)
    run = train(tiny_store.path, tmp_path / "r", config, resume=True)
    assert same_state(whole.last, run.last)


def test_killed_after_a_checkpoint_the_lines_since_are_written_once(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, of_nine_steps: Callable[[str], RunFolder]
) -> None:
    config, whole = tiny_config(iterations=9), of_nine_steps("recomputed")
    kept = tmp_path / "last.pt"

    def killed(progress: Progress) -> None:
        if progress.done == 5:
            shutil.copy(tmp_path / "r" / "last.pt", kept)
        if progress.done == 8:
            raise KeyboardInterrupt  # nothing is written after it, as after kill -9

    with pytest.raises(KeyboardInterrupt):
        train(tiny_store.path, tmp_path / "r", config, progress=killed)
    run = RunFolder(tmp_path / "r")
    status = run.read_status()
    assert status is not None
    assert status.state == "running"
    kept.replace(run.last)
    with run.curve_path.open("a") as file:
        file.write('{"step": 7, "lo')
    train(tiny_store.path, run.path, config, resume=True)
    assert same_state(whole.last, run.last)
    assert same_state(whole.best, run.best)
    assert steps(run) == steps(whole) == [2, 3, 4, 6, 8, 9]


def _train_and_die(store: Path, run: Path, config: Config) -> None:
    def die(progress: Progress) -> None:
        if progress.done == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    train(store, run, config, progress=die)


def test_kill_9_between_checkpoints(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, of_nine_steps: Callable[[str], RunFolder]
) -> None:
    config, whole = tiny_config(iterations=9, checkpoint_every=4), of_nine_steps("recomputed")
    killed = warm_context().Process(target=_train_and_die, args=(tiny_store.path, tmp_path / "r", config))
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    assert load_checkpoint(tmp_path / "r" / "last.pt").step == 4
    run = train(tiny_store.path, tmp_path / "r", config, resume=True)
    assert same_state(whole.last, run.last)
    assert steps(run) == steps(whole)


def test_a_stop_that_comes_while_a_step_is_logged_is_heeded_after_the_next_with_a_checkpoint(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    original = engine.Trainer._log

    def logging(self: engine.Trainer, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        stop.set()

    monkeypatch.setattr(engine.Trainer, "_log", logging)
    with pytest.raises(InterruptedRunError) as caught:
        train(tiny_store.path, tmp_path / "r", tiny_config(), stop=stop)
    said = re.search(r"step (\d+)", str(caught.value))
    assert said
    assert load_checkpoint(tmp_path / "r" / "last.pt").step == int(said[1])


def test_resuming_without_a_checkpoint_starts_at_0(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(), resume=True)
    assert same_state(run.last, tiny_run / "last.pt")
    run.last.unlink()
    train(tiny_store.path, tmp_path / "r", tiny_config(), resume=True)
    assert same_state(run.last, tiny_run / "last.pt")
    assert steps(run) == [2, 3, 4, 6]


def test_more_iterations_go_on_from_the_end(
    tiny_store: Store,
    tiny_run: Path,
    tmp_path: Path,
    tiny_config: Configure,
    of_nine_steps: Callable[[str], RunFolder],
) -> None:
    shutil.copytree(tiny_run, tmp_path / "r")
    run = train(tiny_store.path, tmp_path / "r", tiny_config(iterations=9), resume=True)
    assert same_state(run.last, of_nine_steps("recomputed").last)


def test_settings_of_the_machine_may_change_when_a_run_goes_on(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(tiny_run, tmp_path / "r")
    other = tiny_config(
        iterations=7, resident="never", log_every=1, checkpoint_every=3, validate_every=7, diagnose=False
    )
    run = train(tiny_store.path, tmp_path / "r", other, resume=True)
    assert [line["step"] for line in run.read_curve()][-1] == 7


@pytest.mark.parametrize("lost", ["", "config.yaml", "last.pt"])
def test_other_settings_are_refused_and_named(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure, lost: str
) -> None:
    shutil.copytree(tiny_run, tmp_path / "r")
    if lost:
        (tmp_path / "r" / lost).unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "r").iterdir()}
    with pytest.raises(BadInputError, match=r"trained with filters 2 \(now 3\), seed 0 \(now 4\)\. Give the same"):
        train(tiny_store.path, tmp_path / "r", tiny_config(filters=3, seed=4, iterations=9), resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_fewer_iterations_than_done_are_refused(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(tiny_run, tmp_path / "r")
    with pytest.raises(BadInputError, match="trained for 6 steps, more than the 4 asked for"):
        train(tiny_store.path, tmp_path / "r", tiny_config(iterations=4), resume=True)


def test_a_store_that_has_grown_is_refused(
    raw: Path, tmp_path: Path, tiny_config: Configure, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    whole = PrepareConfig(downsample=1)
    prepare(raw, tmp_path / "s", whole)
    train(tmp_path / "s", tmp_path / "r", tiny_config(iterations=2))
    make_nnunet(raw, {"more": make_case(7)})
    prepare(raw, tmp_path / "s", whole)
    with pytest.raises(BadInputError, match=r"other training cases than the store has now \(4 then, 5 now\)"):
        train(tmp_path / "s", tmp_path / "r", tiny_config(iterations=4), resume=True)


def test_a_damaged_checkpoint_is_not_gone_on_from(
    tiny_store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    shutil.copytree(tiny_run, tmp_path / "r")
    path = tmp_path / "r" / "last.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"last\.pt: (damaged|its checksum)"):
        train(tiny_store.path, tmp_path / "r", tiny_config(iterations=9), resume=True)


def test_auto_is_decided_once_and_kept(tiny_store: Store, tmp_path: Path, tiny_config: Configure) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config())
    decided = read_config(run.config_path).train
    assert (decided.precision, decided.memory_layout) == ("float32", "channels_last")  # so few steps are not timed
    given = tiny_config(iterations=8, precision="bfloat16", memory_layout="channels_first")
    with pytest.raises(BadInputError, match=r"precision float32 \(now bfloat16\)"):
        train(tiny_store.path, run.path, given, resume=True)
    other = train(tiny_store.path, tmp_path / "other", given)
    train(tiny_store.path, other.path, tiny_config(iterations=10), resume=True)
    kept = load_checkpoint(other.last)
    assert (kept.step, kept.config) == (10, read_config(other.config_path))
    assert (kept.config.train.precision, kept.config.train.memory_layout) == ("bfloat16", "channels_first")


def test_runs_of_earlier_versions_go_on_as_they_began(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    run = train(tiny_store.path, tmp_path / "r", tiny_config(precision="float32"))
    earlier = read_yaml(run.config_path)
    earlier["train"]["precision"] = "auto"  # which was float32 on every CPU
    del earlier["train"]["memory_layout"]
    write_yaml(run.config_path, earlier)
    checkpoint = load_checkpoint(run.last)
    config = resolve_config(file_values=as_recorded(earlier))
    save_checkpoint(run.last, replace(checkpoint, config=config))
    train(tiny_store.path, run.path, tiny_config(iterations=9), resume=True)
    assert read_config(run.config_path).train.precision == "auto"
    whole = train(tiny_store.path, tmp_path / "whole", tiny_config(iterations=9, precision="float32"))
    assert same_state(run.last, whole.last)


def test_bfloat16_on_a_processor_without_is_kept_and_said(
    tiny_store: Store,
    tmp_path: Path,
    tiny_config: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(hardware, "processor_words", frozenset)
    run = train(tiny_store.path, tmp_path / "r", tiny_config(precision="bfloat16"))
    assert "trains in bfloat16, which cpu has no instructions for" in caplog.text
    assert read_config(run.config_path).train.precision == "bfloat16"
    assert Predictor.load(run.path).models["last"].trained_with.train.precision == "float32"


def test_a_run_goes_on_where_one_of_the_nodes_that_began_it_starts_it_again(
    tiny_store: Store, tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchrun starts the processes of a node again, or of one that took its place; another call is refused."""
    run, (stop, watch), agents = RunFolder(tmp_path / "run"), stop_after(5), ["one"]
    monkeypatch.setattr("viscera.stages.train.who_started", lambda: agents[0])
    monkeypatch.setattr(distributed.Ranks, "gathered", lambda _, value: agents if value == agents[0] else [value])
    with pytest.raises(InterruptedRunError):
        train(tiny_store.path, run.path, tiny_config(iterations=10), stop=stop, progress=watch)
    agents[:] = ["another"]
    with pytest.raises(BadInputError, match="this run exists"):
        train(tiny_store.path, run.path, tiny_config(iterations=10))
    agents[:] = ["another", "one"]  # the first process may be of the new node
    train(tiny_store.path, run.path, tiny_config(iterations=10))
    assert load_checkpoint(run.last).step == 10
    assert run.started_by.read_text().split() == ["another", "one"]


def test_what_started_a_process_is_another_after_it_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every container torchrun is process 1 of the same host; when it began tells one from the next."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert distributed.who_started() == ""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    first = distributed.who_started()
    assert first == distributed.who_started()
    monkeypatch.setattr(distributed, "_began", lambda _: "5")
    assert first != distributed.who_started()
