"""One command in one harsh place: called in a process of its own, judged, and called again in a better place.

Each is forked from this process, which has loaded all.
"""

import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import viscera.check.check_stage
import viscera.doctor.diagnosis
import viscera.export.export_stage
import viscera.planning.plan_stage
import viscera.study.report.report_stage
import viscera.view.open_gallery
import viscera.view.view_server  # noqa: F401 - all of them loaded once, before the forks
from torture.confined import Ended, NotPermittedError, fill_up, free_bytes, in_child, own_mounts, small_disk
from viscera.cli import main
from viscera.core.errors import BadInputError
from viscera.io.verifying.file_judgement import BAD
from viscera.stages.verify import verify
from viscera.study import launch

DONE, BAD_INPUT, FAILED = 0, 3, 4  # exit codes
TINY = ["--patch", "8", "--batch-size", "2", "--filters", "2", "--iterations", "6", "--device", "cpu"]
TINY += ["--set", "train.levels=2", "--set", "train.monitor_windows=2", "--checkpoint-every", "3"]
OF_STUDY = [*TINY[:-2], "--set", "train.checkpoint_every=3", "--learning-rates", "0.01"]
PREPARED = "--downsample 1 --test-fraction 0.2 --validation-fraction 0.2"
_DISK, _HOME = 64 * 2**20, 2**20  # bytes
_ARTIFACTS = ("store", "run", "predictions", "scores.csv", "study")  # of which all is known by checksums
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{8}-")
_SENTENCE = re.compile(r"^viscera: .*\S", re.MULTILINE)
# of C and Rust, which end a process that lacks the memory for a thread's or an error's own data
_ABORTED = re.compile("cannot allocate memory for thread-local data: ABORT|memory allocation of .* bytes failed")
_VIEWED_S = 1.0


@dataclass(frozen=True)
class Command:
    """A command of the journey: its words, where `{disk}` is the place that is harsh, and `{given}` one that is not."""

    words: str
    needs: tuple[str, ...] = ()  # artifacts that lie on the disk before it is called
    makes: tuple[str, ...] = ()  # files or folders of the disk that are there after it
    resumed: str = ""  # what has to be added when it is called again
    is_stopped: bool = False  # it serves until Ctrl-C
    in_several: bool = False  # processes, as users have them; else a study trains in its own

    def call(self, given: Path, disk: Path, *, again: bool = False) -> list[str]:
        """The words of a call."""
        words = self.words.format(disk=disk, given=given, tiny=" ".join(TINY), of_study=" ".join(OF_STUDY))
        return f"{words} {self.resumed * again}".split()


