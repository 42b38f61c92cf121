"""One task of a study on a node of Ray: never beside what is left of itself on a node that was lost."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import viscera
from viscera.core.config import Config
from viscera.core.errors import BadInputError, DefectError, RunFailedError, VisceraError
from viscera.core.progress import unseen
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study import ray_desk, ray_launcher
from viscera.study.plan import StudyPlan, Task, make_plan
from viscera.study.ray_desk import Desk
from viscera.study.ray_launcher import _Errand, _followed, _news, _Outcome, _outcome, _run, _told


def remote(desk: Desk) -> Any:
    """A desk as Ray hands it out, called at once."""
    methods = ("tell", "take", "stop", "is_stopped", "read", "files_of")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(desk, name)) for name in methods})


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_task_that_is_started_again_waits_for_its_earlier_process(
    tiny_store: Store,
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_shared: bool,
) -> None:
    ray = SimpleNamespace(get=lambda value: value, exceptions=SimpleNamespace(RayError=RuntimeError))
    for module in (ray_launcher, ray_desk):
        monkeypatch.setattr(module, "ray_module", lambda: ray)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    at_work, most = [0], [0]

    def run_task(_plan: StudyPlan, task: Task, *_: object) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.2)  # between stages, where no folder is held by the stage itself
        task.run.path.mkdir(parents=True, exist_ok=True)
        (task.run.path / "scores.csv").write_text("scores")
        at_work[0] -= 1

    monkeypatch.setattr(ray_launcher, "run_task", run_task)
    plan = make_plan(StudyFolder(tmp_path / "study"), tiny_store, tiny_config())
    mark = tmp_path / ".reached"
    errand = _Errand(plan, tiny_store.fingerprint, mark, is_shared, viscera.__version__)
    desk, outcomes = remote(Desk(tiny_store.path)), list[Any]()
    threads = [threading.Thread(target=lambda: outcomes.append(_run(errand, 0, desk))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert most == [1]
    assert [outcome.failure for outcome in outcomes] == [None, None]
    files = {} if is_shared else {"scores.csv": b"scores"}
    assert [outcome.files for outcome in outcomes] == [files, files]


def test_a_desk_that_is_lost_is_a_sentence() -> None:
    class RayError(Exception):
        pass

    def lost(_: object, timeout: float) -> object:
        assert timeout == 600
        raise RayError("The actor died\nat length")

    ray: Any = SimpleNamespace(get=lost, exceptions=SimpleNamespace(RayError=RayError))
    for ask in (lambda desk: _news(ray, desk), lambda desk: _told(ray, desk.stop.remote())):
        with pytest.raises(RunFailedError, match=r"news was lost \(The actor died\)\. Run the same command again"):
            ask(remote(Desk(Path())))


def test_a_study_that_is_stopped_says_so_to_a_desk_that_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has forgotten it: so it is told each time."""
    desk, looks = Desk(Path()), list[bool]()
    monkeypatch.setattr(ray_launcher, "_news", lambda *_: [])
    monkeypatch.setattr(ray_launcher, "_outcome", lambda *_: _Outcome(None, {}))
    stop = threading.Event()
    stop.set()

    def wait(pending: list[int], **_: object) -> tuple[list[int], list[int]]:
        looks.append(desk.is_stopped())
        vars(desk).update(vars(Desk(Path())))  # as Ray starts it again
        return (pending, []) if len(looks) == 3 else ([], pending)

    ray: Any = SimpleNamespace(wait=wait, get=lambda value, **_: value, exceptions=SimpleNamespace(RayError=OSError))
    task: Any = SimpleNamespace(run=SimpleNamespace(path=Path()))
    patience: Any = SimpleNamespace(look=lambda: None)
    assert list(_followed(ray, {0: task}, remote(desk), stop, unseen, patience)) == []
    assert looks == [False, True, True]


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (
            RuntimeError("failed to import:\nNo module named 'viscera'"),
            BadInputError,
            "viscera is not installed on a node",
        ),
        (
            BufferError("System error: Can't get attribute 'x'\nat y"),
            BadInputError,
            "a node: BufferError: System error",
        ),
        (ZeroDivisionError("by zero\nat y"), DefectError, r"a defect of viscera \(by zero\)"),
        (KeyError(), DefectError, r"a defect of viscera \(KeyError\)"),
        (ConnectionError("The actor died\nat y"), RunFailedError, r"the process .* was lost \(The actor died\)\. Run"),
    ],
)
def test_an_arm_that_a_node_cannot_begin_is_no_defect(cause: Exception, kind: type[VisceraError], said: str) -> None:
    class TaskError(Exception):
        pass

    error = TaskError("traceback")
    error.cause = cause  # type: ignore[attr-defined]

    def get(_reference: object) -> None:
        raise error

    known = SimpleNamespace(RayTaskError=TaskError, RayError=ConnectionError, RaySystemError=BufferError)
    ray = SimpleNamespace(get=get, exceptions=known, nodes=list)
    failure = _outcome(ray, 0, SimpleNamespace(name="uniform, seed 1")).failure  # type: ignore[arg-type]
    assert type(failure) is kind
    assert re.match(f"uniform, seed 1: {said}", str(failure))
    assert "\n" not in str(failure)
