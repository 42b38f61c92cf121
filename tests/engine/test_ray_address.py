"""Which Ray cluster is used: the one that is named, or one that is started here, whatever else there is."""

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
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray_that_notes(calls))
    with connected(address):
        pass
    assert [call.get("address") for call in calls] == [used, None]
    assert ("include_dashboard" in calls[0]) == (address is None)


def test_a_dead_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
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
