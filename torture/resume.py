"""Trainings of random settings, stopped at random steps by all means and resumed, beside some that nothing stopped.

Afterwards every file of the run is the same to the byte, and so is, by its hash, all that was drawn at random for each
step. What stops them: SIGTERM, Ctrl-C, SIGKILL, and fewer `--iterations`; the machine has other processors free each
time. Several ranks are forks that join as those of torchrun do, or processes of torchrun itself.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import scipy.ndimage  # noqa: F401 - loaded once, before the forks, as the next
import torch
import yaml
from pydantic import ValidationError

import viscera.cli.app
import viscera.stages.train  # noqa: F401
from torture.commands import TINY, call
from torture.outcome import Outcome
from torture.stand import Stand, digests, unsound
from torture.still_clock import still_clock
from torture.two_at_once import at_once
from viscera.core.config import Config, TrainConfig
from viscera.core.processes import usable_processors
from viscera.engine.feed import Batch, NetworkInput
from viscera.engine.hardware import computes_bfloat16
from viscera.engine.monitor import StepResult
from viscera.engine.trainer import Trainer
from viscera.io.checkpoint import Checkpoint, load_checkpoint
from viscera.io.runlog import RunFolder

RUN, DRAWN = "run", "drawn"
FEWER = "fewer iterations"
BY_SIGNAL = {"SIGTERM": 130, "SIGINT": 130, "SIGKILL": -9}  # and the exit code that follows
_DIVERGED, _WITHOUT_A_RANK = 4, 4
_WAIT_S = 20  # for a rank
_TORCHRUN_AT = 4  # which round has processes of torchrun


@dataclasses.dataclass(frozen=True)
class Piece:
    """One call of `viscera train`, and what stops it."""

    iterations: int
    ranks: int = 1
    free: int = 1  # processors that others leave free
    stopped_by: str = ""  # a signal's name, or `FEWER`; nothing stops it
    at: int = 0  # in which of its own steps the signal comes
    after_s: float = 0.0  # from the beginning of that step
    to_rank: int | None = None  # None: all
    resume: bool = True

    def here(self, rank: int) -> int:
        """Be one of the ranks; the exit code."""
        os.environ.pop("OMP_NUM_THREADS", None)
        for seed in (random.seed, np.random.seed, torch.manual_seed):  # generators that nobody may draw from
            seed(int.from_bytes(os.urandom(3)))
        options = ["--config=settings.yaml", f"--iterations={self.iterations}", *["--resume"] * self.resume]
        with mock.patch("viscera.engine.hardware.free_processors", return_value=self.free), self._watched(rank):
            return call("train", "store", RUN, *options)

    @contextlib.contextmanager
    def _watched(self, rank: int) -> Iterator[None]:
        steps, step, given = itertools.count(1), Trainer.training_step, Trainer.network_input
        number = getattr(signal, self.stopped_by, None) if self.to_rank in {None, rank} else None

        def training_step(trainer: Trainer, batch: Batch, *, diagnose: bool = False) -> StepResult:
            if next(steps) == self.at and number is not None:
                threading.Timer(self.after_s, os.kill, (os.getpid(), number)).start() if self.after_s else os.kill(
                    os.getpid(), number
                )
            with mock.patch.object(Trainer, "network_input", network_input):
                return step(trainer, batch, diagnose=diagnose)

        def network_input(trainer: Trainer, batch: Batch) -> NetworkInput:
            found = given(trainer, batch)
            kept = trainer._kept_channels()  # noqa: SLF001 - dropout's, a pure function
            parts = [found.x, found.labels, *([kept] if kept is not None else [])]
            digest = hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest()
            with Path(DRAWN).open("a", encoding="ascii") as file:
                file.write(f"{rank} {trainer.step + 1} {digest}\n")
            return found

        with mock.patch.object(Trainer, "training_step", training_step):
            yield


# --- settings


def drawn_settings(order: random.Random, ranks: int = 1) -> dict[str, Any]:
    """Settings of a training that takes a fraction of a second, all that can matter for its bits at random."""
    while True:
        settings = _drawn(order, ranks)
        with contextlib.suppress(ValidationError):  # another combination
            Config.model_validate({"train": settings})
            return settings


def _drawn(order: random.Random, ranks: int) -> dict[str, Any]:
    any_of = order.choice
    has_bfloat16 = computes_bfloat16(torch.device("cpu"))
    iterations, validated = order.randint(8, 20), order.randint(2, 6)
    levels = any_of([2, 2, 3])
    settings: dict[str, Any] = {
        "device": "cpu",
        "iterations": iterations,
        "patch": any_of([8, 8, 12]),
        "batch_size": order.randint(ranks, 3),
        "filters": any_of([2, 4]),
        "levels": levels,
        "seed": order.randrange(2**31),
        "precision": any_of(["auto", "float32", "bfloat16" if has_bfloat16 else "float32"]),
        "memory_layout": any_of(["auto", "channels_last", "channels_first"]),
        "resident": any_of(["auto", "always", "never"]),
        "capture": any_of(["auto", "always", "never"]),
        "deterministic": any_of([True, False]),
        "initialisation": any_of(["he", "keras"]),
        "batch_norm": any_of(["running", "recomputed"]),
        "average": any_of([0.0, 0.9, 0.999]),
        "checkpoint_every": order.randint(1, iterations),
        "validate_every": validated,
        "log_every": order.randint(1, validated // 2),
        "monitor_windows": order.randint(1, 3),
        "diagnose": any_of([True, False]),
        "weighting": any_of(["uniform", "simple", "square", 0.5]),
        "learning_rate": any_of([0.001, 0.01]),
        "organ_windows": any_of([0.0, 0.33, 1.0]),
        "network": {
            "normalisation": any_of(["batch", "batch", "instance", "group"]),
            "groups": 2,
            "encoder": any_of(["plain", "plain", "residual"]),
            "blocks": [1, 2, 1],
            "deep_supervision": levels == 3 and any_of([True, False]),
            "dropout": any_of([0.0, 0.5]),
        },
        "loss": {
            "sums": any_of(["batch", "sub_volume"]),
            "smoothing": any_of([0.0, 1e-5]),
            "numerator": any_of(["voxels", "volumes"]),
            "normalise": any_of(["none", "sum_to_L"]),
            "background": any_of(["own", "mean"]),
            "max_ratio": any_of([None, 100.0]),
            "cross_entropy": any_of([0.0, 1.0]),
            "cross_entropy_weighting": any_of(["uniform", "simple"]),
            "schedule": {"to": any_of([None, "uniform", 0.25]), "first_step": 2, "last_step": iterations - 2},
        },
        "rate_schedule": {
            "shape": any_of(["constant", "polynomial", "cosine"]),
            "warm_up": any_of([0, 3]),
            "steps": iterations,  # else of the first call, which may be of fewer iterations
            "lowest": any_of([0.0, 0.1]),
        },
        "optimiser": {
            "name": any_of(["adam", "adam", "adamw", "sgd"]),
            "weight_decay": any_of([0.0, 3e-5]),
            "clip_norm": any_of([None, 1.0]),
            "encoder_rate": any_of([1.0, 1.0, 0.1]),
        },
        "adam": {"epsilon_place": any_of(["keras", "pytorch"]), "beta2": any_of([0.99, 0.999])},
        "intensity": {"scaling": any_of(["unit", "z_score"])},
        "augment": _augmentation(order),
    }
    return settings


def _augmentation(order: random.Random) -> dict[str, Any]:
    if order.random() < 1 / 3:
        return {"enabled": False}
    fields = (name for name in type(TrainConfig().augment).model_fields if name.endswith("_probability"))
    mirrored = order.choice([[], ["R"], ["A", "S"]])
    return {"enabled": True, "mirror_axes": mirrored, **{name: order.choice([0.0, 0.5, 1.0]) for name in fields}}


# --- a training in pieces


def make_store(stand: Stand) -> None:
    """Six cases, four of them to train on, in a folder of their own; and load what a training does."""
    stand.work.mkdir(exist_ok=True)
    shares = ("--test-fraction=0.16", "--validation-fraction=0.16")
    for arguments in (
        ("phantom", "raw", "--cases=6", "--shape", "14", "12", "10"),
        ("prepare", "raw", "store", "--downsample=1", *shares),
        ("train", "store", "first", *TINY, "--iterations=2"),
    ):
        ended = stand.run(partial(call, *arguments), learn=True)
        if ended.code:
            raise RuntimeError(f"{arguments[0]}: {ended.text}")


def called(stand: Stand, piece: Piece) -> tuple[list[int], str]:
    """Run a piece in forks of this process, one a rank; their exit codes, and what they said."""
    port = _free_port()

    def as_rank(rank: int) -> int:
        if piece.ranks > 1:
            names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
            names |= {"WORLD_SIZE": piece.ranks, "LOCAL_WORLD_SIZE": piece.ranks, "VISCERA_WAIT_S": _WAIT_S}
            os.environ.update({name: str(value) for name, value in names.items()})
        return piece.here(rank)

    ended = at_once(stand, [partial(as_rank, rank) for rank in range(piece.ranks)], [0.0] * piece.ranks)
    return [each.code for each in ended], "\n".join(each.text.strip()[-400:] for each in ended if each.text.strip())


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def by_torchrun(stand: Stand, piece: Piece) -> tuple[list[int], str]:
    """Run a piece in processes of torchrun, which starts them again where one is killed; its exit code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=1"]
    module = [f"--nproc-per-node={piece.ranks}", "-m", "torture.resume", json.dumps(dataclasses.asdict(piece))]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "VISCERA_WAIT_S": str(_WAIT_S)}
    ended = subprocess.run(
        [*torchrun, *module], cwd=stand.work, env=here, capture_output=True, text=True, check=False, timeout=180
    )
    return [ended.returncode], ended.stdout[-400:] + ended.stderr[-800:]


