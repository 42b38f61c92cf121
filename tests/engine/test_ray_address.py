"""Which Ray cluster is used: the one that is named, or one that is started here, whatever else there is."""

import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from viscera.core.errors import BadInputError
from viscera.engine import on_ray
from viscera.engine.on_ray import connected


def ray_that_notes(calls: list[dict[str, Any]], error: Exception | None = None) -> Any:
    def init(**given: Any) -> None:
        calls.append(given)
        if error is not None:
            raise error

    return SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: calls.append({}))


@pytest.mark.parametrize(("address", "used"), [(None, "local"), ("auto", "auto"), ("host:6379", "host:6379")])
def test_without_an_address_another_cluster_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, address: str | None, used: str
) -> None:
    """Ray by itself takes what RAY_ADDRESS or an earlier `ray start` names, and refuses the settings of a new one."""
    calls: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes(calls))
    with connected(address):
        pass
    assert [call.get("address") for call in calls] == [used, None]
    assert ("include_dashboard" in calls[0]) == (address is None)


def test_a_dead_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes([], ConnectionError("no\nanswer")))
    with pytest.raises(BadInputError, match=r"no Ray cluster answers at host:1 \(no\)"), connected("host:1"):
        pass


@pytest.mark.parametrize(
    ("said", "shown"), [("", "RuntimeError"), (" \n", "RuntimeError"), ("no room\nTrace", "no room")]
)
def test_a_cluster_that_does_not_start_here_has_no_address(
    monkeypatch: pytest.MonkeyPatch, said: str, shown: str
) -> None:
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes([], RuntimeError(said)))
    sentence = rf"^no Ray cluster could be started on this machine \({shown}\)\.$"
    with pytest.raises(BadInputError, match=sentence), connected(None):
        pass


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "auto"])
def test_an_address_where_nobody_listens_is_refused_before_ray_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_again:
        port = closed_again.getsockname()[1]
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes(calls))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")  # `auto` takes it
    started, named = time.monotonic(), form.format(port) if form != "auto" else f"127.0.0.1:{port}"
    sentence = rf"^no Ray cluster answers at {named} \(.*refused.*\)\. Check"
    with pytest.raises(BadInputError, match=sentence), connected(form.format(port)):
        pass
    assert not calls
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("address", ["no-such-host.invalid:6379", "127.0.0.1:99999", "a..b:6379"])
def test_an_address_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes(calls))
    with pytest.raises(BadInputError, match=f"^no Ray cluster answers at {address} "), connected(address):
        pass
    assert not calls


def test_an_address_that_is_silent_is_waited_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[Any, ...]] = []

    def silent(*given: Any, **_: Any) -> None:
        waited.append(given)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes([]))
    with pytest.raises(BadInputError, match=r"at \[fe80::1\]:6379 \(timed out\)"), connected("[fe80::1]:6379"):
        pass
    assert waited == [(("fe80::1", 6379), 10.0)]
