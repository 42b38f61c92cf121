"""Arguments of a command that are in each other's place, or near what was meant: told before anything is done."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscera.core.errors import BadInputError

if TYPE_CHECKING:
    from viscera.io.verifying.path_kinds import Found

_STORE, _MODEL, _STUDY, _DATA = ("store",), ("run", "runs", "arm"), ("study",), ("data set",)
_SCANS, _LABELS = ("scans", "images"), ("labels", "data set", "store")
# of each command the arguments that name something which is there, and what that may be; in the order of the usage line
EXPECTED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "check": {"source": _DATA},
    "prepare": {"source": _DATA, "store": _STORE},
    "doctor": {"path": ("store", "run")},
    "plan": {"store": _STORE},
    "find-rate": {"store": _STORE},
    "train": {"store": _STORE, "run": ("run",)},
    "calibrate": {"run": ("run",), "store": _STORE},
    "card": {"run": _MODEL},
    "export": {"run": _MODEL},
    "predict": {"run": (*_MODEL, "weights"), "source": (*_SCANS, "store")},
    "evaluate": {"predictions": ("predictions",), "references": _LABELS},
    "study": {"store": _STORE, "study": _STUDY},
    "report": {"study": _STUDY},
    "power": {"study": _STUDY},
}
_EXPECTED = {  # by the first of the kinds that an argument may be
    "store": "a store",
    "run": "the folder of a run",
    "study": "the folder of a study",
    "data set": "a data set",
    "scans": "a scan or a folder of scans",
    "predictions": "a folder of predictions",
    "labels": "true labels, a data set or a store",
}
_NO_STUDY = "A study of several models is made by `viscera study STORE STUDY`."
_REMEDIES: Sequence[tuple[str, Sequence[str], str]] = (  # of what was expected and found, what to do; none: any
    ("labels", ("images",), "Give the data set: {whole}"),
    ("run", ("checkpoint",), "Give the folder: {whole}"),
    ("run", ("weights", "export"), "Give the run that {were} made from{source}"),
    ("arm", ("study", "report", "arms"), "Give one of its arms, such as {arm}, or one run, such as {run}"),
    ("run", ("study", "report", "runs", "arm", "arms"), "Give one of its runs, such as {run}"),
    ("scans", ("data set", "labels"), "Give its images: {images}"),
    (
        "store",
        ("data set", "images", "labels"),
        "Make a store of it with `viscera prepare {whole} STORE`, and give that.",
    ),
    ("store", ("study", "report", "arm", "arms"), "{store_of_study}"),
    ("store", ("runs",), "Give the store that its runs were trained on."),
    ("store", ("run",), "{store_of_run}"),
    ("data set", ("images", "labels"), "Give the data set: {whole}"),
    (
        "predictions",
        (*_MODEL, "weights", "study", "arms"),
        "Predict first: `viscera predict {path} SCANS OUT`, then evaluate OUT.",
    ),
    ("study", ("report", "arm", "arms"), "Give the folder of the study: {whole}"),
    (
        "study",
        ("runs",),
        f"Its runs are of no study. `viscera card {{path}}` describes their mean. {_NO_STUDY}",
    ),
    ("study", ("run",), "{study}"),
    ("labels", (), "Give the labels, the data set or the store that the scans are from."),
    ("scans", (), "Give the scans themselves."),
    ("store", (), "A store is made by `viscera prepare DATA STORE`."),
    ("run", (), "Make a run with `viscera train STORE RUN`, and give that."),
    ("data set", (), "Give the folder that holds scans and labels."),
    ("predictions", (), "Write `viscera evaluate PREDICTIONS REFERENCES`; predictions are made by `viscera predict`."),
    ("study", (), _NO_STUDY),
)
_OUTPUTS = {("prepare", "store"), ("train", "run"), ("study", "study")}  # which may not be there yet
_ALSO: Mapping[tuple[str, str], Sequence[str]] = {  # what may be meant, though not where the arguments can be swapped
    ("evaluate", "predictions"): ("labels", "scans"),  # that others predicted, or truths to compare
    ("evaluate", "references"): ("predictions", "scans"),
    ("prepare", "source"): ("scans",),  # of a layout with its files in one folder
    ("check", "source"): ("scans",),
}


def refuse_misplaced(name: str, given: Mapping[str, Any]) -> None:
    """Raise BadInputError where an argument is what another one should be, or not quite what was meant.

    What cannot be recognised is left to the command.
    """
    expected = EXPECTED.get(name, {})
    paths = {key: given[key] for key in expected if isinstance(given.get(key), Path)}
    if name == "predict" and isinstance(given.get("source_option"), Path):
        paths["source"] = given["source_option"]
    if not any(path.exists() for path in paths.values() if len(str(path)) < 250):
        return
    from viscera.io.verifying.path_kinds import what_is  # noqa: PLC0415 - reads arrays, which `--help` need not wait for

    found = {key: what_is(path) for key, path in paths.items()}
    wrong = {key: each for key, each in found.items() if each is not None and each.kind not in expected[key]}
    if wrong:
        _refuse_swapped(name, paths, found, wrong)
        for key, each in wrong.items():
            _refuse(name, key, paths[key], each)


def _refuse_swapped(
    name: str, paths: Mapping[str, Path], found: Mapping[str, "Found | None"], wrong: Mapping[str, "Found"]
) -> None:
    """Where two arguments would each be right in the other's place."""
    expected = EXPECTED[name]
    for key, each in wrong.items():
        for other, theirs in found.items():
            is_free = theirs is None and (name, key) in _OUTPUTS and not paths[other].exists()
            fits = theirs is not None and theirs.kind in expected[key]
            if other == key or each.kind not in expected[other] or not (fits or is_free):
                continue
            if theirs is not None and theirs.kind in expected[other]:
                continue
            right = {**paths, key: paths[other], other: paths[key]}
            raise BadInputError(
                f"{paths[key]}: {_this_is(each)}, in the place of {key.upper()}; the arguments seem to be swapped. "
                f"Write `viscera {name} {' '.join(str(right[each]) for each in expected)}"
                f"{' OUTPUT' if name == 'predict' else ''}`."
            )


