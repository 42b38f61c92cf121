"""One model on many GPUs: what ranks say to each other a step, and what that should cost; a section of `docs/scale.md`.

`python -m benchmarks.scale_model` writes the page. Bytes are those of the real network; the time of an all-reduce is
that of NCCL's own model with the links' published speeds; what a step of a GPU takes is unknown until it is measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from viscera.networks.unet3d import UNet3D

Results = Mapping[str, Mapping[str, Any]]  # by the name of the file
CLASSES, FILTERS, LEVELS, PATCH, WINDOWS = 8, 32, 4, 64, 3  # of the paper
GPUS = (8, 64, 512)
OF_NODE = 8  # GPUs
SHARES = (0.1, 0.3)  # of the peak, that a step may reach
GOAL = 0.02  # share of a step that all-reduces may take on two local ranks

# published; bytes a second in one direction, seconds, operations a second
NVLINK, NVLINK_SOURCE = 450e9, "NVLink 4 of the H200, 900 GB/s in both directions together (NVIDIA H200 data sheet)"
NETWORK, NETWORK_SOURCE = 8 * 50e9, "8 ConnectX-7 a node of 400 Gbit/s, one a GPU (NVIDIA DGX H200 data sheet)"
PEAK, PEAK_SOURCE = 989.5e12, "dense bfloat16 of the H200, half of the 1,979 TFLOP/s with sparsity (the same)"
LATENCY_SOURCE = "NCCL 2.30.7, `src/graph/tuning.cc`, `baseLatencies` and `hwLatencies`"


@dataclass(frozen=True)
class Way:
    """One of the ways in which NCCL reduces: latencies in seconds, and the share of the links' speed."""

    name: str
    base_s: float
    within_s: float  # of a step between two GPUs of a node
    between_s: float  # of one between two nodes
    speed: float
    is_tree: bool

    def seconds(self, num_bytes: int, gpus: int) -> float:
        """Of one all-reduce over so many GPUs, by NCCL's formulas (`ncclTopoTuneModel`)."""
        nodes = -(-gpus // OF_NODE)
        if self.is_tree:
            latency = 2 * ((gpus // nodes - 1) * self.within_s + math.floor(math.log2(nodes)) * self.between_s)
            times = 2.0
        else:
            between = 2 * (nodes - 1)
            latency = (2 * (gpus - 1) - between) * self.within_s + between * self.between_s
            times = 2 * (gpus - 1) / gpus
        link = NVLINK if nodes == 1 else min(NVLINK, NETWORK)
        return self.base_s + latency + times * num_bytes / (link * self.speed)


WAYS = (
    Way("ring, LL", 6.6e-6, 0.6e-6, 2.7e-6, 1 / 2, is_tree=False),
    Way("ring, Simple", 8.4e-6, 3.4e-6, 14e-6, 1, is_tree=False),
    Way("tree, LL", 6.8e-6, 0.6e-6, 5e-6, 1 / 3.8, is_tree=True),
    Way("tree, Simple", 8.4e-6, 4e-6, 14e-6, 1, is_tree=True),
)


@dataclass(frozen=True)
class Call:
    """An all-reduce of a step."""

    what: str
    num_bytes: int


def paper_network() -> UNet3D:
    """Its shapes alone."""
    with torch.device("meta"):
        return UNet3D(1, CLASSES, FILTERS, LEVELS)


def calls_of_a_step(network: nn.Module, ranks: int, windows: int) -> list[Call]:
    """All of them, as `engine.distributed` and `engine.whole_batch_norm` make them.

    Forward, a normalisation of C channels says mean, variance and number of each rank in rows of their own, float64;
    backward two sums of C in float32. The loss says three numbers for each window and class, the gradient all
    parameters and whether to stop.
    """
    channels = [each.num_features for each in network.modules() if isinstance(each, nn.BatchNorm3d)]
    forward = [Call("statistics, forward", 8 * ranks * (2 * n + 1)) for n in channels]
    backward = [Call("statistics, backward", 4 * 2 * n) for n in channels]
    parameters = sum(each.numel() for each in network.parameters())
    loss = Call("sums of Eq. 2", 4 * windows * 3 * CLASSES)
    return [*forward, loss, *backward, Call("gradient", 4 * (parameters + 1))]


def bytes_by_kind(calls: list[Call]) -> dict[str, tuple[int, int]]:
    """Calls and bytes of each kind."""
    kinds = dict.fromkeys(call.what for call in calls)
    of = {kind: [call.num_bytes for call in calls if call.what == kind] for kind in kinds}
    return {kind: (len(sizes), sum(sizes)) for kind, sizes in of.items()}


def operations_of_a_step(network: nn.Module, windows: int) -> int:
    """Multiplications and additions of convolutions, forward and backward."""
    x = torch.empty((windows, 1, PATCH, PATCH, PATCH), device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return int(counter.get_total_flops())


def talking_s(calls: list[Call], gpus: int) -> float:
    """Seconds a step of all calls, each in the way that is fastest for it; nothing else is done meanwhile."""
    return math.fsum(min(way.seconds(call.num_bytes, gpus) for way in WAYS) for call in calls)


def efficiency_rows(step_s: float | None) -> list[tuple[str, ...]]:
    """Of each number of GPUs: what is said, and the share of the time that is left for computing."""
    network = paper_network()
    operations = operations_of_a_step(network, WINDOWS)
    steps = [operations / (share * PEAK) for share in SHARES]
    rows = []
    for gpus in GPUS:
        calls = calls_of_a_step(network, gpus, WINDOWS * gpus)
        seconds = talking_s(calls, gpus)
        measured = "unknown" if step_s is None else _percent(step_s / (step_s + seconds))
        mib = sum(call.num_bytes for call in calls) / 2**20
        expected = (_percent(each / (each + seconds)) for each in steps)
        rows.append((str(gpus), str(WINDOWS * gpus), f"{mib:.1f} MiB", f"{1000 * seconds:.2g} ms", *expected, measured))
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def counted_rows(results: Results) -> list[tuple[str, ...]]:
    """Of two local ranks: what was counted, what is computed here, and what it took."""
    rows = list[tuple[str, ...]]()
    ranks, links = results.get("ranks", {}), results.get("links", {})
    for name, windows in (("paper", 3), ("even", 4)):
        counted, pair = ranks.get(f"allreduce_{name}"), ranks.get("pairs", {}).get(f"ranks_step_{name}")
        if counted is None or pair is None:
            continue
        calls = calls_of_a_step(paper_network(), 2, windows)
        expected = {"calls": len(calls), "bytes": sum(call.num_bytes for call in calls)}
        same = all(counted[key] == value for key, value in expected.items())
        modelled = local_s(calls, links) if links else None
        alone = pair["peer"] / (pair["peer"] + modelled) if modelled else None
        rows.append(
            (
                str(windows),
                f"{counted['calls']} calls, {counted['bytes']:,} bytes",
                "the same" if same else f"{expected['calls']} calls, {expected['bytes']:,} bytes",
                f"{1000 * counted['seconds']:.3g} ms ({_percent_of_a_step(counted['share'])})",
                f"{1000 * modelled:.3g} ms" if modelled else "unknown",
                f"{pair['ratio']:.2f}",
                f"{alone:.2f}" if alone and windows % 2 == 0 else f"{0.75 * alone:.2f}" if alone else "unknown",
            )
        )
    return rows


def _percent_of_a_step(share: float) -> str:
    return f"{100 * share:.2g} % of the step"


def local_s(calls: list[Call], links: Mapping[str, Any]) -> float:
    """Of all calls between two processes here, from the latency and the bandwidth that were measured for one."""
    return math.fsum(2 * links["latency_s"] + call.num_bytes / links["bytes_per_s"] for call in calls)


def section(results: Results, step_s: float | None) -> str:
    """Markdown; `step_s` is what a GPU's step was measured to take, if it was."""
    network = paper_network()
    kinds = bytes_by_kind(calls_of_a_step(network, 2, WINDOWS))
    said = tabulate(
        [(kind, f"{calls}", f"{num_bytes:,}") for kind, (calls, num_bytes) in kinds.items()],
        ["what", "calls", "bytes, two ranks"],
        tablefmt="pipe",
        disable_numparse=True,
    )
    teraflop = operations_of_a_step(network, WINDOWS) / 1e12
    shares = [f"efficiency at {_percent(share)} of the peak" for share in SHARES]
    header = ["GPUs", "patches per step", "reduced per step", "all-reduces", *shares, "at the measured step"]
    table = tabulate(efficiency_rows(step_s), header, tablefmt="pipe", disable_numparse=True)
    rows = counted_rows(results)
    header = ["patches", "counted", "computed", "took", "by the model", "speed-up measured", "by the model"]
    checked = tabulate(rows, header, tablefmt="pipe", disable_numparse=True) if rows else "Not measured yet."
    parameters = sum(each.numel() for each in network.parameters())
    rows_at_most = sum(c.num_bytes for c in calls_of_a_step(network, GPUS[-1], 1) if c.what == "statistics, forward")
    return f"""## One model on many GPUs

A step reduces over the ranks what depends on the whole mini-batch ([decision 0024](decisions/0024-ranks.md)); of the
paper's network ({parameters:,} parameters):

{said}

The gradient is one call. Statistics cannot be joined, as a layer's input depends on the one before; forward, each rank
has a row of its own in them, so that they grow with the ranks ({rows_at_most / 2**20:.3g} MiB on {GPUS[-1]}).

**Expected, and measured by nobody.** {WINDOWS} patches per GPU and step, the paper's batch for each. Nothing overlaps:
a step takes its computing, {teraflop:.2g} TFLOP, and then its all-reduces, each in the fastest of NCCL's ways. The
share of the peak that computing reaches is unknown, hence two; convolutions of few channels wait for memory. Waiting
for the slowest of the GPUs is not in it.

{table}

An all-reduce of b bytes over N GPUs on n nodes takes base + (2 (N - 1) - 2 (n - 1)) within + 2 (n - 1) between +
2 (N - 1)/N b/speed as a ring, base + 2 ((N/n - 1) within + log2(n) between) + 2 b/speed as a tree; the links' speed is
halved by the protocol LL as a ring, and divided by 3.8 as a tree. Published, not measured here:

- {NVLINK_SOURCE};
- {NETWORK_SOURCE};
- {PEAK_SOURCE};
- latencies: {LATENCY_SOURCE}.

**Checked on two ranks of this machine** (gloo, one thread each, beside one process of two threads), with the latency
and the bandwidth that `python -m benchmarks.bench_links` measures of single calls, and bytes and seconds of
`python -m benchmarks.bench_ranks`. Three patches on two ranks are two and one: 0.75 is the most there.

{checked}
"""
