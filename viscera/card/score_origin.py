"""Whose scores a table holds: of a model, as far as that is known, and not of another one or of several."""

import hashlib
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from viscera.card.model_card import WeightsFile
from viscera.core.errors import BadInputError
from viscera.core.wording import counted, listed
from viscera.io.layouts.dataset_tables import case_name
from viscera.io.records import is_table, read_csv, read_json
from viscera.io.references import model_of
from viscera.io.scores import ScoreRow, read_scores

log = logging.getLogger(__name__)
_OF_A_STUDY = ("arm", "seed")  # in front of the columns of its table
_SUMMARY = "summary.json"
_FEW = 3


def scores_of_model(path: Path, run: Path, models: Collection[str]) -> list[ScoreRow]:
    """The rows of a table that are of a model, by the checksums that predictions name it with.

    Of the table of a study they are those of the run. Where nothing says whose they are, a warning does.

    Raises BadInputError for scores of another model, for those of several runs of which it is none, and as
    `read_scores`.
    """
    if path.exists() and is_table(path, (*_OF_A_STUDY, *ScoreRow._fields)):
        return _of_its_run(path, run)
    rows = read_scores(path)
    scored = _models_scored(path, rows)
    others = sorted(scored - {""} - {*models})
    if others:
        raise BadInputError(
            f"{path}: scores of another model than {run}, or of this one before it was trained further (the label maps "
            f"name SHA-256 {listed([f'{each[:12]}…' for each in others], _FEW)}). Evaluate the label maps of this "
            "model, and give that table."
        )
    if not scored or "" in scored:
        log.warning(
            "%s: nothing says of which model these scores are; they are taken for those of %s. With %s beside the "
            "table, and the label maps where they were scored, it is known.",
            *(path, run, _SUMMARY),
        )
    return rows


def _models_scored(path: Path, rows: Sequence[ScoreRow]) -> set[str]:
    """Checksums of the models that made the label maps which nnU-Net's summary beside a table names.

    Empty where it names none, or is of other cases; one that is empty stands for label maps that are gone, were made
    anew since, or do not say who made them.
    """
    summary = path.with_name(_SUMMARY)
    files = list[Path]()
    with suppress(BadInputError, KeyError, TypeError):
        files = [Path(each["prediction_file"]) for each in read_json(summary)["metric_per_case"]]
    if not files or {case_name(each) for each in files} != {row.case for row in rows}:
        return set()
    written = max(path.stat().st_mtime, summary.stat().st_mtime)
    return {model_of(each) if each.exists() and each.stat().st_mtime <= written else "" for each in files}


def _of_its_run(path: Path, run: Path) -> list[ScoreRow]:
    """Of the table of a study, by the folders of the run: `arms/ARM/seed_S`."""
    here = run.resolve()
    own = (here.parent.name, here.name.removeprefix("seed_"))
    of_all = [((line["arm"], line["seed"]), row) for line, row in zip(read_csv(path), read_scores(path), strict=True)]
    rows = [row for whose, row in of_all if whose == own]
    is_of_a_study = len(here.parents) > 2 and here.parents[1].name == "arms"
    if rows and is_of_a_study:
        if path.resolve() != here.parents[2] / "scores.csv":
            log.warning("%s: not the table of this run's study; the rows of %s, seed %s, are taken.", path, *own)
        return rows
    names = [f"{arm}, seed {seed}" for arm, seed in dict.fromkeys(whose for whose, _ in of_all)]
    raise BadInputError(
        f"{path}: this is the table of a study, with the scores of {counted(len(names), 'run')} "
        f"({listed(names, _FEW)}), and {run} is none of them. Give one of these runs, arms/ARM/seed_S in the study, or "
        "the table that `viscera evaluate` wrote of this model."
    )


def checksum_of_mean(weights: Sequence[Sequence[WeightsFile]]) -> set[str]:
    """What predictions of the mean of several runs name it with, by the last checkpoints or by the best ones."""
    every = [[each.sha256 for each in of_run] for of_run in weights]
    kinds = ([of_run[0] for of_run in every], [of_run[-1] for of_run in every])
    return {hashlib.sha256("".join(kind).encode()).hexdigest() for kind in kinds}
