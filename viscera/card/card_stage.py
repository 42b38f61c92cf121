"""`viscera card`: the model card of a run, or of a folder of runs that predict as one: JSON and Markdown beside it.

What was stated before of the same weights (licences, and scores whose table is elsewhere) stays until it is stated
anew.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from viscera.card.card_facts import RunFacts, Written
from viscera.card.card_markdown import as_markdown
from viscera.card.card_statements import (
    FACTORS,
    METRICS,
    OF_PROBABILITIES,
    USE,
    caveats,
    caveats_of_mean,
    ethics,
)
from viscera.card.mean_facts import MeanFacts
from viscera.card.model_card import EvaluationData, ModelCard
from viscera.card.score_origin import checksum_of_mean, scores_of_model
from viscera.card.score_summary import ScoreSummary, summaries
from viscera.core.errors import BadInputError, UsageError, VisceraError
from viscera.core.wording import agreeing, counted, listed
from viscera.io.disk.file_sets import finish, together
from viscera.io.files import refuse_unwritable, sha256, write_text
from viscera.io.records import read_json, validated, write_record
from viscera.io.runlog import RunFolder, runs_in
from viscera.io.scores import read_scores
from viscera.io.store import Store

log = logging.getLogger(__name__)
JSON, MARKDOWN = "card.json", "card.md"
_CHECKSUMS = ("markdown_sha256", "replaces_sha256")


class Stated(NamedTuple):
    """What a run does not know of itself."""

    scores: Path | None = None  # a table that `viscera evaluate` wrote; None: `scores.csv` of the run, or of before
    store: Path | None = None  # that it was trained on
    licence: str | None = None  # of the weights
    data_licence: str | None = None
    out_of_fold: bool = False  # the scores are of cases by the run of several that held each out
    written: Written | None = None  # by the process that asks


def write_card(run: Path, out: Path | None = None, stated: Stated | None = None, *, overwrite: bool = False) -> Path:
    """Write `card.json` and `card.md` of a run into its folder, or another; returns the latter's path.

    Of a folder of runs, it is the card of the mean of their probabilities.

    Raises:
        BadInputError: no run, or a damaged one; runs that cannot be one predictor; a store that a run was not trained
            on; no table of scores, an empty one, or one that is not what it is stated to be; cards that viscera did not
            write or that were edited, unless they may be overwritten.
    """
    stated, folder = stated or Stated(), out or run
    finish(folder)
    facts = _facts_of(run, stated)
    own = _card_in(run)
    if not overwrite:
        _refuse_others(folder)
    of_these_weights = own if own is not None and own.model_details.weights == facts.details.weights else None
    evaluation, scores = _evaluated(RunFolder(run), stated, facts, of_these_weights)
    measured = {each.metric for each in scores}
    licences = [
        now if now is not None else before
        for now, before in (
            (stated.licence, own.model_details.licence if own else ""),
            (stated.data_licence, own.data_licence if own else ""),
        )
    ]
    card = ModelCard(
        model_details=facts.details.model_copy(update={"licence": licences[0]}),
        members=facts.members if isinstance(facts, MeanFacts) else (),
        differing_settings=facts.differing if isinstance(facts, MeanFacts) else (),
        intended_use=USE,
        factors=FACTORS,
        metrics=(*METRICS, *(text for metric, text in OF_PROBABILITIES.items() if metric in measured)),
        evaluation_data=evaluation,
        training_data=facts.data,
        data_licence=licences[1],
        quantitative_analyses=scores,
        calibration=facts.calibration,
        ethical_considerations=tuple(ethics(facts.data)),
        caveats_and_recommendations=tuple(_caveats(facts, evaluation)),
    )
    refuse_unwritable(folder)
    card = _dated(card, own)
    text = as_markdown(card)
    known, page = {"markdown_sha256": hashlib.sha256(text.encode()).hexdigest()}, folder / MARKDOWN
    with together(folder):
        write_record(folder / JSON, card.model_copy(update=known).model_dump(mode="json"))
        write_text(page, text)
    return page


def _facts_of(run: Path, stated: Stated) -> RunFacts | MeanFacts:
    store = Store.open(stated.store) if stated.store else None
    if not runs_in(run):
        if stated.out_of_fold:
            raise BadInputError(
                f"{run}: scores out of fold are of several runs. Give the folder of the runs of all folds, or scores "
                "of the cases that this run held out (`viscera evaluate … --fold`)."
            )
        return RunFacts.read(run, store, stated.written)
    mean = MeanFacts.read(run, store)
    if stated.out_of_fold:
        mean.refuse_no_folds(run)
    return mean


def _caveats(facts: RunFacts | MeanFacts, evaluation: EvaluationData) -> Iterator[str]:
    is_evaluated = bool(evaluation.scores)
    if isinstance(facts, RunFacts):
        return caveats(facts.details, facts.data, is_evaluated=is_evaluated)
    out_of_fold = evaluation.out_of_fold
    return caveats_of_mean(facts.members, facts.data, is_evaluated=is_evaluated, out_of_fold=out_of_fold)


def refresh_card(run: Path, store: Path, written: Written | None = None) -> None:
    """The card of a run that is trained or scored; where it cannot be written, a warning says why.

    Checkpoints that were `written` just now are not read again.
    """
    try:
        write_card(run, stated=Stated(store=store, written=written))
    except (VisceraError, OSError) as error:
        log.warning("%s: its model card is not written: %s", run, error)


def _card_in(folder: Path) -> ModelCard | None:
    """What an earlier call wrote; None where that is nothing, or of another program."""
    if not (folder / JSON).exists():
        return None
    with suppress(BadInputError):
        return validated(ModelCard, read_json(folder / JSON), folder / JSON, "")
    return None


def _refuse_others(folder: Path) -> None:
    written = _card_in(folder)
    if (folder / JSON).exists() and written is None:
        raise BadInputError(
            f"{folder / JSON}: exists, and is not a model card of viscera. Move it away, or give another --out."
        )
    path = folder / MARKDOWN
    if path.exists() and (written is None or sha256(path) not in {written.markdown_sha256, written.replaces_sha256}):
        raise BadInputError(
            f"{path}: exists, and is not as viscera wrote it. Move it away, give another --out, or add --overwrite to "
            "lose it."
        )


def _evaluated(
    folder: RunFolder, stated: Stated, facts: RunFacts | MeanFacts, before: ModelCard | None
) -> tuple[EvaluationData, tuple[ScoreSummary, ...]]:
    """Scores that are given, or stand in a run as a study leaves them, or in an earlier card of these weights."""
    own = folder.scores if isinstance(facts, RunFacts) and folder.scores.exists() else None
    path = stated.scores or own
    if path is None:
        if stated.out_of_fold:
            raise UsageError("--out-of-fold says what scores are of: give them with --scores.")
        return (before.evaluation_data, before.quantitative_analyses) if before else (EvaluationData(), ())
    if stated.scores is None or (own is not None and own.resolve() == stated.scores.resolve()):
        rows = read_scores(path)  # it stands in the run
    else:
        rows = scores_of_model(path, folder.path, _names_in_predictions(facts, out_of_fold=stated.out_of_fold))
    strangers = sorted({row.organ for row in rows} - set(facts.data.classes))
    if not rows or strangers:
        what = f"scores of {listed(strangers)}, which the model does not know" if strangers else "no score"
        raise BadInputError(f"{path}: {what}. Give the table that `viscera evaluate` wrote of this model.")
    digest, names = sha256(path), sorted({row.case for row in rows})
    splits, known = None, before.evaluation_data if before else EvaluationData()
    if stated.out_of_fold:
        _refuse_not_held_out(path, names, facts)
    elif facts.splits is not None:
        splits = dict(Counter(facts.splits.get(name) or "other" for name in names))
        _warn_of_seen(path, splits, facts)
    elif known.scores_sha256 == digest and not known.out_of_fold:
        splits = known.splits
    evaluation = EvaluationData(
        scores=path.name, scores_sha256=digest, cases=len(names), splits=splits, out_of_fold=stated.out_of_fold
    )
    return evaluation, tuple(summaries(rows))


def _names_in_predictions(facts: RunFacts | MeanFacts, *, out_of_fold: bool) -> set[str]:
    """The checksums by which predictions say that they are of this model."""
    if isinstance(facts, RunFacts):
        return {each.sha256 for each in facts.details.weights}
    weights = [member.model_details.weights for member in facts.members]
    return {each.sha256 for of_run in weights for each in of_run} if out_of_fold else checksum_of_mean(weights)


def _warn_of_seen(path: Path, splits: Mapping[Any, int], facts: RunFacts | MeanFacts) -> None:
    """Scores of a cross-validation are of cases that other runs have seen: say how they are given."""
    fold, seen, of = facts.data.fold, splits.get("train", 0), counted(sum(splits.values()), "scored case")
    if isinstance(facts, MeanFacts) and seen and facts.data.folds:
        log.warning(
            "%s: %d of %s %s training cases of these runs. Where each was segmented by the run that "
            "held it out (`viscera predict --out-of-fold`), add --out-of-fold.",
            *(path, seen, of, agreeing(seen)),
        )
    elif isinstance(facts, RunFacts) and seen and isinstance(fold, int):
        log.warning(
            "%s: %d of %s %s training cases of this run. Of out-of-fold predictions, "
            "`viscera evaluate … --fold %d` gives the scores of those that it held out.",
            *(path, seen, of, agreeing(seen), fold),
        )


def _refuse_not_held_out(path: Path, names: Sequence[str], facts: RunFacts | MeanFacts) -> None:
    """Where the store says which cases its folds have: raise BadInputError for scores of others."""
    held_out = {name for name, split in (facts.splits or {}).items() if split not in {None, "test"}}
    others = [name for name in names if name not in held_out]
    if facts.splits is not None and others:
        raise BadInputError(
            f"{path}: {listed(others, 3)} in no fold of the store, and so held out by no run. Give the table of "
            "`viscera evaluate … --fold all`."
        )


def _dated(card: ModelCard, before: ModelCard | None) -> ModelCard:
    """With the day of today, or that of the card before where that says the same."""

    def on(day: str) -> ModelCard:
        return card.model_copy(update={"model_details": card.model_details.model_copy(update={"date": day})})

    then = before.model_details.date if before else ""
    if before is not None and on(then) == before.model_copy(update=dict.fromkeys(_CHECKSUMS, "")):
        return on(then)
    return on(datetime.now(UTC).date().isoformat())
