"""What ranks say to each other: by hand for a small network, as counted for the paper's, and NCCL's formulas."""

import json
from typing import Any

import pytest
import torch
import torch.distributed as dist

from benchmarks.ranks_model import (
    NETWORK,
    NVLINK,
    WAYS,
    Call,
    Way,
    bytes_by_kind,
    calls_of_a_step,
    local_s,
    operations_of_a_step,
    paper_network,
    section,
    talking_s,
)
from benchmarks.record import RESULTS
from viscera.engine.distributed import Ranks, WholeBatch
from viscera.engine.whole_batch_norm import over_the_whole_batch
from viscera.losses.dice import WeightedDiceLoss
from viscera.networks.unet3d import UNet3D


def test_calls_are_those_that_a_step_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank of two, whose all-reduces are noted instead of made."""
    sizes: list[int] = []

    def noted(numbers: torch.Tensor) -> None:
        sizes.append(numbers.numel() * numbers.element_size())

    monkeypatch.setattr(dist, "all_reduce", noted)
    network, batch = UNet3D(1, 8, 2, 2), WholeBatch(Ranks(0, 2), 3)
    loss = WeightedDiceLoss([1.0] * 8)
    over_the_whole_batch(network, batch)
    loss.whole_batch = batch.dice_sums
    labels = torch.zeros((1, 8, 8, 8), dtype=torch.uint8)
    loss(network(torch.randn((1, 1, 8, 8, 8))), labels).backward()
    batch.sum_gradients(list(network.parameters()))
    # backward begins at the end: its statistics come in the other order
    assert sorted(sizes) == sorted(call.num_bytes for call in calls_of_a_step(UNet3D(1, 8, 2, 2), 2, 3))


def test_bytes_of_a_network_by_hand() -> None:
    """A normalisation of 5 channels on 4 ranks: 4 rows of 11 float64, two sums of 5; for 3 windows 3 · 8 numbers."""
    network = torch.nn.Sequential(torch.nn.BatchNorm3d(5))
    assert bytes_by_kind(calls_of_a_step(network, 4, 3)) == {
        "statistics, forward": (1, 352),
        "sums of Eq. 2": (1, 288),
        "statistics, backward": (1, 40),
        "gradient": (1, 4 * 11),
    }


def test_bytes_of_the_paper_are_those_that_were_counted() -> None:
    path = RESULTS / "amx" / "ranks.json"
    if not path.exists():
        pytest.skip("benchmarks/results/amx/ranks.json has not been measured yet")
    counted = json.loads(path.read_text(encoding="utf-8"))
    for name, windows in (("paper", 3), ("even", 4)):
        calls = calls_of_a_step(paper_network(), 2, windows)
        assert counted[f"allreduce_{name}"]["calls"] == len(calls)
        assert counted[f"allreduce_{name}"]["bytes"] == sum(call.num_bytes for call in calls)


def test_operations_of_a_convolution() -> None:
    """8 outputs of 27 weights at 64³ voxels of two windows, times 2; as many again by the weights, not by the input."""
    network = torch.nn.Conv3d(1, 8, 3, padding=1, bias=False, device="meta")
    assert operations_of_a_step(network, 2) == 2 * (2 * 2 * 64**3 * 8 * 27)


def test_nccls_formulas() -> None:
    ring = Way("ring", 7.0, 1.0, 10.0, 1.0, is_tree=False)
    assert ring.seconds(0, 8) == 7 + 14 * 1
    assert ring.seconds(0, 16) == 7 + (30 - 2) * 1 + 2 * 10
    tree = Way("tree", 7.0, 1.0, 10.0, 0.5, is_tree=True)
    assert tree.seconds(0, 64) == 7 + 2 * (7 * 1 + 3 * 10)
    assert ring.seconds(8, 8) - ring.seconds(0, 8) == pytest.approx(14 / NVLINK, abs=1e-9)
    large = 10**15  # bytes
    assert tree.seconds(large, 64) == pytest.approx(2 * large / (0.5 * NETWORK), rel=0.1)
    fastest = min(way.seconds(2**27, 8) for way in WAYS)
    assert talking_s([Call("gradient", 2**27)] * 2, 8) == pytest.approx(2 * fastest)


def test_time_on_this_machine_is_latency_and_bytes() -> None:
    links = {"latency_s": 0.5, "bytes_per_s": 10}
    assert local_s([Call("one", 10), Call("other", 20)], links) == 2 * 1 + 3


def test_the_section_says_what_is_unknown() -> None:
    said = section({}, None)
    assert "Not measured yet." in said
    assert said.count("unknown") >= 3
    pair = {"ours": 8.0, "peer": 8.0, "ratio": 1.0}
    counted = {"calls": 30, "bytes": 76_386_852, "seconds": 0.1, "share": 0.0125}
    ranks: dict[str, Any] = {"pairs": {"ranks_step_paper": pair}, "allreduce_paper": counted}
    links = {"latency_s": 0.0, "bytes_per_s": 76_386_852 / 2}
    said = section({"ranks": ranks, "links": links}, 0.01)
    (row,) = [line for line in said.splitlines() if line.startswith("| 3 ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # two seconds of talking beside eight of computing leave 0.8; of the 0.75 that two and one windows leave
    assert cells[2:] == ["the same", "100 ms (1.2 % of the step)", "2e+03 ms", "1.00", "0.60"]
