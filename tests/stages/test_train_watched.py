"""A store that another process changes while it is trained on: noticed before anything of it is kept, by all ranks."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.rank_processes import as_rank, start
from tests.same_checkpoints import same_state
from tests.what_files_say import files_that_say
from viscera.core.config import Config
from viscera.core.errors import BadInputError, VisceraError
from viscera.core.progress import Progress
from viscera.io.checkpoint import load_checkpoint
from viscera.io.runlog import RunFolder
from viscera.io.store import Store
from viscera.stages.train import train

Configure = Callable[..., Config]


@pytest.fixture
def store(tiny_store: Store, tmp_path: Path) -> Store:
    return Store.open(Path(shutil.copytree(tiny_store.path, tmp_path / "store")))


def replace_with_others(path: Path) -> None:
    """As `prepare` does it: a file of the same size, in place of the one before, which stays mapped."""
    array = np.load(path)
    np.save(path.with_name("new.npy"), array[::-1])
    path.with_name("new.npy").replace(path)


def at_step(step: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.done == step:
            act()

    return watch


@pytest.mark.parametrize(("split", "file"), [("train", "image.npy"), ("validation", "labels.npy")])
@pytest.mark.parametrize("verb", ["changed", "deleted"])
def test_what_is_kept_is_of_before_and_goes_on_once_the_store_is_as_it_was(
    split: str, file: str, verb: str, store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    """The checkpoint of step 4 is kept; the change after step 5 is noticed before the validation of step 6."""
    names = {"train": store.names("train"), "validation": store.names("validation")}[split]
    path = store.path / "cases" / names[-1] / file
    shutil.copy(path, tmp_path / "kept")
    change = at_step(5, lambda: replace_with_others(path) if verb == "changed" else path.unlink())
    said = rf"{names[-1]}/{file}: another process has {verb} it, on {socket.gethostname()}, while it was trained on"
    with pytest.raises(BadInputError, match=said):
        train(store.path, tmp_path / "r", tiny_config(), progress=change)
    run = RunFolder(tmp_path / "r")
    status = run.read_status()
    assert status is not None
    assert status.state == "interrupted"
    assert status.message.startswith(f"store/cases/…/{file}: another process has {verb} it")
    assert not files_that_say(run.path, [*store.names(), str(tmp_path)])
    assert load_checkpoint(run.last).step == 4
    assert load_checkpoint(run.best).step == 3
    shutil.copy(tmp_path / "kept", path)
    train(store.path, run.path, tiny_config(), resume=True)
    assert same_state(run.last, train(store.path, tmp_path / "whole", tiny_config()).last)


def test_what_is_written_again_as_it_was_is_no_change(
    store: Store, tiny_run: Path, tmp_path: Path, tiny_config: Configure
) -> None:
    """As a mirror does that lost its index, or a case that is prepared again; and other cases that come."""

    def write_again() -> None:
        for path in store.path.glob("cases/*/*.npy"):
            shutil.copy(path, path.with_name("new.npy"))
            path.with_name("new.npy").replace(path)
        (store.path / "manifest.json").write_text((store.path / "manifest.json").read_text() + "\n")

    run = train(store.path, tmp_path / "r", tiny_config(), progress=at_step(2, write_again))
    assert same_state(run.last, tiny_run / "last.pt")


def train_as_rank(rank: int, size: int, port: int, folder: Path, store: Path, config: Config) -> None:
    """Rank 0 changes, after step 5, a case that rank 1 looks at; what each is told, into a file."""
    as_rank(rank, size, port)
    os.environ["LOCAL_WORLD_SIZE"] = str(size)
    path = store / "cases" / Store.open(store).names("train")[1] / "image.npy"
    act = (lambda: replace_with_others(path)) if rank == 0 else (lambda: None)
    try:
        train(store, folder / "r", config, progress=at_step(5, act))
    except VisceraError as error:
        (folder / f"told_{rank}").write_text(f"{type(error).__name__} {error}")


def test_all_ranks_end_with_the_sentence_of_the_one_that_sees_it(
    store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    assert start(train_as_rank, 2, tmp_path, store.path, tiny_config()) == [0, 0]
    told = [(tmp_path / f"told_{rank}").read_text() for rank in range(2)]
    host, path = socket.gethostname(), store.path / "cases" / store.names("train")[1] / "image.npy"
    assert told[1].startswith(f"BadInputError {path}: another process has changed it, on {host}")
    assert told[0] == f"BadInputError process 1 of 2, on {host}: {told[1].removeprefix('BadInputError ')}"
    assert load_checkpoint(tmp_path / "r" / "last.pt").step == 4