def _refuse(name: str, key: str, path: Path, found: "Found") -> None:
    """Where one argument alone is not what was expected, and something can be said of what was given instead."""
    is_output = (name, key) in _OUTPUTS and found.kind not in {"checkpoint", "report"}
    if found.kind in _ALSO.get((name, key), ()) or is_output:
        return
    expected = EXPECTED[name][key]
    remedy = next(
        text for wanted, kinds, text in _REMEDIES if wanted in expected and found.kind in (kinds or [found.kind])
    )
    wanted = " or ".join(_EXPECTED[each] for each in expected if each in _EXPECTED) if name == "doctor" else ""
    raise BadInputError(
        f"{path}: {_this_is(found)}; {wanted or _EXPECTED[expected[0]]} was expected. "
        f"{_filled(remedy, path, found, several='runs' in expected)}"
    )


def _filled(remedy: str, path: Path, found: "Found", *, several: bool) -> str:
    """A remedy with what lies there; `several`: whether a folder of runs would do."""
    from viscera.io.verifying.path_kinds import a_run_of, an_arm_of, images_of, store_of, study_of  # noqa: PLC0415

    whole, store, study = found.whole, store_of(path), study_of(path)
    run = a_run_of(path) or a_run_of(whole)
    if "{run}" in remedy and run is None:
        return "None of its runs has weights yet: train them first."
    about = {
        "path": path,
        "whole": whole,
        "images": images_of(whole) or whole,
        "run": run,
        "arm": an_arm_of(whole),
        "study": f"Give the folder of the study: {study}" if study else _NO_STUDY,
        "store_of_study": f"This study was run on {store}" if store else "Give the store that this study was run on.",
        "store_of_run": f"It was trained on {store}" if store else "Give the store that it was trained on.",
        "were": "they were" if found.kind == "weights" else "it was",
        "source": _source(path, several=several) if "{source}" in remedy else "",
    }
    return remedy.format_map(about)


def _source(export: Path, *, several: bool) -> str:
    """The run that an export was made from, or by what it is known, and the end of the sentence."""
    from viscera.io.verifying.path_kinds import a_run_of, source_checksums, source_of  # noqa: PLC0415 - loaded already

    source, checksums = source_of(export), sorted(source_checksums(export))
    if source is not None:
        return f": {source if several else a_run_of(source) or source}"
    return f", whose checkpoint has the SHA-256 {checksums[0][:12]}…" if len(checksums) == 1 else "."


def _this_is(found: "Found") -> str:
    from viscera.io.verifying.path_kinds import SEVERAL, TITLES  # noqa: PLC0415 - loaded already

    return f"{'these are' if found.kind in SEVERAL else 'this is'} {TITLES[found.kind]}"
