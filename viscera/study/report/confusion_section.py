"""The section "Confusion": which class the voxels of each class are called, background too, and how an organ failed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import add
from typing import NamedTuple

from viscera.core.anatomy import title_of
from viscera.core.arms import Arm
from viscera.core.wording import counted
from viscera.doctor.probe_text import (
    MOST_COLUMNS,
    group_sentences,
    mean_of_organs,
    mostly_called,
    percent,
    probe_sentences,
    volume_text,
)
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import EMPTY_RATIO, FAILING_DICE, FLOODED_RATIO, LEARNT_DICE, WORDS, Outcome
from viscera.study.report.page_section import Content, Group, Report, Rows, Section
from viscera.study.results import RunResult, StudyResult

ABSENT, PREDICTED_ALONE = "absent", "in no test case, but predicted"
_NEXT_WORDS = tuple(WORDS)  # worst first


class HeatCell(NamedTuple):
    """A share of the voxels of a class."""

    text: str  # per cent
    share: float  # 0 to 1; 0 of a class without voxels
    is_own: bool  # whether they are called what they are


class HeatRow(NamedTuple):
    """A class in one arm."""

    title: str
    cells: tuple[HeatCell, ...]  # by what its voxels are called; empty where there are many classes
    called: str  # what they are called most
    volume: str  # predicted over true
    words: str  # how it failed, in how many seeds; or `learnt`, `ABSENT`, `PREDICTED_ALONE`


class ArmConfusion(NamedTuple):
    """One arm, over its seeds and test cases."""

    title: str
    rows: tuple[HeatRow, ...]
    sentences: tuple[str, ...]  # of classes that are taken for one another
    summary: str  # how many classes some seed has not learnt
    failing: int


class ProbedRun(NamedTuple):
    """One run that `viscera doctor` probed."""

    title: str
    sentences: tuple[str, ...]
    dice: tuple[tuple[str, float | None, float | None], ...]  # class, before and after the last layer is refitted
    statistics: tuple[float | None, ...]  # mean Dice of the organs: running, recomputed, by batch; empty: none


def arm_confusions(study: StudyResult) -> list[ArmConfusion]:
    """One for each arm whose runs were counted, in the order of Table 1."""
    found = []
    for arm in study.arms:
        known = [run.confusion for run in study.counted_runs_of(arm) if run.confusion is not None]
        if known:
            found.append(_of_arm(arm, known))
    return found


def _of_arm(arm: Arm, of_runs: Sequence[Confusion]) -> ArmConfusion:
    pooled = reduce(add, of_runs)
    outcomes, wide = pooled.outcomes, len(pooled.classes) > MOST_COLUMNS
    rows, failing = [], 0
    for label, each in enumerate(pooled.classes.classes):
        of_seeds = [(one.words(each.name), one.outcomes[each.name]) for one in of_runs]
        failing += any(words for words, _ in of_seeds)
        shares = pooled.shares[label].tolist()
        cells = tuple(HeatCell(percent(s), s if s == s else 0.0, at == label) for at, s in enumerate(shares))  # noqa: PLR0124
        outcome = outcomes[each.name]
        without = ABSENT if outcome.dice is None else PREDICTED_ALONE
        words = without if outcome.volume_ratio is None else words_over_seeds(of_seeds) or "learnt"
        called, volume = mostly_called(pooled, label), volume_text(outcome.volume_ratio)
        rows.append(HeatRow(each.title, () if wide else cells, called, volume, words))
    summary = f"{arm.title}: " + (f"{counted(failing, 'class')} not learnt" if failing else "every class is learnt")
    return ArmConfusion(arm.title, tuple(rows), tuple(group_sentences(pooled)), summary, failing)


def words_over_seeds(of_seeds: Sequence[tuple[tuple[str, ...], Outcome]]) -> str:
    """`empty, called stomach`; of several seeds `empty (3 of 5 seeds), called stomach (5 of 5 seeds)`."""
    said = Counter[tuple[str, str]]()
    for words, outcome in of_seeds:
        said.update((word, (outcome.mostly_called or "") if word == "confused" else "") for word in words)
    ordered = sorted(said.items(), key=lambda item: (_NEXT_WORDS.index(item[0][0]), -item[1], item[0][1]))
    seeds = len(of_seeds)
    return ", ".join(
        (f"called {title_of(organ)}" if organ else word) + (f" ({number} of {seeds} seeds)" if seeds > 1 else "")
        for (word, organ), number in ordered
    )


def probed_runs(study: StudyResult) -> list[ProbedRun]:
    """Those that have a probe, in the order of Table 1."""
    return [_probed(run, len(study.record.config.study.seeds) > 1) for run in study.runs if run.probe is not None]


def _probed(run: RunResult, several_seeds: bool) -> ProbedRun:
    probe = run.probe
    assert probe is not None  # noqa: S101 - as it was chosen
    title = run.arm.title + (f", seed {run.seed}" if several_seeds else "")
    names = map(title_of, probe.classes)
    scores, statistics = probe.statistics, tuple[float | None, ...]()
    if scores is not None:
        kinds = (scores.running, scores.recomputed, scores.batch)
        statistics = tuple(None if kind is None else mean_of_organs(probe.of_present(kind)) for kind in kinds)
    dice = tuple(zip(names, *map(probe.of_present, (probe.refit.before, probe.refit.after)), strict=True))
    return ProbedRun(title, tuple(probe_sentences(probe)), dice, statistics)


def failures_by_arm(study: StudyResult) -> dict[str, dict[str, str]]:
    """By name of arm and of class, how it failed; empty where it is learnt or was not counted."""
    found = {}
    for arm in study.arms:
        known = [run.confusion for run in study.counted_runs_of(arm) if run.confusion is not None]
        names = study.classes.names if known else ()
        found[arm.name] = {
            name: words_over_seeds([(each.words(name), each.outcomes[name]) for each in known]) for name in names
        }
        for name in names:
            if all(each.outcomes[name].volume_ratio is None and each.outcomes[name].dice is not None for each in known):
                found[arm.name][name] = PREDICTED_ALONE
    return found


def _values(report: Report) -> Mapping[str, object] | None:
    study = report.study
    confusions, probed = report.once(_confusions), probed_runs(study)
    if not confusions and not probed:
        return None
    shown = {each.title for each in confusions}
    return {
        "confusions": confusions,
        "uncounted": [arm.title for arm in study.arms if arm.title not in shown],
        "probed": probed,
        "empty_ratio": f"{1 / EMPTY_RATIO:.0f}",
        "flooded_ratio": f"{FLOODED_RATIO:g}",
        "failing_dice": FAILING_DICE,
        "learnt_dice": LEARNT_DICE,
        "columns": [] if len(study.classes) > MOST_COLUMNS else [each.title for each in study.classes.classes],
    }


def _confusions(report: Report) -> list[ArmConfusion]:
    return arm_confusions(report.study)


def _files(report: Report) -> Mapping[str, Content]:
    runs = [run for run in report.study.runs if run.confusion is not None]
    if not runs:
        return {}
    header = ("arm", "seed", "class", "called", "voxels", "share")
    outcomes = ("arm", "seed", "class", "dice", "volume_ratio", "precision", "mostly_called", "words")
    return {
        "confusion.csv": Rows(header, (row for run in runs for row in _cells_of(run))),
        "outcomes.csv": Rows(outcomes, (row for run in runs for row in _outcomes_of(run))),
    }


def _cells_of(run: RunResult) -> Iterator[Sequence[object]]:
    if run.confusion is not None:
        names, shares = run.confusion.classes.names, run.confusion.shares
        for true, row in enumerate(run.confusion.voxels.tolist()):
            for called, voxels in enumerate(row):
                if voxels:
                    of = (names[true], names[called], voxels, f"{shares[true, called]:.6f}")
                    yield (run.arm.name, run.seed, *of)


def _outcomes_of(run: RunResult) -> Iterator[Sequence[object]]:
    if run.confusion is not None:
        pairs = zip(run.confusion.outcomes.items(), run.confusion.precisions, strict=True)
        for (name, outcome), precision in pairs:
            numbers = ("" if value is None else f"{value:.6f}" for value in (*outcome[:2], precision))
            words = " ".join(run.confusion.words(name))
            yield (run.arm.name, run.seed, name, *numbers, outcome.mostly_called or "", words)


CONFUSION = Section(
    "confusion",
    "Confusion",
    _values,
    _files,
    owns=("confusion.csv", "outcomes.csv"),
    group=Group.REASONS,
    heading="Why: which class the voxels of each class are called",
)
