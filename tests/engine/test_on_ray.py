"""What is raised on a node of Ray comes out as on one machine; nodes that differ from the driver are named."""

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import viscera
from viscera.core.anatomy import LabelNumbers
from viscera.core.errors import BadInputError, CaseBarrier, RunFailedError, VisceraError
from viscera.engine import on_ray
from viscera.engine.on_ray import for_each_on_ray
from viscera.engine.predictor import Predictor
from viscera.io.layouts.case_source import CaseSource
from viscera.io.nifti import read_volume

WITHOUT = (
    "The remote function failed to import on the worker. This may be because of a path ['/x'].:\n\n"
    "Traceback (most recent call last):\nModuleNotFoundError: No module named '{}'\n"
)


class RayError(Exception):
    pass


class RayTaskError(RayError):
    """As Ray raises it: its text is the traceback of the node, whose address it gives."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::_on_a_node() (pid=7, ip=10.0.0.9)\n  File viscera/x.py\n{type(cause)}: {cause}")
        self.cause = cause


def fake_ray(outcome: Callable[..., Any]) -> Any:
    """A cluster of one node that answers by `outcome`."""
    task = SimpleNamespace(remote=lambda *given: given)
    return SimpleNamespace(
        is_initialized=lambda: True,
        nodes=lambda: [
            {
                "Alive": True,
                "Resources": {"CPU": 1.0},
                "NodeManagerAddress": "10.0.0.9",
                "NodeManagerHostname": "gpu-9",
            }
        ],
        put=lambda value: value,
        remote=lambda _function: SimpleNamespace(options=lambda **_: task),
        wait=lambda pending, **_: (pending[:1], pending[1:]),
        get=lambda reference: outcome(*reference),
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError),
    )


def raised(monkeypatch: pytest.MonkeyPatch, cause: Exception) -> VisceraError:
    def outcome(*_: object) -> None:
        raise RayTaskError(cause)

    monkeypatch.setattr(on_ray, "ray_module", lambda: fake_ray(outcome))
    with pytest.raises(VisceraError) as caught:
        list(for_each_on_ray(str, [1], address=None))
    return caught.value


@pytest.mark.parametrize("cause", [BadInputError("a.nii: truncated. Export it again."), RunFailedError("no memory.")])
def test_a_sentence_of_a_node_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch, cause: Exception) -> None:
    assert raised(monkeypatch, cause) is cause


@pytest.mark.parametrize("package", ["viscera", "monai"])
@pytest.mark.parametrize(
    "text", [WITHOUT, "System error: No module named '{}'\ntraceback: …", "No module named '{}.x'"]
)
def test_a_package_that_a_node_lacks_is_named(monkeypatch: pytest.MonkeyPatch, package: str, text: str) -> None:
    error = raised(monkeypatch, RuntimeError(text.format(package)))
    assert type(error) is BadInputError
    assert str(error).startswith(f"{package} is not installed on the node gpu-9.")
    assert f"viscera {viscera.__version__}" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("cause", "said"), [(AttributeError("no x\nat y"), "AttributeError: no x"), (OSError(), "OSError")]
)
def test_anything_else_names_its_node(monkeypatch: pytest.MonkeyPatch, cause: Exception, said: str) -> None:
    error = raised(monkeypatch, cause)
    assert type(error) is BadInputError
    assert f"the node gpu-9: {said}. It needs" in str(error)
    assert "\n" not in str(error)


def test_a_node_with_another_version_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def outcome(*given: Any) -> Any:
        sent.append(given)
        monkeypatch.setattr(viscera, "__version__", "0.0.7")  # the node's
        try:
            return on_ray._on_a_node(*given)
        except BadInputError as error:
            raise RayTaskError(error) from error

    here = viscera.__version__
    monkeypatch.setattr(on_ray, "ray_module", lambda: fake_ray(outcome))
    with pytest.raises(BadInputError) as caught:
        list(for_each_on_ray(str, [1], address=None))
    assert str(caught.value) == (
        f"the node {socket.gethostname()} has version 0.0.7 of viscera, and this machine {here}. Install the same."
    )
    assert len(sent) == 1


def _of_a_case(path: Path) -> CaseSource:
    return CaseSource("case", path, path, LabelNumbers({}))


READERS: dict[str, Callable[[Path], object]] = {
    "scan": read_volume,
    "case": lambda path: _of_a_case(path).read(),
    "run": Predictor.load,
}


def _reason(read: Callable[[Path], object], path: Path) -> str:
    barrier = CaseBarrier()
    with barrier.around("case"):
        read(path)
    return barrier.reasons["case"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_that_a_node_lacks_is_said_to_be_missing_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: str, is_there: bool
) -> None:
    path, read = tmp_path / "scan.nii.gz", partial(_reason, READERS[reader])
    if is_there and reader == "run":
        path.mkdir()
        (path / "last.pt").write_bytes(b"damaged")
    elif is_there:
        path.write_bytes(b"damaged")
    monkeypatch.setattr(on_ray, "with_its_log", lambda function, item: (function(item), list[logging.LogRecord]()))
    _, _, (reason, _) = on_ray._on_a_node(viscera.__version__, read, path)
    assert str(path) in reason
    assert (f"on the node {socket.gethostname()}:" in reason) == (not is_there)  # else who read it makes no difference
    assert read(path) == reason.split(" That was on the node")[0]


class LostError(RayError):
    pass


def test_a_case_that_is_lost_again_and_again_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(*_: object) -> None:
        raise LostError("The worker died\nat length")

    monkeypatch.setattr(on_ray, "ray_module", lambda: fake_ray(outcome))
    said = r"case_3: its node or process was lost 6 times \(The worker died\)\. Run the same command again"
    with pytest.raises(RunFailedError, match=said):
        list(for_each_on_ray(str, [Path("case_3")], address=None))


def test_a_cluster_that_has_lost_its_nodes_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, waits = fake_ray(lambda *_: None), [0]

    def wait(pending: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        waits[0] += 1
        ray.nodes()[0]["Alive"] = waits[0] < 3  # the node is there at first
        time.sleep(0.02)
        return [], pending

    nodes = ray.nodes()
    ray.nodes, ray.wait = lambda: nodes, wait
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray)
    monkeypatch.setenv("VISCERA_WAIT_S", "0.1")
    with pytest.raises(RunFailedError, match=r"for 0\.1 s .* no node .*\(1 processors and 0 GPUs\)\. Start"):
        list(for_each_on_ray(str, [1], address=None))
    assert waits[0] > 4