@dataclass(frozen=True)
class Place:
    """Where a command is called: what is done to the process, which codes it may end with, and what it then says."""

    enter: Callable[[Path], object]  # in a child; the disk
    codes: frozenset[int]
    says: str = ""  # a pattern that is in what it says where it does not end with 0
    commands: tuple[str, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    room: float | None = None  # of the disk, as a share of what the command writes there; None: enough
    is_program: bool = False  # whether a command is started anew, as what Python looks at when it starts is other


class Cell(NamedTuple):
    """How a command in a place ended, and what is wrong with that."""

    ended: Ended
    said: str
    wrong: tuple[str, ...] = ()
    is_lost: bool = False  # something that was there is neither as it was nor as it should become
    skipped: str = ""  # why the machine has no such place
    needed: int = 0  # bytes of the disk that it took


class Grounds:
    """Artifacts to begin with, in a folder `given`, and a folder for each call."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given = folder, folder / "given"
        self._number = 0

    def make(self) -> "Grounds":
        """By the commands themselves; raises RuntimeError where one fails."""
        self.given.mkdir(parents=True)
        for words in (
            "phantom {given}/data --cases 5 --shape 16 16 16 --seed 1",
            "phantom {given}/more --cases 1 --shape 16 16 16 --seed 9",
            f"prepare {{given}}/data {{given}}/store {PREPARED}",
            "train {given}/store {given}/run {tiny}",
            "predict {given}/run {given}/data/imagesTr {given}/predictions --device cpu",
            "evaluate {given}/predictions {given}/data/labelsTr --out {given}/scores.csv",
            "study {given}/store {given}/study {of_study} --weightings uniform",
        ):
            self._make(Command(words))
        for kind, ending in (("imagesTr", "_0000"), ("labelsTr", "")):  # a case that the store does not know
            folder = self.given / "more" / kind
            (folder / f"phantom_000{ending}.nii.gz").rename(folder / f"another{ending}.nii.gz")
        return self

    def _make(self, command: Command) -> None:
        words, out = command.call(self.given, self.given), self.folder / "said"
        if in_child(lambda: _called(command, words, out, {})).code != DONE:
            raise RuntimeError(f"{' '.join(words)}: {_read(out)}")

    def cell(self, command: Command, place: Place, needed: int = 0) -> Cell:
        """Call a command in a place; `needed` are the bytes that it takes where there is enough room."""
        self._number += 1
        folder = self.folder / f"cell_{self._number}"
        for sub in ("disk", "home", "said"):
            (folder / sub).mkdir(parents=True)
        try:
            judged = in_child(lambda: _Judgement(command, place, folder, self.given).make(needed), 600)
            told = {path.name: _read(path) for path in (folder / "said").iterdir()}
            if "skipped" in told:
                return Cell(judged, "", skipped=told["skipped"])
            wrong = tuple(told.get("wrong", "").splitlines())
            if judged.code != DONE:
                wrong = (*wrong, f"the trial itself ended with {judged.code}: {_last(told.get('trial', ''))}")
            code, seconds, mebibytes, taken = (told.get("ended") or "0 0 0 0").split()
            ended = Ended(int(code), float(seconds), float(mebibytes))
            return Cell(ended, told.get("called", ""), wrong, "lost" in told, needed=int(taken))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Judgement:
    """Of one call, in a process that has disks of its own; what is found is written into the folder `said`."""

    def __init__(self, command: Command, place: Place, folder: Path, given: Path) -> None:
        self.command, self.place, self.given = command, place, given
        self.disk, self.home, self.said = folder / "disk", folder / "home", folder / "said"

    def make(self, needed: int) -> None:
        """Call the command in its place, see what came of it, call it again in a better place."""
        os.dup2(os.open(self.said / "trial", os.O_CREAT | os.O_WRONLY), 2)
        if not self._begin():
            return
        ballast = None
        if self.place.room is not None:
            ballast = fill_up(self.disk, int(needed * self.place.room) // 4096 * 4096)
        before = free_bytes(self.disk)
        ended = in_child(self._call_there)
        taken = max(0, before - free_bytes(self.disk))
        self._tell("ended", f"{ended.code} {ended.seconds} {ended.mebibytes} {taken}")
        if ballast is not None:
            ballast.unlink()
        _with_all_permissions(self.disk)
        wrong = [*_wrong_of(ended, _read(self.said / "called"), self.place), *_half_written(self.disk, ended)]
        unsound = [*_unsound(self.disk, self.command.needs)]
        if unsound:
            self._tell("lost", "yes")
        wrong += unsound
        if ended.code != DONE:
            wrong += self._called_again()
        wrong += (f"{each} is not there in the end" for each in self.command.makes if not (self.disk / each).exists())
        self._tell("wrong", "\n".join(" ".join(each.split()) for each in wrong))

    def _begin(self) -> bool:
        """Make the disks, and put what the command needs on them; whether this machine has such a place."""
        try:
            own_mounts()
            small_disk(self.disk, _DISK)
            small_disk(self.home, _HOME)
        except (NotPermittedError, OSError) as error:
            self._tell("skipped", str(error))
            return False
        for each in self.command.needs:
            source = self.given / each
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.disk / each)
        _with_all_permissions(self.said, self.home, self.disk)
        if in_child(self._enter).code != DONE:
            self._tell("skipped", _last(_read(self.said / "trial")))
            return False
        _with_all_permissions(self.disk)
        return True

    def _enter(self) -> None:
        own_mounts()
        self.place.enter(self.disk)

    def _call_there(self) -> int:
        own_mounts()
        _redirected(self.said / "called")
        self.place.enter(self.disk)
        environment = {key: value and value.format(home=self.home) for key, value in self.place.environment.items()}
        words = self.command.call(self.given, self.disk)
        if self.place.is_program:
            kept = {key: value for key, value in environment.items() if value is not None}
            whole = os.environ | kept | {"PYTHONPATH": os.pathsep.join(sys.path)}
            os.execve(sys.executable, [sys.executable, "-m", "viscera", *words], whole)  # noqa: S606 - our own
        return _called(self.command, words, None, environment)

    def _called_again(self) -> Iterator[str]:
        words = self.command.call(self.given, self.disk, again=(self.disk / "run2").exists())
        after = in_child(lambda: _called(self.command, words, self.said / "again", {}))
        if after.code != DONE:
            yield f"called again in a better place, it ended with {after.code}: {_last(_read(self.said / 'again'))}"
        yield from _unsound(self.disk, _ARTIFACTS)

    def _tell(self, name: str, text: str) -> None:
        (self.said / name).write_text(text, encoding="utf-8")


def _with_all_permissions(*folders: Path) -> None:
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            with suppress(OSError):
                path.chmod(0o777 if path.is_dir() else 0o666)


def _redirected(out: Path) -> None:
    """Nothing to read, a file to write, no terminal, and no other file that is open."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for number, target in ((0, nothing), (1, written), (2, written)):
        os.dup2(target, number)
    os.closerange(3, 256)
    os.setsid()


def _called(command: Command, words: list[str], out: Path | None, environment: Mapping[str, str | None]) -> int:
    """Call a command in this process, as `viscera` would; its exit code."""
    if out is not None:
        _redirected(out)
    for key, value in environment.items():
        os.environ.pop(key, None)
        if value is not None:
            os.environ[key] = value
    tempfile.tempdir = None
    logging.getLogger().handlers.clear()  # whose files are closed here
    warnings.simplefilter("ignore")  # as in a user's process: those of other libraries are no errors
    sys.modules["__main__"] = ModuleType("__main__")  # which processes that are spawned would load
    if not command.in_several:
        launch.start_pool = lambda *_: None  # type: ignore[attr-defined]
    if command.is_stopped:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, _VIEWED_S)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        setattr(sys, name, None)
        with suppress(OSError):
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    sys.argv = ["viscera", *words]
    main()
    return DONE


