"""Arguments of a command that are in each other's place, or near what was meant: told before anything is done."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viscera.core.errors import BadInputError

if TYPE_CHECKING:
    from viscera.io.verifying.path_kinds import Found

_STORE, _MODEL, _STUDY, _DATA = ("store",), ("run", "runs"), ("study",), ("data set",)
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
    "predict": {"run": _MODEL, "source": (*_SCANS, "store")},
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
_REMEDIES: Sequence[tuple[str, Sequence[str], str]] = (  # of what was expected and found, what to do; none: any
    ("labels", ("images",), "Give the data set: {whole}"),
    ("run", ("checkpoint",), "Give the folder: {whole}"),
    ("run", ("study", "report", "runs"), "Give one of its runs, such as {run}"),
    ("scans", ("data set", "labels"), "Give its images: {images}"),
    (
        "store",
        ("data set", "images", "labels"),
        "Make a store of it with `viscera prepare {whole} STORE`, and give that.",
    ),
    ("store", ("study", "runs", "report"), "This study was run on {store}"),
    ("data set", ("images", "labels"), "Give the data set: {whole}"),
    ("predictions", ("run", "runs", "study"), "Predict first: `viscera predict {path} SCANS OUT`, then evaluate OUT."),
    ("study", ("report", "runs"), "Give the folder of the study: {whole}"),
    ("labels", (), "Give the labels, the data set or the store that the scans are from."),
    ("scans", (), "Give the scans themselves."),
    ("store", (), "A store is made by `viscera prepare DATA STORE`."),
    ("run", (), "Make a run with `viscera train STORE RUN`, and give that."),
    ("data set", (), "Give the folder that holds scans and labels."),
    ("predictions", (), "Write `viscera evaluate PREDICTIONS REFERENCES`; predictions are made by `viscera predict`."),
    ("study", (), "A study of several models is made by `viscera study STORE STUDY`."),
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
    from viscera.io.verifying.path_kinds import a_run_of, images_of, store_of  # noqa: PLC0415 - loaded already

    is_output = (name, key) in _OUTPUTS and found.kind not in {"checkpoint", "report"}
    if found.kind in _ALSO.get((name, key), ()) or is_output:
        return
    expected = EXPECTED[name][key]
    remedy = next(
        text for wanted, kinds, text in _REMEDIES if wanted in expected and found.kind in (kinds or [found.kind])
    )
    whole = found.whole
    about: dict[str, object] = {"path": path, "whole": whole, "images": images_of(whole) or whole}
    about |= {
        "run": a_run_of(path) or a_run_of(whole) or whole / "arms",
        "store": store_of(whole) or "a store that is not known",
    }
    wanted = " or ".join(_EXPECTED[each] for each in expected if each in _EXPECTED) if name == "doctor" else ""
    raise BadInputError(
        f"{path}: {_this_is(found)}; {wanted or _EXPECTED[expected[0]]} was expected. {remedy.format_map(about)}"
    )


def _this_is(found: "Found") -> str:
    from viscera.io.verifying.path_kinds import SEVERAL, TITLES  # noqa: PLC0415 - loaded already

    return f"{'these are' if found.kind in SEVERAL else 'this is'} {TITLES[found.kind]}"
