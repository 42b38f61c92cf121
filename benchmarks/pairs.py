"""Ours beside a peer's: the same work on the same input, taken in turn, and one line for each pair.

    RATIO name=NAME ours=… peer=… ratio=…

Ratios are of medians, the peer's over ours: above 1 ours is better. A benchmark makes its pairs like this:

    benchmark = Benchmark.of_command_line("loss", __doc__, peers=["monai"])
    benchmark.time("loss_time_vs_monai", ours, peer, peer_settings="DiceLoss(…), as its documentation advises")
    benchmark.write()

Where a peer has several settings that might be its best, `time` takes all of them, and the fastest counts.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from benchmarks.quick import parser_of
from benchmarks.record import RESULTS, processor_kind, record
from viscera.engine.hardware import choose_device

Run = Callable[[], object]


_SECONDS, _QUICK_SECONDS = 60.0, 6.0  # that the repeats of one pair may take, beyond the first
_LONG_SECONDS = 20.0  # a run that takes so long counts without a warm-up
_HOPELESS = 1.5  # times slower than the fastest setting of the peer: a setting that is not tried again


def in_turn(
    runs: Mapping[str, Run], repeats: int, device: torch.device | None = None, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each, one after another and again, after one warm-up of each short one; a GPU is waited for."""

    def once(run: Run) -> float:
        gc.collect()
        started = time.perf_counter()
        run()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    first = {name: once(run) for name, run in runs.items()} if warm_up else {}
    seconds = {name: [first[name]] if first.get(name, 0) >= _LONG_SECONDS else [] for name in runs}
    for so_many in range(1, repeats + 1):
        for name, run in runs.items():
            if len(seconds[name]) < so_many:
                seconds[name].append(once(run))
    return seconds


def peer_at_its_best(
    ours: Run, peers: Mapping[str, Run], repeats: tuple[int, int], most_s: float, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of `ours` and of each setting of the peer, in turn: of all once, then of those that may be the fastest.

    `repeats` are the fewest and the most: as many as go into `most_s` seconds beyond the first.
    """
    runs = {"ours": ours, **peers}
    seconds = in_turn(runs, 1, device)
    bar = _HOPELESS * min(seconds[settings][0] for settings in peers)
    going_on = {name: run for name, run in runs.items() if name == "ours" or seconds[name][0] <= bar}
    round_s = sum(seconds[name][0] for name in going_on)
    fewest, most = repeats
    more = min(most - 1, max(fewest - 1, int(most_s / round_s)))
    for name, values in in_turn(going_on, more, device, warm_up=False).items():
        seconds[name] += values
    return seconds


def interleaved(first: Run, second: Run, repeats: int = 7) -> dict[str, Any]:
    """Seconds of two ways to do one thing, taken in turn, and the ratio of the medians, the first over the second."""
    seconds = in_turn({"ours_s": first, "other_s": second}, repeats)
    ratio = statistics.median(seconds["ours_s"]) / statistics.median(seconds["other_s"])
    rounded = {name: [float(f"{value:.4g}") for value in values] for name, values in seconds.items()}
    return {**rounded, "ratio_of_medians": round(ratio, 3)}


@dataclass
class Benchmark:
    """The pairs of one benchmark, as its command line asks for them."""

    name: str  # of the file of results
    peers: Sequence[str]  # packages, whose versions are recorded
    quick: bool = False  # small and few repeats, under a minute; nothing is written
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    options: Mapping[str, str] = field(default_factory=dict)  # of this benchmark alone
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)  # whatever else was measured

    @classmethod
    def of_command_line(
        cls, name: str, purpose: str | None, peers: Sequence[str] = (), threads: int = 1, **more: str
    ) -> "Benchmark":
        """From `--quick`, `--device` and `--threads`, by default as many as given here; and what else it takes."""
        parser = parser_of(purpose)
        parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1")
        parser.add_argument(
            "--threads", type=int, default=threads, help=f"threads of PyTorch, ours and the peers' (default {threads})"
        )
        for option, default in more.items():
            parser.add_argument(f"--{option}", default=default, help=f"by default {default}")
        given = parser.parse_args()
        torch.set_num_threads(given.threads)
        options = {option: getattr(given, option) for option in more}
        return cls(name, peers, given.quick, choose_device(given.device), options)

    def time(
        self,
        name: str,
        ours: Run,
        peer: Run | Mapping[str, Run],
        *,
        goal: float,
        peer_settings: str,
        repeats: int = 7,
        **notes: object,
    ) -> float:
        """Seconds of both, and their ratio. Of a peer with several settings, by what they are, the fastest counts.

        `repeats` is how many there are at most: fewer of slow runs.
        """
        peers = dict(peer) if isinstance(peer, Mapping) else {peer_settings: peer}
        limits = ((1, min(3, repeats)), _QUICK_SECONDS) if self.quick else ((2, repeats), _SECONDS)
        seconds = peer_at_its_best(ours, peers, *limits, self.device)
        medians = {settings: statistics.median(seconds[settings]) for settings in peers}
        best = min(medians, key=lambda settings: medians[settings])
        others = {settings: _rounded(value) for settings, value in medians.items() if settings != best}
        if others:
            notes["slower_settings_of_the_peer"] = others
        notes["repeats"] = {"ours": [*map(_rounded, seconds["ours"])], "peer": [*map(_rounded, seconds[best])]}
        ours_s = statistics.median(seconds["ours"])
        return self.pair(name, ours_s, medians[best], goal=goal, unit="s", peer_settings=best, **notes)

    def pair(
        self, name: str, ours: float, peer: float, *, goal: float, unit: str, peer_settings: str, **notes: object
    ) -> float:
        """Note a pair of figures of which the smaller is better, print its line, and return the ratio.

        That is of the two figures, unless the notes have a `ratio` of their own, such as the median of many pairs.
        """
        ratio = cast("float", notes.pop("ratio", peer / ours))
        self.pairs[name] = {
            "ours": _rounded(ours),
            "peer": _rounded(peer),
            "ratio": _rounded(ratio, 3),
            "goal": goal,
            "unit": unit,
            "peer_settings": peer_settings,
            **notes,
        }
        print(f"RATIO name={name} ours={ours:.4g} peer={peer:.4g} ratio={ratio:.3g}")
        sys.stdout.flush()
        if not self.quick:
            self.write(complete=False)
        return ratio

    def worst(self, name: str) -> float:
        """Note the worst of the pairs whose names begin with this one, under this one; its ratio."""
        variant = min(
            (key for key in self.pairs if key.startswith(f"{name}_")), key=lambda key: self.pairs[key]["ratio"]
        )
        pair = self.pairs[variant]
        figures = {key: pair[key] for key in ("ours", "peer", "goal", "unit", "peer_settings")}
        return self.pair(name, **figures, worst_of_the_variants=variant)

    def write(self, *, complete: bool = True) -> None:
        """Record all pairs and notes; a quick run prints them only."""
        figures = {"pairs": self.pairs, **self.notes}
        folder = None if self.quick else RESULTS / processor_kind(self.device)
        record(self.name, figures, peers=self.peers, device=self.device, folder=folder, complete=complete)


def _rounded(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
