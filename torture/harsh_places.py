"""Every command of the journey where little is allowed: full and read-only disks, no rights, little memory, few files.

Where a command cannot do its work it says one sentence, ends with the code that it was designed to end with, leaves
what was there sound, and does its work when it is called again in a better place.
"""

import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from torture.confined import (
    as_nobody,
    bound_by_permissions,
    few,
    fill_up,
    little_memory,
    made_read_only,
    small_disk,
)
from torture.harsh_cells import BAD_INPUT, DONE, FAILED, PREPARED, Command, Grounds, Place
from torture.outcome import Outcome

_PREDICT = "predict {given}/run {given}/data/imagesTr {disk}/"
COMMANDS: dict[str, Command] = {
    "phantom": Command("phantom {disk}/data2 --cases 3 --shape 16 16 16", makes=("data2/labelsTr",)),
    "check": Command("check {given}/data --out {disk}/check", makes=("check/index.html",)),
    "prepare": Command(f"prepare {{given}}/data {{disk}}/store2 {PREPARED}", makes=("store2/manifest.json",)),
    "prepare more": Command(f"prepare {{given}}/more {{disk}}/store {PREPARED}", needs=("store",)),
    "train": Command("train {given}/store {disk}/run2 {tiny}", makes=("run2/last.pt",), resumed="--resume"),
    "train on": Command("train {given}/store {disk}/run {tiny} --resume --iterations 12", needs=("run",)),
    "predict": Command(f"{_PREDICT}out --device cpu", makes=("out",)),
    "predict again": Command(
        f"{_PREDICT}predictions --device cpu --set predict.mode=sub_volumes", needs=("predictions",)
    ),
    "evaluate": Command(
        "evaluate {given}/predictions {given}/data/labelsTr --out {disk}/scores2.csv", makes=("scores2.csv",)
    ),
    "evaluate again": Command(
        "evaluate {given}/predictions {given}/data/labelsTr --metrics dice --out {disk}/scores.csv",
        needs=("scores.csv", "scores.csv.sha256"),
    ),
    "study": Command(
        "study {given}/store {disk}/study2 {of_study} --weightings uniform,square", makes=("study2/report/index.html",)
    ),
    "study of more": Command(
        "study {given}/store {disk}/study {of_study} --weightings uniform,simple --fuse", needs=("study",)
    ),
    "report": Command("report {disk}/study", needs=("study",), makes=("study/report/index.html",)),
    "export": Command(
        "export {given}/run {disk}/exported --to onnx,monai-bundle,safetensors,slicer", makes=("exported",)
    ),
    "calibrate": Command("calibrate {disk}/run {given}/store", needs=("run",)),
    "card": Command("card {disk}/run --scores {given}/scores.csv", needs=("run",)),
    "doctor of a store": Command(
        "doctor {given}/store --device cpu --set train.patch=8 --set train.filters=2 --set train.iterations=20"
    ),
    "doctor of a run": Command("doctor {disk}/run --store {given}/store", needs=("run",)),
    "plan": Command("plan {given}/store --iterations 50 --device cpu --out {disk}/plan.yaml", makes=("plan.yaml",)),
    "verify": Command("verify {disk}/study", needs=("study",)),
    "view": Command("view {disk}/study --scans {given}/store --no-browser", needs=("study",), is_stopped=True),
    "config": Command("config show"),
}
IN_SEVERAL: dict[str, Command] = {
    "prepare in two": Command(
        f"prepare {{given}}/data {{disk}}/store2 --jobs 2 {PREPARED}", makes=("store2/manifest.json",), in_several=True
    ),
    "predict in two": Command(f"{_PREDICT}out --device cpu --jobs 2", makes=("out",), in_several=True),
    "study in two": Command(
        "study {given}/store {disk}/study {of_study} --weightings uniform,simple,square --jobs 2",
        needs=("study",),
        in_several=True,
    ),
}
ALL = COMMANDS | IN_SEVERAL
READING = ("doctor of a store", "verify", "view", "config")  # write nothing
WRITING = tuple(name for name in COMMANDS if name not in READING)
KEEPING_NOTHING = "doctor of a run"  # where it cannot write what it has found it says so, and shows it all the same


def _nothing(_disk: Path) -> None: ...


def _without_streams(numbers: int) -> Callable[[Path], object]:
    return lambda _: os.closerange(0, numbers)


def _no_folder(_disk: Path) -> None:
    gone = Path(tempfile.mkdtemp())
    os.chdir(gone)
    gone.rmdir()


def _with_mode(of_folders: int, of_files: int) -> Callable[[Path], object]:
    def enter(disk: Path) -> None:
        for path in (*disk.rglob("*"), disk):
            path.chmod(of_folders if path.is_dir() else of_files)
        bound_by_permissions()

    return enter


def _no_processes(_disk: Path) -> None:
    as_nobody()
    few(resource.RLIMIT_NPROC, 0)


def _shared_memory(size: int) -> Callable[[Path], object]:
    return lambda _: small_disk(Path("/dev/shm"), size)  # noqa: S108 - that it is small is what is tested


def _few_files(number: int) -> Callable[[Path], object]:
    return lambda _: few(resource.RLIMIT_NOFILE, number)


def _more_memory(mebibytes: int) -> Callable[[Path], object]:
    return lambda _: little_memory(mebibytes * 2**20)


