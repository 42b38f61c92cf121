"""Many scans on a Ray cluster, one node of which is killed: all outputs are there, and those of one process."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.ray_cluster import cluster, needs_ray
from viscera.check.check_stage import check
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.engine.on_ray import NodeTally, for_each_on_ray
from viscera.stages.predict import predict
from viscera.stages.prepare import prepare

pytestmark = needs_ray
__all__ = ["cluster"]  # a fixture
SCANS = 200


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_200_scans_and_a_node_that_is_killed(half_run: Path, scans: Path, cluster: Any, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    files = sorted(scans.iterdir())
    for number in range(SCANS):
        shutil.copy(files[number % len(files)], many / f"scan_{number:03d}_0000.nii.gz")
    broken = many / "scan_007_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(BadInputError, match="1 of 200 cases was left out"):
        predict(half_run, many, tmp_path / "local")
    doomed = cluster.list_all_nodes()[-1]

    def watch(at: Progress) -> None:
        if at.done == SCANS // 4:
            cluster.add_node(num_cpus=2)
            cluster.remove_node(doomed, allow_graceful=False)

    tally = NodeTally()

    def spread(function: Any, items: Any) -> Any:
        return for_each_on_ray(function, items, address=cluster.address, tally=tally)

    with pytest.raises(BadInputError, match="1 of 200 cases was left out"):
        predict(half_run, many, tmp_path / "ray", spread=spread, progress=watch)
    assert sum(map(len, tally.seconds.values())) == SCANS
    assert tally.table().splitlines()[2].split()[1] == str(SCANS)  # both nodes are this machine
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_a_store_is_the_same_byte_by_byte(raw: Path, cluster: Any, tmp_path: Path) -> None:
    def spread(function: Any, items: Any) -> Any:
        return for_each_on_ray(function, items, address=cluster.address)

    half = PrepareConfig(downsample=2, test_fraction=0.4)
    prepare(raw, tmp_path / "local", half)
    prepare(raw, tmp_path / "ray", half, spread=spread)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_a_check_is_the_same_byte_by_byte(raw: Path, cluster: Any, tmp_path: Path) -> None:
    def spread(function: Any, items: Any) -> Any:
        return for_each_on_ray(function, items, address=cluster.address)

    check(raw, tmp_path / "local")
    check(raw, tmp_path / "ray", spread=spread)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