def of_torchrun(text: str) -> int:
    """Be one of its processes; one that was started again is not stopped any more."""
    piece = Piece(**json.loads(text))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        piece = dataclasses.replace(piece, stopped_by="", resume=True)
    with still_clock():
        return piece.here(int(os.environ["RANK"]))


@dataclasses.dataclass
class Round:
    """One training, and the same in pieces."""

    settings: dict[str, Any]
    free: int = 1  # processors that others left free where it began
    stops: Counter[str] = dataclasses.field(default_factory=Counter)
    twice: int = 0  # steps that were done again after a kill
    wrong: list[str] = dataclasses.field(default_factory=list)
    is_undecided: bool = False  # it diverges


def one_round(stand: Stand, order: random.Random, ranks: int = 1, settings: dict[str, Any] | None = None) -> Round:
    """Train without a stop and in pieces; what is different then."""
    done = Round(settings or drawn_settings(order, ranks))
    iterations = done.settings["iterations"]
    (stand.work / "settings.yaml").write_text(yaml.safe_dump({"train": done.settings}), encoding="utf-8")
    _clear(stand)
    free = [1, 1, len(usable_processors())]  # several threads take longer where others work beside
    done.free = order.choice(free)
    piece = Piece(iterations, ranks, free=done.free, resume=False)
    codes, said = called(stand, piece)
    if set(codes) == {_DIVERGED} and "not finite" in said:
        done.is_undecided = True
        return done
    if set(codes) != {0}:
        done.wrong.append(f"undisturbed it ends with {codes}: {said}")
        return done
    shutil.rmtree(stand.home / "whole", ignore_errors=True)
    (stand.work / RUN).rename(stand.home / "whole")
    whole = drawn(stand)
    _clear(stand)
    for number in range(order.randint(1, 4)):
        stopped = _stopped_piece(stand, order, dataclasses.replace(piece, resume=number > 0), done.settings)
        _note(done, stopped, *called(stand, stopped))
        piece = dataclasses.replace(piece, free=order.choice(free))
    codes, said = called(stand, dataclasses.replace(piece, resume=True))
    if set(codes) != {0}:
        done.wrong.append(f"resumed to its end it ends with {codes}: {said}")
    _compare(stand, done, whole)
    return done


