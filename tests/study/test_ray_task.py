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
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.study import ray_desk, ray_launcher
from viscera.study.plan import StudyPlan, Task, make_plan
from viscera.study.ray_desk import Desk
from viscera.study.ray_launcher import _Errand, _news, _outcome, _run


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

    def lost(_: object) -> object:
        raise RayError("The actor died\nat length")

    ray: Any = SimpleNamespace(get=lost, exceptions=SimpleNamespace(RayError=RayError))
    with pytest.raises(RunFailedError, match=r"news was lost \(The actor died\)\. Run the same command again"):
        _news(ray, remote(Desk(Path())))


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (
            RuntimeError("failed to import:\nNo module named 'viscera'"),
            BadInputError,
            "viscera is not installed on a node",
        ),
        (OSError("System error: Can't get attribute 'x'\nat y"), BadInputError, "a node: OSError: System error: Can't"),
        (ZeroDivisionError("by zero\nat y"), DefectError, r"a defect of viscera \(by zero\)"),
        (KeyError(), DefectError, r"a defect of viscera \(KeyError\)"),
    ],
)
def test_an_arm_that_a_node_cannot_begin_is_no_defect(cause: Exception, kind: type[VisceraError], said: str) -> None:
    class TaskError(Exception):
        pass

    error = TaskError("traceback")
    error.cause = cause  # type: ignore[attr-defined]

    def get(_reference: object) -> None:
        raise error

    known = SimpleNamespace(RayTaskError=TaskError, RayError=TaskError, RaySystemError=OSError)
    ray = SimpleNamespace(get=get, exceptions=known, nodes=list)
    failure = _outcome(ray, 0, SimpleNamespace(name="uniform, seed 1")).failure  # type: ignore[arg-type]
    assert type(failure) is kind
    assert re.match(f"uniform, seed 1: {said}", str(failure))
    assert "\n" not in str(failure)
