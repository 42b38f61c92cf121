"""The commands that are injured, on a phantom so small that each takes a fraction of a second.

Each begins with artifacts that were made before, runs in their folder, and can be run again. It is run once where its
artifact is not there yet, and once where an older one is.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

TINY = ["--device=cpu", "--patch=8", "--batch-size=2", "--filters=2", "--set", "train.levels=2"]
TINY += ["--set", "train.monitor_windows=2", "--set", "train.log_every=2", "--set", "train.validate_every=3"]
_STUDY = ["study", "store", "study", *TINY, "--weightings=uniform,simple", "--learning-rates=0.01", "--seeds=0"]
_STUDY += ["--jobs=1", "--set", "train.checkpoint_every=2", "--fuse"]
_ARM = "study/arms/uniform_lr0.01/seed_0"
_RATES = ["--device=cpu", "--set=train.patch=8", "--set=train.batch_size=2", "--set=train.filters=2"]
_RATES += ["--set=train.levels=2", "--set=train.monitor_windows=2"]


def call(*arguments: str) -> int:
    """Call a command as in a terminal, in this process and folder; its exit code."""
    from viscera.cli.app import app  # noqa: PLC0415 - once it is loaded, forks need not load it

    try:
        app([*arguments, "--quiet"], prog_name="viscera")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _called(*arguments: str) -> Callable[[], int]:
    return lambda: call(*arguments)


@dataclass(frozen=True)
class Command:
    """One command with what it begins with; paths are relative to the folder that it is run in."""

    name: str
    run: Callable[[], int]
    again: Callable[[], int]  # after it was interrupted
    needs: tuple[str, ...]  # that are copied of what was made before
    artifact: str  # folder or file that it writes
    before: Callable[[], object] = lambda: None  # makes an older artifact, or changes what it begins with
    verified: str = ""  # folder that `viscera verify` looks at, where it is not the artifact
    at_once: bool = False  # whether all files of the artifact are old, or all are new

    @property
    def looked_at(self) -> str:
        """Folder that `viscera verify` looks at."""
        return self.verified or self.artifact


def _command(name: str, arguments: Sequence[str], needs: str, artifact: str, **more: object) -> Command:
    again = [*arguments, "--resume"] if arguments[0] == "train" and "--resume" not in arguments else arguments
    return Command(name, _called(*arguments), _called(*again), tuple(needs.split()), artifact, **more)  # type: ignore[arg-type]


def _another_scan() -> None:
    """The scan of a case was replaced, and the case deleted, so that it is prepared again."""
    shutil.copyfile("raw/imagesTr/phantom_001_0000.nii.gz", "raw/imagesTr/phantom_000_0000.nii.gz")
    shutil.rmtree("store/cases/phantom_000")


def _keys() -> None:
    from viscera.io.pseudonyms import Pseudonyms  # noqa: PLC0415

    Pseudonyms.open(Path("keys.json"))


def _half_of_it() -> None:
    """Predictions and scores of one scan, by another model."""
    Path("one").mkdir()
    shutil.copy("raw/imagesTr/phantom_001_0000.nii.gz", "one")
    call("predict", "other", "one", "out", "--device=cpu")
    call("evaluate", "out", "raw/labelsTr", "--out", "out/scores.csv")


def _without_confusion() -> None:
    call("report", "study")
    for name in ("confusion.csv", "confusion.csv.sha256"):
        Path(_ARM, name).unlink()


def _correct(label: int, *, again: bool = False) -> int:
    """Save a label map of the first case, mended by one voxel, as the viewer's page does; unless it is saved."""
    from viscera.core.config import TrainConfig  # noqa: PLC0415
    from viscera.core.errors import VisceraError, case_error  # noqa: PLC0415
    from viscera.view.given_beside import Beside  # noqa: PLC0415
    from viscera.view.open_gallery import open_gallery  # noqa: PLC0415
    from viscera.view.view_app import _Answers  # noqa: PLC0415

    try:
        answers = _Answers(open_gallery(Path("out"), Beside(scans=Path("raw/imagesTr"))), TrainConfig())
        before = answers.images.labels(0, 0).labels
        labels = before.copy()
        labels[1, 2, 3] = label if before[1, 2, 3] != label else label + 1
        shown = answers.images.case(0).layers
        if again and len(shown) > 1 and (answers.images.labels(0, 1).labels == labels).all():
            return 0
        about = json.dumps({"who": "Ada", "note": ""}).encode()
        answers.save(0, 0, struct.pack("<I", len(about)) + about + labels.tobytes(order="F"))
    except (VisceraError, OSError) as error:  # as the endpoint does
        explained = case_error("viewer", error)
        print(f"viscera: {explained}")
        return explained.exit_code
    return 0


