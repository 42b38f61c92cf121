"""A Ray cluster on this machine, for tests."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

needs_ray = [  # `make test-cluster` runs them, and `make test-slow`
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The node of the driver, which has no processor for tasks, and one node with two."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.add_node(num_cpus=2)
    made.wait_for_nodes()
    yield made
    made.shutdown()  # type: ignore[no-untyped-call]