def _clear(stand: Stand) -> None:
    shutil.rmtree(stand.work / RUN, ignore_errors=True)
    (stand.work / DRAWN).unlink(missing_ok=True)


def _stopped_piece(stand: Stand, order: random.Random, piece: Piece, settings: dict[str, Any]) -> Piece:
    """A piece that something stops, from where the run is."""
    last = RunFolder(stand.work / RUN).last
    step = load_checkpoint(last).step if last.exists() else 0
    between = range(settings["validate_every"], piece.iterations, settings["validate_every"])
    ends = [each for each in between if each > step]
    by = order.choice([*BY_SIGNAL, "SIGKILL", *[FEWER] * bool(ends and not settings["diagnose"])])
    if by == FEWER:  # at a step that is measured in any case, as the last one is
        return dataclasses.replace(piece, iterations=order.choice(ends), stopped_by=FEWER)
    return dataclasses.replace(
        piece,
        stopped_by=by,
        at=order.randint(1, max(1, piece.iterations - step)),
        after_s=order.choice([0.0, 0.0, order.uniform(0, 0.02)]),
        to_rank=order.choice([None, order.randrange(piece.ranks)]),
    )


def _note(done: Round, piece: Piece, codes: Sequence[int], said: str) -> None:
    """Count a stop, and look at how the ranks ended."""
    expected = BY_SIGNAL.get(piece.stopped_by, 0)
    done.stops[piece.stopped_by] += expected in codes if expected else set(codes) == {0}
    allowed = {0, expected} | ({_WITHOUT_A_RANK} if piece.ranks > 1 else set())
    if not set(codes) <= allowed or "Traceback" in said:
        done.wrong.append(f"{piece}: it ends with {codes}: {said}")


# --- what is compared


def drawn(stand: Stand) -> dict[tuple[int, int], set[str]]:
    """By rank and step, the hashes of all that was drawn for it, in every piece that took it."""
    found: dict[tuple[int, int], set[str]] = {}
    for line in (stand.work / DRAWN).read_text(encoding="ascii").splitlines():
        rank, step, digest = line.split()
        found.setdefault((int(rank), int(step)), set()).add(digest)
    return found