_PREPARE = ["prepare", "raw", "store", "--downsample=1", "--test-fraction=0.25", "--validation-fraction=0.25"]
_TRAIN = ["train", "store", "run", *TINY, "--iterations=5", "--checkpoint-every=2"]
_MAPS = "--format=nifti,probabilities"
_PREDICT = ["predict", "run", "raw/imagesTr", "out", "--device=cpu"]
_EVALUATE = ["evaluate", "out", "raw/labelsTr", "--out=scored/scores.csv"]
_PLAN = ["plan", "store", "--iterations=5", "--out=plan.yaml", "--device=cpu"]
_EXPORT = ["export", "run", "exported", "--to=safetensors,slicer"]
MAKE: dict[str, tuple[str, Callable[[], object]]] = {  # what commands begin with: of what it is made, and how
    "raw": ("", _called("phantom", "raw", "--cases=4", "--shape", "14", "12", "10")),
    "store": ("raw", _called(*_PREPARE)),
    "run": ("store", _called(*_TRAIN)),
    "other": ("store", _called(*_TRAIN[:2], "other", *_TRAIN[3:], "--seed=1")),
    "out": ("raw run", _called(*_PREDICT)),
    "study": ("store", _called(*_STUDY, "--iterations=4")),
}
COMMANDS: tuple[Command, ...] = (
    _command("prepare", _PREPARE, "raw", "store"),
    _command("prepare again", _PREPARE, "raw store", "store", before=_another_scan),
    _command("prepare under pseudonyms", [*_PREPARE, "--pseudonyms=keys.json"], "raw", "store", before=_keys),
    _command("prepare a part", [*_PREPARE, "--shard=1/2"], "raw", "store"),
    _command("train", _TRAIN, "store", "run"),
    _command("train on", [*_TRAIN[:-2], "--iterations=7", "--checkpoint-every=3", "--resume"], "store", "run",
             before=_called(*_TRAIN)),
    _command("train from another", [*_TRAIN, "--init-from", "other"], "store other", "run"),
    _command("predict", [*_PREDICT, _MAPS], "raw run", "out"),
    _command("predict again", [*_PREDICT, "--overwrite"], "raw run other", "out", before=_half_of_it),
    _command("predict a file", [*_PREDICT[:2], "raw/imagesTr/phantom_000_0000.nii.gz", "labels.nii.gz", "--device=cpu"],
             "raw run", "labels.nii.gz", verified="."),
    _command("evaluate", _EVALUATE, "raw out", "scored"),
    _command("evaluate again", _EVALUATE, "raw out", "scored",
             before=_called(*_EVALUATE, "--metrics=volume_ml")),
    _command("study", [*_STUDY, "--iterations=4"], "store", "study"),
    _command("study on", [*_STUDY, "--iterations=6"], "store study", "study"),
    _command("fuse", [*_STUDY, "--iterations=4"], "store", "study",
             before=_called(*_STUDY[:-1], "--iterations=4")),
    _command("report", ["report", "study"], "store study", "study",
             before=lambda: shutil.rmtree("study/report")),
    _command("report again", ["report", "study"], "store study", "study", before=_without_confusion),
    _command("export", _EXPORT, "run", "exported", at_once=True),
    _command("export again", _EXPORT, "run", "exported", before=_called(*_EXPORT[:3], "--to=slicer"), at_once=True),
    Command("correct", lambda: _correct(1), lambda: _correct(1, again=True), ("raw", "out"), "out"),
    Command("correct again", lambda: _correct(2), lambda: _correct(2, again=True), ("raw", "out"), "out",
            before=lambda: _correct(4)),
    _command("calibrate", ["calibrate", "run", "store", "--device=cpu"], "store run", "run"),
    _command("doctor", ["doctor", "run", "--store=store", *_PLAN[-1:]], "store run", "run"),
    _command("card", ["card", "run", "--licence=CC0-1.0"], "run", "run"),
    Command("plan", _called(*_PLAN), lambda: 0 if Path("plan.yaml").exists() else call(*_PLAN), ("store",),
            "plan.yaml"),  # one that is there is refused
    _command("phantom", ["phantom", "raw", "--cases=2", "--shape", "12", "12", "8"], "", "raw"),
    _command("check", ["check", "raw"], "raw", "check"),
    _command("merge", ["merge", "scored", "--out=merged"], "raw out", "merged", before=_called(*_EVALUATE)),
    _command("find-rate", ["find-rate", "store", *_RATES, "--set", "rate_range.steps=20"], "store",
             "rate_range"),
)  # fmt: skip

SIDE_BY_SIDE = _command("prepare side by side", [*_PREPARE, "--jobs=2"], "raw", "store")  # killed alone, or with them


def _let_go_of_locks() -> None:
    """A process that is spawned, as viscera's are, has no files open of the one that starts it; a fork has."""
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if each.readlink().name.endswith((".lock", ".parts")):
                os.close(int(each.name))


@contextmanager
def quickly(*, in_one_process: bool = True) -> Iterator[None]:
    """Within, studies make no forecast, and pages have no pictures.

    All is done in this process; else in forks of it, which begin sooner than processes of their own.
    """
    from viscera.study.report import report_stage  # noqa: PLC0415 - as above

    with_pictures = {"FIGURE1", "SEGMENTATIONS", "CONFUSION", "GRADIENTS", "ITERATIONS", "RATES", "SUMMARY"}
    named = {id(each): name for name, each in vars(report_stage).items()}
    sections = tuple(each for each in report_stage.SECTIONS if named.get(id(each), "SUMMARY") not in with_pictures)
    if in_one_process:
        pools = "viscera.study.launch.start_pool", "viscera.core.processes.start_pool"
        where: dict[str, object] = dict.fromkeys(pools, lambda *_: None)
    else:
        where = {"viscera.core.processes.get_context": lambda _: get_context("fork")}
        os.register_at_fork(after_in_child=_let_go_of_locks)
    patches = where | {
        "viscera.study.launch._forecast": lambda *_: None,
        "viscera.study.report.report_stage.SECTIONS": sections,
        "viscera.check.check_stage.picture_places": lambda *_: [],
    }
    with ExitStack() as held:
        for name, value in patches.items():
            held.enter_context(mock.patch(name, value))
        yield