def _wrong_of(ended: Ended, said: str, place: Place) -> Iterator[str]:
    """What is wrong with how a command ended, and with what it said."""
    if _ABORTED.search(said):
        return
    if ended.code not in place.codes:
        yield f"exit code {ended.code}: {_last(said)}"
    if "Traceback (most recent call last)" in said:
        yield f"a traceback: {_last(said)}"
    if ended.code in {BAD_INPUT, FAILED} and said:
        if len(_SENTENCE.findall(said)) != 1:
            yield f"not one sentence: {said[-300:]}"
        elif not re.search(place.says, said, re.DOTALL):
            yield f"the sentence does not say why: {_last(said)}"


def _half_written(disk: Path, ended: Ended) -> Iterator[str]:
    """Files that a command which ended by itself has left."""
    if ended.code in {DONE, BAD_INPUT, FAILED}:
        for path in disk.rglob("*"):
            if _HALF_WRITTEN.match(path.name):
                yield f"a half-written file is left: {path.relative_to(disk)}"


def _unsound(disk: Path, names: Iterable[str]) -> Iterator[str]:
    """Artifacts that are neither as they were nor as they should become."""
    for name in names:
        if not (disk / name).exists() or name.endswith(".sha256"):
            continue
        try:
            found = verify(disk / name)
        except BadInputError as error:
            yield f"{name} cannot be verified: {error}"
        else:
            yield from (f"{name}: {each.path.name} is {each.state} ({each.why})" for each in found if each.state in BAD)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _last(said: str) -> str:
    return " | ".join(said.strip().splitlines()[-2:])[-400:]
