"""All that needs a GPU, in pieces that fit into a command: `make gpu` does the next ones and says what is left.

    python -m benchmarks.gpu WORK OUT [--device cuda] [--seconds 540] [--set train.iterations=10000] ...

Pieces, the most telling first: the device against the CPU, plainly and with a recorded step; the time of a step beside
the device's peak; the benchmarks beside peers; phantoms and store; each arm of the study, trained, applied and scored;
the study put together, with its report and a page of results. An arm that the time cuts off goes on from its
checkpoint, and each command ends with a report of the arms that there are. WORK holds everything and may be lost; OUT
holds what is worth keeping, at most eight files: put back, what they say is done is not done again.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_pieces import Bench, Deadline, Piece
from viscera.core.errors import VisceraError
from viscera.core.resolve import resolve_config
from viscera.engine.hardware import choose_device, describe_hardware

_ON_GPU = ("train.checkpoint_every=2500", "train.log_every=100")  # 228 MB each; six forward passes each
_RESERVE_SECONDS = 75.0  # of an arm, for its test cases, its archive and a report
_PAIRS = ("loss", "train", "feed", "augmentation")  # those whose peers compute on the device too


def do_next(pieces: Sequence[Piece], deadline: Deadline) -> list[str]:
    """Do the pieces that fit, the first in any case; returns the names of those that are left."""
    begun = False
    for piece in pieces:
        if piece.is_done():
            continue
        needed = piece.seconds()
        if begun and needed > deadline.left:
            print(f"{piece.name}: about {needed:.0f} s, {max(deadline.left, 0):.0f} s are left of this command.")
            break
        begun, started = True, time.monotonic()
        print(f"{piece.name} …", flush=True)
        if not piece.run(deadline):
            break
        print(f"{piece.name}: done in {time.monotonic() - started:.0f} s", flush=True)
    return [piece.name for piece in pieces if not piece.is_done()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the next pieces; 0, or 1 where the device does not compute what the CPU computes."""
    options = _options().parse_args(arguments)
    listed: dict[str, Any] = {
        "study.weightings": options.weightings.split(","),
        "study.learning_rates": options.learning_rates.split(","),
        "train.device": options.device,
    }
    config = resolve_config("paper", None, [*_ON_GPU, *(options.set or ())], listed, found_in="make gpu")
    device = choose_device(options.device)
    print(f"{describe_hardware(device)}, torch {torch.__version__}", flush=True)
    bench = Bench(
        options.work,
        options.out,
        config,
        device,
        cases=options.cases,
        shape=tuple(options.shape),
        test_fraction=options.test_fraction,
        reserve=options.reserve,
        pairs=tuple(name for name in options.pairs.split(",") if name),
        quick=options.quick_pairs,
        pair_seconds=options.pair_seconds,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    bench.put_back()
    left = do_next(bench.pieces(), Deadline(options.seconds))
    bench.interim_report()
    print(f"Left: {', '.join(left)}. Run `make gpu` again." if left else f"All done: {options.out}")
    equal = bench.measured["equality"]["passed"]
    if not equal:
        print("THE DEVICE DOES NOT COMPUTE WHAT THE CPU COMPUTES: see `equality` in measured.json.")
    return 0 if equal else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540, help="of one command")
    parser.add_argument("--reserve", type=float, default=_RESERVE_SECONDS, help="seconds for an arm's test cases")
    parser.add_argument("--cases", type=int, default=70)
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 128, 128))
    parser.add_argument("--test-fraction", type=float, default=1 / 7)
    parser.add_argument("--weightings", default="uniform,simple,square")
    parser.add_argument("--learning-rates", default="0.001,0.01")
    parser.add_argument("--pairs", default=",".join(_PAIRS), help="benchmarks beside peers")
    parser.add_argument("--quick-pairs", action="store_true", help="the small form of these")
    parser.add_argument("--pair-seconds", type=float, default=80, help="the most that one of these may take")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE")
    return parser


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VisceraError as error:
        print(error)
        raise SystemExit(error.exit_code) from error
