"""`viscera card`: the model card of a run, as JSON for programs and as Markdown for people, beside its weights.

What was stated before of the same weights (licences, and scores whose table is elsewhere) stays until it is stated
anew.
"""

import hashlib
import logging
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from viscera.card.card_facts import RunFacts
from viscera.card.card_markdown import as_markdown
from viscera.card.card_statements import FACTORS, METRICS, OF_PROBABILITIES, USE, caveats, ethics
from viscera.card.model_card import EvaluationData, ModelCard
from viscera.card.score_summary import ScoreSummary, summaries
from viscera.core.errors import BadInputError, VisceraError
from viscera.io.files import refuse_unwritable, sha256, write_text
from viscera.io.records import read_json, validated, write_json
from viscera.io.runlog import RunFolder
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


def write_card(run: Path, out: Path | None = None, stated: Stated | None = None, *, overwrite: bool = False) -> Path:
    """Write `card.json` and `card.md` of a run into its folder, or another; returns the latter's path.

    Raises:
        BadInputError: no run, or a damaged one; a store that the run was not trained on; no table of scores, or an
            empty one; cards that viscera did not write or that were edited, unless they may be overwritten.
    """
    stated, folder = stated or Stated(), out or run
    facts = RunFacts.read(run, Store.open(stated.store) if stated.store else None)
    own = _card_in(run)
    if not overwrite:
        _refuse_others(folder)
    of_these_weights = own if own is not None and own.model_details.weights == facts.details.weights else None
    evaluation, scores = _evaluated(RunFolder(run), stated.scores, facts, of_these_weights)
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
        intended_use=USE,
        factors=FACTORS,
        metrics=(*METRICS, *(text for metric, text in OF_PROBABILITIES.items() if metric in measured)),
        evaluation_data=evaluation,
        training_data=facts.data,
        data_licence=licences[1],
        quantitative_analyses=scores,
        calibration=facts.calibration,
        ethical_considerations=tuple(ethics(facts.data)),
        caveats_and_recommendations=tuple(caveats(facts.details, facts.data, is_evaluated=bool(scores))),
    )
    refuse_unwritable(folder)
    card = _dated(card, own)
    text = as_markdown(card)
    digest, page = hashlib.sha256(text.encode()).hexdigest(), folder / MARKDOWN
    there, written = sha256(page) if page.exists() else digest, _card_in(folder)
    replaces = there if there != digest else written.replaces_sha256 if written else ""
    known = {"markdown_sha256": digest, "replaces_sha256": replaces}
    # first the checksums: killed between the two, what stands there is still known to be ours
    write_json(folder / JSON, card.model_copy(update=known).model_dump(mode="json"))
    write_text(page, text)
    return page


def refresh_card(run: Path, store: Path) -> None:
    """The card of a run that is trained or scored; where it cannot be written, a warning says why."""
    try:
        write_card(run, stated=Stated(store=store))
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
            f"{folder / JSON}: exists, and is no model card of viscera. Move it away, or give another --out."
        )
    path = folder / MARKDOWN
    if path.exists() and (written is None or sha256(path) not in {written.markdown_sha256, written.replaces_sha256}):
        raise BadInputError(
            f"{path}: exists, and is not as viscera wrote it. Move it away, give another --out, or add --overwrite to "
            "lose it."
        )


def _evaluated(
    folder: RunFolder, given: Path | None, facts: RunFacts, before: ModelCard | None
) -> tuple[EvaluationData, tuple[ScoreSummary, ...]]:
    """Scores that are given, or stand in the run as a study leaves them, or in an earlier card of these weights."""
    path = given or (folder.scores if folder.scores.exists() else None)
    if path is None:
        return (before.evaluation_data, before.quantitative_analyses) if before else (EvaluationData(), ())
    rows = read_scores(path)
    strangers = sorted({row.organ for row in rows} - set(facts.data.classes))
    if not rows or strangers:
        what = f"scores of {', '.join(strangers[:5])}, which the model does not know" if strangers else "no score"
        raise BadInputError(f"{path}: {what}. Give the table that `viscera evaluate` wrote of this model.")
    digest, names, splits = sha256(path), {row.case for row in rows}, None
    if facts.splits is not None:
        splits = dict(Counter(facts.splits.get(name) or "other" for name in sorted(names)))
    elif before is not None and before.evaluation_data.scores_sha256 == digest:
        splits = before.evaluation_data.splits
    evaluation = EvaluationData(scores=path.name, scores_sha256=digest, cases=len(names), splits=splits)
    return evaluation, tuple(summaries(rows))


def _dated(card: ModelCard, before: ModelCard | None) -> ModelCard:
    """With the day of today, or that of the card before where that says the same."""

    def on(day: str) -> ModelCard:
        return card.model_copy(update={"model_details": card.model_details.model_copy(update={"date": day})})

    then = before.model_details.date if before else ""
    if before is not None and on(then) == before.model_copy(update=dict.fromkeys(_CHECKSUMS, "")):
        return on(then)
    return on(datetime.now(UTC).date().isoformat())
