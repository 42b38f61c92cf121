"""What mends a file of an artifact that is damaged or gone: the command that makes it again."""

from collections.abc import Callable, Mapping
from pathlib import Path

from viscera.io.seals import sum_path

SUMMARY = "summary.json"  # as nnU-Net calls it
HISTORY = "history"  # folder of all corrections that were saved in the viewer
REPORT = "report"  # folder of a study that is not verified: `viscera report` makes it again


def remedy(path: Path) -> str:
    """What to do about a file, with the command, as one or two sentences."""
    folder = path.parent
    if folder.parent.name == "cases" and (folder.parents[1] / "manifest.json").exists():
        delete = f"Delete {folder}, then run" if folder.exists() else "Run"
        return f"{delete} `viscera prepare SOURCE {folder.parents[1]}` again: it restores the case."
    if (export := _export_of(path)) is not None:
        return f"Delete {export}, then run `viscera export RUN {export}` again with the same forms."
    return _BY_NAME.get(path.name, _by_its_folder)(path)


def _again(path: Path, command: str, then: str = "") -> str:
    """Of a file that the command makes anew, where it is not there any more."""
    return f"{'Delete it, then run' if path.exists() else 'Run'} `{command}` again{then}."


def _or_without(path: Path, then: str) -> str:
    """Of a file that cannot be made anew, and that need not be there."""
    return f"Restore it from a copy{', or delete it:' if path.exists() else '; without it,'} {then}."


def _by_its_folder(path: Path) -> str:
    folder = path.parent
    if path.suffix == ".sha256":
        table = path.with_suffix("")
        return f"It is the checksum of {table.name}, which cannot be judged without it. {remedy(table)}"
    if folder.name == "models" and (folder.parent / "fusion.yaml").exists():
        return _fused(folder.parent / "fusion.yaml")
    if folder.name == HISTORY:
        newest = folder.parent / "labelsTr"
        return f"Restore it from a copy: nobody can make it again. The newest one of a case is in {newest}, too."
    if folder.name == "rate_range":
        return "Run the same `viscera find-rate` again."
    is_summary = path.suffix == ".json" and sum_path(path).exists()
    if is_summary or path.name.endswith("scores.csv") or path.name.startswith("scores"):
        return _scores(path)
    return _predicted(path)


def _predicted(path: Path) -> str:
    """Of a label map and of what is beside it: somebody may have spent hours on mending it where it lies."""
    is_there, overwrite = path.exists(), " --overwrite" * (path.exists() or path.suffix == ".json")
    again = _study_or(path, f"viscera predict RUN INPUT {path.parent}{overwrite}")
    if not is_there:
        return f"Run `{again}` again."
    return f"If somebody edited it, keep a copy elsewhere; then run `{again}` again, which replaces it."


def _last(path: Path) -> str:
    best = path.with_name("best.pt")
    again = f"`viscera train STORE {path.parent} --resume`"
    if best.exists():
        return f"Restore it from a copy; or copy {best} to {path}, and {again} resumes from there."
    delete = "delete it, and " if path.exists() else ""
    return f"Restore it from a copy; or {delete}{again} trains again from the beginning."


def _small(path: Path) -> str:
    return _again(path, f"viscera train STORE {path.parent} --resume", " with its settings: it is written anew")


def _scores(path: Path) -> str:
    study = _study_of(path)
    if study is not None:
        return _again(path, f"viscera study STORE {study}", ": what is missing is scored again")
    return f"Run `viscera evaluate PREDICTIONS REFERENCES --out {path.with_name('scores.csv')}` again."


def _fused(path: Path) -> str:
    delete = f"Delete {path}, then run" if path.exists() else "Run"
    return f"{delete} `viscera study STORE {path.parents[1]} --fuse` again: it fuses anew."


def _card(path: Path) -> str:
    run = "If it was not edited, delete it and run" if path.exists() else "Run"
    return f"{run} `viscera card {path.parent}` again."


def _quarantine(path: Path) -> str:
    is_store = (path.parent / "manifest.json").exists()
    command = f"viscera prepare SOURCE {path.parent}" if is_store else f"viscera predict RUN INPUT {path.parent}"
    return _again(path, command, ": it lists what is left out")


def _study_or(path: Path, command: str) -> str:
    study = _study_of(path)
    return command if study is None else f"viscera study STORE {study}"


def _study_of(path: Path) -> Path | None:
    return next((each for each in path.parents[:5] if (each / "study.yaml").exists()), None)


def _export_of(path: Path) -> Path | None:
    return next((each for each in path.parents[:5] if (each / "export.json").exists()), None)


_BY_NAME: Mapping[str, Callable[[Path], str]] = {
    "manifest.json": lambda path: (
        f"Restore it from a copy; without one, move {path.parent} away and run `viscera prepare SOURCE {path.parent}`."
    ),
    "last.pt": _last,
    "best.pt": lambda path: _or_without(path, "predictions are made with last.pt"),
    "curve.jsonl": lambda path: (
        f"Restore it from a copy{', or delete the line, or the file, that is damaged' if path.exists() else ''}; "
        f"`viscera train STORE {path.parent} --resume` resumes without it, too."
    ),
    "config.yaml": _small,
    "run.json": _small,
    "training_data.json": _small,
    "training_ranges.json": _small,
    "started_from.json": lambda path: _or_without(path, "only whose weights it began with is not known"),
    "calibration.json": lambda path: _again(path, f"viscera calibrate {path.parent} STORE"),
    "probe.json": lambda path: _again(path, f"viscera doctor {path.parent} --store STORE"),
    "card.json": _card,
    "card.md": _card,
    "confusion.csv": _scores,
    SUMMARY: _scores,
    "reliability.csv": _scores,
    "quarantine.csv": _quarantine,
    "measurements.csv": lambda path: _again(path, _study_or(path, f"viscera predict RUN INPUT {path.parent}")),
    "fusion.yaml": _fused,
    "study.yaml": lambda path: f"Restore it from a copy, or run `viscera study STORE {path.parent}` in a new folder.",
    "plan.json": lambda _: "Restore it from a copy: what was planned before the first run cannot be made again.",
    "forecast.json": lambda path: _again(path, f"viscera study STORE {path.parent}"),
}
_OF_CASES = {"image.npy", "labels.npy", "labels_original.nii.gz"}
NAMES = frozenset({*_BY_NAME, *_OF_CASES, "scores.csv"})  # that artifacts give their files, whatever is in them
