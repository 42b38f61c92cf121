"""What the trust flags cost beside a prediction: confidence and mean entropy of each organ, gathered on the way.

    python -m benchmarks.bench_trust [--quick]

A scan of 128×128×192 voxels on the network's grid, the paper's network, `predict` at its defaults, one thread; seconds
of the processor, as the machine may be shared. The network is not trained: the bias of its background is set so that
it calls as many voxels organs as the phantom has, or all (`…_of_organs_alone`, the most that it can cost). What gathers
them is timed within the prediction: the times of a network scatter by more than what is sought, and are so the same in
both figures of a pair. `peer` is the prediction less that.

- `trust_entropy`: the mean entropies; the goal, 0.97, is that they take at most 3 % of the prediction.
- `trust_tally`: all that is gathered, with the confidences.
- `trust_memory`: peak memory of a process that predicts so, beside one that gathers nothing.

Quick: a quarter of the scan, an eighth of the filters, one repeat.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch

from benchmarks.pairs import Benchmark
from viscera.core.anatomy import ABDOMEN, NUM_CLASSES
from viscera.core.config import Config
from viscera.core.machine_limits import peak_memory
from viscera.core.resolve import resolve_config
from viscera.core.scan import HuArray
from viscera.engine.hardware import computes_bfloat16, number_format
from viscera.engine.trained_model import Model, build_network
from viscera.engine.trust import ConfidenceTally
from viscera.imaging.phantom import phantom_case
from viscera.imaging.resample import GridChange
from viscera.io.checkpoint import Checkpoint
from viscera.networks.folded_unet3d import FoldedUNet3D
from viscera.networks.unet3d import UNet3D

SHAPE, REPEATS, GOAL, CPU = (128, 128, 192), 3, 0.97, torch.device("cpu")
_ALONE = "--alone"
PARTS = {"entropy": "_add_entropies", "tally": "add"}  # of `ConfidenceTally`, the latter with the former in it


class Case(NamedTuple):
    """What is predicted, and by what."""

    model: Model
    hu: HuArray
    change: GridChange

    def predict(self) -> ConfidenceTally:
        """As `Predictor` does it, but for the orientation and the clean-up."""
        tally = ConfidenceTally(NUM_CLASSES)
        self.model.labels(self.hu, self.change, tally)
        return tally


def made(*, quick: bool, organs_alone: bool = False) -> Case:
    """A model that calls as many voxels organs as there are, or all."""
    phantom = phantom_case(0, 0, (SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2]) if quick else SHAPE)
    config = resolve_config(
        options={
            "prepare.downsample": 1,
            "train.precision": "bfloat16" if computes_bfloat16(CPU) else "float32",
            **({"train.filters": 4} if quick else {}),
        }
    )
    torch.manual_seed(0)
    network = build_network(config.train).eval()
    hu, change = phantom.volume.hu, GridChange.prepared(phantom.volume.geometry, config.prepare)
    least = -1000.0
    if not organs_alone:
        share = float((phantom.label_map.labels > 0).mean())
        planes = torch.stack([*_model(network, config).probabilities(hu, change)], dim=-1).log()
        least = float(np.quantile((planes[1:].amax(0) - planes[0]).numpy(), 1 - share))
    with torch.no_grad():
        network.head.bias[0] += least  # type: ignore[index]
    return Case(_model(network, config), hu, change)


def _model(network: UNet3D, config: Config) -> Model:
    counts = torch.ones(NUM_CLASSES)
    checkpoint = Checkpoint({}, {}, 0, counts.long(), counts.double(), config, ABDOMEN, ((3.0, 3.0, 3.0),))
    folded = FoldedUNet3D(network, number_format(CPU, config.train.precision)).eval()
    return Model(folded, checkpoint, config.predict, CPU, "")


def seconds(case: Case) -> dict[str, float]:
    """Of the processor: of a prediction, and of each part in it."""
    found, parts = dict.fromkeys(PARTS, 0.0), {part: getattr(ConfidenceTally, name) for part, name in PARTS.items()}

    def timed(part: str) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            started = time.process_time()
            parts[part](*arguments)
            found[part] += time.process_time() - started

        return run

    with ExitStack() as patched:
        for part, name in PARTS.items():
            patched.enter_context(mock.patch.object(ConfidenceTally, name, timed(part)))
        started = time.process_time()
        case.predict()
        return {"whole": time.process_time() - started, **found}


def peak_mib(*, quick: bool, gathers: bool) -> float:
    """Resident, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_trust", _ALONE, str(int(quick)), str(int(gathers))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def predict_alone(*, quick: bool, gathers: bool) -> None:
    """One prediction; prints the peak memory in MiB."""
    torch.set_num_threads(1)
    case = made(quick=quick, organs_alone=True)  # which takes no prediction to make
    with ExitStack() as patched:
        if not gathers:
            patched.enter_context(mock.patch.object(ConfidenceTally, "add", return_value=None))
        case.predict()
    print(peak_memory() / 2**20)


def compare(benchmark: Benchmark) -> None:
    """All pairs."""
    repeats = 1 if benchmark.quick else REPEATS
    for suffix in ("", "_of_organs_alone"):
        case = made(quick=benchmark.quick, organs_alone=bool(suffix))
        counts = case.predict().counts
        organs = float(counts[1:].sum() / counts.sum())
        found = [seconds(case) for _ in range(repeats)]
        precision = case.model.trained_with.train.precision
        for part in PARTS:
            wholes, parts = ([each[name] for each in found] for name in ("whole", part))
            without = [whole - own for whole, own in zip(wholes, parts, strict=True)]
            benchmark.pair(
                f"trust_{part}{suffix}",
                *(statistics.median(each) for each in (wholes, without)),
                goal=GOAL,
                unit="s of the processor",
                peer_settings=f"the same prediction without it; {organs:.1%} of the voxels are called organs",
                precision=precision,
                part_s=[float(f"{own:.3g}") for own in parts],
            )
    with_it, without_it = (peak_mib(quick=benchmark.quick, gathers=gathers) for gathers in (True, False))
    what = "the same prediction without the tally, all voxels organs"
    benchmark.pair("trust_memory", with_it, without_it, goal=GOAL, unit="MiB", peer_settings=what)


def main() -> None:
    """Measure and record."""
    if sys.argv[1:2] == [_ALONE]:
        quick, gathers = (bool(int(each)) for each in sys.argv[2:])
        predict_alone(quick=quick, gathers=gathers)
        return
    benchmark = Benchmark.of_command_line("trust", __doc__)
    compare(benchmark)
    benchmark.write()


if __name__ == "__main__":
    main()