def _compare(stand: Stand, done: Round, whole: dict[tuple[int, int], set[str]]) -> None:
    now = drawn(stand)
    other = sorted(key for key in {*whole, *now} if whole.get(key) != now.get(key))
    if other:
        done.wrong.append(f"drawn otherwise for (rank, step) {other[0]} and {len(other) - 1} more")
    lines = (stand.work / DRAWN).read_text(encoding="ascii").splitlines()
    done.twice += len(lines) - len(now)
    done.wrong += differences(stand.home / "whole", stand.work / RUN, had_fewer=done.stops[FEWER] > 0)
    done.wrong += unsound(stand.work / RUN)


def differences(whole: Path, run: Path, *, had_fewer: bool = False) -> list[str]:
    """Files of two runs that are not the same to the byte; of checkpoints what in them.

    The best checkpoint of one that was to have fewer iterations at first says so, and the card has its checksum.
    """
    before, now, found = digests(whole), digests(run), list[str]()
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name) or (had_fewer and name.startswith("card.")):
            continue
        if name not in before or name not in now:
            found.append(f"{name} is in one of them alone")
        elif name.endswith(".pt"):
            one, two = (_parts(load_checkpoint(folder / name)) for folder in (whole, run))
            keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
            if not (had_fewer and name == "best.pt" and keys == ["config"]):
                found.append(f"{name} differs: {', '.join(keys[:4]) or 'in its bytes alone'}")
        else:
            found.append(f"{name} differs")
    return found


def _parts(checkpoint: Checkpoint) -> dict[str, str]:
    """What each part of a checkpoint holds, by its hash or as it is written."""
    state = checkpoint.optimizer["state"]
    tensors = {f"model {name}": each for name, each in checkpoint.model.items()}
    tensors |= {f"average {name}": each for name, each in checkpoint.average.items()}
    tensors |= {f"moment {number} {name}": each for number, of in state.items() for name, each in of.items()}
    found = {name: _digest(each) for name, each in tensors.items()}
    others: dict[str, object] = {
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "best": checkpoint.best_validation_dice,
    }
    others |= {"groups": checkpoint.optimizer["param_groups"], "config": checkpoint.config}
    return found | {name: repr(each) for name, each in others.items()}


def _digest(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return hashlib.sha256(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


# --- the trial


def torchrun_round(stand: Stand, order: random.Random) -> Round:
    """Two ranks that nothing stops, and two of torchrun, one of which is killed and started again."""
    settings = drawn_settings(order, 2)
    done = one_round(stand, order, 2, settings)
    if done.is_undecided or done.wrong:
        return done
    whole = drawn(stand)
    _clear(stand)
    at, rank = order.randint(2, settings["iterations"]), order.randrange(2)
    piece = Piece(settings["iterations"], 2, free=done.free, stopped_by="SIGKILL", at=at, to_rank=rank, resume=False)
    codes, said = by_torchrun(stand, piece)
    done.stops["SIGKILL under torchrun"] += 1
    if codes != [0]:
        done.wrong.append(f"torchrun ends with {codes}: {said}")
    _compare(stand, done, whole)
    return done


def trial(seconds: float, seed: int) -> Outcome:
    """Rounds until the time is over: every fourth of two ranks, one of them by torchrun."""
    torch.set_num_threads(1)  # before the forks, whose threads could not be those of this process
    outcome, started, stops, rounds = Outcome("resume"), time.monotonic(), Counter[str](), Counter[str]()
    number, twice = 0, 0
    with Stand.opened() as stand:
        make_store(stand)
        while number <= _TORCHRUN_AT or time.monotonic() - started < seconds:
            began, order = time.monotonic(), random.Random(f"{seed} {number}")
            if number == _TORCHRUN_AT:
                done, kind = torchrun_round(stand, order), "of two ranks, under torchrun as well"
            elif number % 4 == 3:
                done, kind = one_round(stand, order, 2), "of two ranks"
            else:
                done, kind = one_round(stand, order), "of one process"
            rounds[kind if not done.is_undecided else "that diverge, left out"] += 1
            stops += done.stops
            twice += done.twice
            outcome.lost += bool(done.wrong)
            outcome.failures += [f"seed {seed}, round {number}: {each}; {done.settings}" for each in done.wrong]
            outcome.worst_s = max(outcome.worst_s, time.monotonic() - began)
            number += 1
    outcome.faults = stops.total()
    outcome.figures = {f"trainings {kind}": str(count) for kind, count in sorted(rounds.items())}
    outcome.figures |= {f"stopped by {by}": str(count) for by, count in sorted(stops.items())}
    outcome.figures["steps that were done again"] = str(twice)
    return outcome


if __name__ == "__main__":
    sys.exit(of_torchrun(sys.argv[1]))