_ANY = tuple(COMMANDS)
_DONE, _REFUSED, _EITHER = frozenset({DONE}), frozenset({BAD_INPUT}), frozenset({DONE, BAD_INPUT})
_WITHOUT_MEANS = frozenset({DONE, BAD_INPUT, FAILED})
_FULL = r"the disk is full|No space left|File too large"
_NO_HOME: dict[str, str | None] = {"HOME": None, "TMPDIR": None, "XDG_CACHE_HOME": None}
PLACES: dict[str, Place] = {
    "as usual": Place(_nothing, _DONE, commands=tuple(ALL)),
    "no standard streams": Place(_without_streams(3), _EITHER, commands=_ANY),
    "no input": Place(_without_streams(1), _DONE, commands=_ANY),
    "no current folder": Place(_no_folder, _REFUSED, "current folder is not available any more", _ANY),
    "no home": Place(_nothing, _DONE, commands=_ANY, environment=_NO_HOME),
    "a home that is not there": Place(
        _nothing, _DONE, commands=_ANY, environment=_NO_HOME | {"HOME": "/nowhere", "TMPDIR": "/nowhere"}
    ),
    "a home that is a device": Place(
        _nothing, _DONE, commands=_ANY, environment=_NO_HOME | {"HOME": "/dev/null", "TMPDIR": "/dev/full"}
    ),
    "a full home": Place(
        lambda disk: fill_up(disk.parent / "home", 0),
        _DONE,
        commands=_ANY,
        environment=_NO_HOME | {"HOME": "{home}", "TMPDIR": "{home}"},
    ),
    "a locale that is not UTF-8": Place(  # the folder's name is no ASCII
        _nothing,
        _DONE,
        commands=("prepare", "train", "predict again", "evaluate", "verify"),
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        is_program=True,
    ),
    "64 files": Place(_few_files(64), _WITHOUT_MEANS, "too many open files.*ulimit", tuple(ALL)),
    "16 files": Place(_few_files(16), _WITHOUT_MEANS, "too many open files.*ulimit", _ANY),
    "6 files": Place(
        _few_files(6), _WITHOUT_MEANS, "too many open files.*ulimit", tuple(name for name in _ANY if name != "view")
    ),
    "no more processes": Place(_no_processes, _WITHOUT_MEANS, "can't start new thread.*ulimit", tuple(ALL)),
    "64 MB of shared memory": Place(_shared_memory(64_000_000), _DONE, commands=tuple(IN_SEVERAL)),
    "no shared memory": Place(_shared_memory(4096), _DONE, commands=tuple(IN_SEVERAL)),
    "a read-only disk": Place(made_read_only, _REFUSED, "Read-only file system", WRITING),
    "a read-only disk, to read": Place(made_read_only, _DONE, commands=(*READING, KEEPING_NOTHING)),
    "a disk of others": Place(_with_mode(0o555, 0o444), _REFUSED, "Permission denied", WRITING),
    "files of others": Place(
        _with_mode(0o777, 0), _REFUSED, "Permission denied", tuple(name for name in _ANY if COMMANDS[name].needs)
    ),
    "small files alone": Place(lambda _: few(resource.RLIMIT_FSIZE, 3000), _EITHER, _FULL, WRITING),
    **{
        f"a disk with {room:.0%} of the room": Place(_nothing, _EITHER, _FULL, WRITING, room=room)
        for room in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
    },
    **{
        f"{more} MiB more memory": Place(_more_memory(more), _WITHOUT_MEANS, "memory|can't start new thread", _ANY)
        for more in (8, 24, 64, 160, 400)
    },
}
NOT_REFUSED = {"a read-only disk", "a disk of others", "small files alone"}  # by `KEEPING_NOTHING`


def cells_of(seed: int = 0, places: Iterable[str] = PLACES, commands: Iterable[str] = ALL) -> list[tuple[str, str]]:
    """Pairs of a command and a place: all as usual first, which says how much room they take, then in some order."""
    wanted = set(commands)
    rest = [
        (command, place)
        for place in places
        for command in PLACES[place].commands
        if command in wanted and place != "as usual" and not (place in NOT_REFUSED and command == KEEPING_NOTHING)
    ]
    random.Random(seed).shuffle(rest)
    return [*((name, "as usual") for name in ALL if name in wanted), *rest]


def trial(seconds: float, seed: int) -> Outcome:
    """All commands in all places, as far as the time allows."""
    torch.set_num_threads(1)
    outcome, started = Outcome("harsh_places"), time.monotonic()
    codes, skipped, needed = Counter[int](), Counter[str](), dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="viscera-härsh-") as folder:
        Path(folder).chmod(0o755)
        grounds, cells = Grounds(Path(folder)).make(), cells_of(seed)
        for number, (command, place) in enumerate(cells):
            if time.monotonic() - started > seconds:
                outcome.figures["left out for lack of time"] = str(len(cells) - number)
                break
            cell = grounds.cell(ALL[command], PLACES[place], needed.get(command, 0))
            if cell.skipped:
                skipped[f"{place}: {cell.skipped}"] += 1
                continue
            if place == "as usual":
                needed[command] = cell.needed
            codes[cell.ended.code] += 1
            outcome.faults += place != "as usual"
            outcome.lost += cell.is_lost
            outcome.tracebacks += any("traceback" in each or "exit code" in each for each in cell.wrong)
            outcome.failures += [f"{command}, {place}: {each}" for each in cell.wrong]
            outcome.worst_s = max(outcome.worst_s, cell.ended.seconds)
            outcome.worst_mib = max(outcome.worst_mib, cell.ended.mebibytes)
    outcome.figures |= {
        "commands": str(len(ALL)),
        "places": str(len(PLACES)),
        "exit codes": ", ".join(f"{code}: {number}" for code, number in sorted(codes.items())),
        **{f"skipped, {why}": str(number) for why, number in skipped.items()},
    }
    return outcome
