"""The paper's Table 1 as data, and its rank correlation with a study."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.fabricated_studies import PAPER_PERCENT, words_of
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import Arm
from viscera.io.scores import ScoreRow
from viscera.study.report import page_section
from viscera.study.report.claim_rules import PAPER_SETTINGS, Evidence
from viscera.study.report.claims_section import CLAIMS_SECTION, MISPRINT, agreement_of, beside_paper, paper_column
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]
Rows = list[tuple[ScoreRow, ...] | None]
NAN = float("nan")


def test_the_papers_averages_are_the_means_of_its_columns_but_for_one() -> None:
    for setting in PAPER_SETTINGS:
        column = paper_column(setting)
        mean = sum(column[name] for name in CLASS_NAMES) / 8
        # printed to one decimal, from cells with one: off by at most half a unit of each
        assert (abs(mean - column["AVG"]) < 0.1) == (setting != MISPRINT)
    simple = paper_column(MISPRINT)
    assert sum(simple[name] for name in CLASS_NAMES) / 8 == pytest.approx(90.0, abs=0.05)
    assert simple["AVG"] == 88.9


def test_the_largest_and_smallest_are_those_printed() -> None:
    printed_max, printed_min = (99.9, 99.1, 79.2, 99.8, 99.8, 99.6), (77.3, 63.6, 0.0, 73.2, 79.3, 54.2)
    for setting, largest, smallest in zip(PAPER_SETTINGS, printed_max, printed_min, strict=True):
        classes = [paper_column(setting)[name] for name in CLASS_NAMES]
        assert (max(classes), min(classes)) == (largest, smallest)


def test_typed_twice_it_is_the_same() -> None:
    for at, setting in enumerate(PAPER_SETTINGS):
        assert [paper_column(setting)[name] for name in PAPER_PERCENT] == [v[at] for v in PAPER_PERCENT.values()]


def test_rank_correlation_by_hand() -> None:
    """Ranks 1 2 3 4 against 1 3 2 4: rho = 1 - 6 · 2 / (4 · 15) = 0.8; one of six pairs is reversed: tau = 4/6."""
    found = agreement_of(np.array([10.0, 20, 30, 40, 50]), np.array([0.1, 0.5, 0.4, 0.9, NAN]))
    assert found.n == 4
    assert found.spearman == pytest.approx(0.8)
    assert found.kendall == pytest.approx(4 / 6)


@pytest.mark.parametrize("pairs", [[], [(1.0, 2.0)], [(1.0, 5.0), (2.0, 5.0)], [(1.0, NAN), (2.0, NAN)]])
def test_without_two_different_values_there_is_none(pairs: list[tuple[float, float]]) -> None:
    papers, owns = np.array(pairs).reshape(-1, 2).T
    assert agreement_of(papers, owns)[1:] == (None, None)


def test_the_papers_own_numbers_agree_with_themselves(make_study: StudyMaker, paper_rows: Rows) -> None:
    study = make_study(paper_rows)
    beside = beside_paper(Evidence(study, "original"))
    assert beside is not None
    assert [(over, a.n) for over, a in beside.agreement.items()] == [("cells", 42), ("arms", 6)]
    assert beside.correlation_csv().splitlines()[1:] == ["cells,42,1.000,1.000", "arms,6,1.000,1.000"]
    rows = list(page_section.Rows.of_tables(paper=beside.paper, study=beside.study).rows)
    assert len(rows) == 60
    assert ("liver", "square_lr0.001", "10.1000", "10.1000") in rows
    said = words_of(study, CLAIMS_SECTION)
    assert "not the printed 88.9" in said
    assert "phantom" not in said


def test_a_reversed_order_of_the_arms(make_study: StudyMaker, paper_rows: Rows) -> None:
    """Foreground means in the paper: 86.6, 70.6, 39.0, 84.5, 88.6, 75.9. All Dice replaced by 1 - Dice."""
    turned: Rows = [tuple(r._replace(value=1 - (r.value or 0)) for r in rows or ()) for rows in paper_rows]
    study = make_study(turned, dataset="phantom")
    beside = beside_paper(Evidence(study, "original"))
    assert beside is not None
    assert beside.correlation_csv().splitlines()[2] == "arms,6,-1.000,-1.000"
    assert "Patients beside a phantom" in words_of(study, CLAIMS_SECTION)


def test_two_of_the_papers_models_are_too_few(make_study: StudyMaker, paper_rows: Rows) -> None:
    study = make_study([*paper_rows[:2], None, None, None, None])
    assert beside_paper(Evidence(study, "original")) is None
    study = make_study([*paper_rows[:3], None, None, None])
    three = beside_paper(Evidence(study, "original"))
    assert three is not None
    assert [a.n for a in three.agreement.values()] == [21, 3]
    assert "not the printed 88.9" not in words_of(study, CLAIMS_SECTION)  # that column is not shown


def test_intervals_are_over_what_there_is_and_end_where_dice_does(study_of_dice: StudyMaker) -> None:
    """Two cases, uniform minus simple 0 and 80 points at 0.001: a standard error of 40, and Student's t is 12.7."""

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float:
        del seed, organ
        return 0.9 if case and arm.weighting == "uniform" else 0.1

    one = words_of(study_of_dice(dice, cases=2), CLAIMS_SECTION)
    assert "uniform \N{MINUS SIGN} simple at 0.001: +40.0 [\N{MINUS SIGN}100.0, +100.0]" in one
    assert "with their 95 % intervals over cases, of an equivalence 90 %" in one
    assert "they may hold 0" not in one
    two = words_of(study_of_dice(dice, cases=2, **{"study.seeds": (0, 1)}), CLAIMS_SECTION)
    assert "with their 95 % intervals over cases and seeds, of an equivalence 90 %" in two
    assert "with fewer than 5 seeds no line is a verdict" in two
    assert "Intervals over so few seeds say so, too: they may hold 0 where these models differ." in two


def test_the_claims_warn_by_the_seeds_that_there_are(study_of_dice: StudyMaker) -> None:
    """Five are planned; one of uniform at 0.01 has no scores, so that claims about it are about these models."""

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float | None:
        del organ
        return None if (arm.name, seed) == ("uniform_lr0.01", 4) else 0.5 + 0.01 * case

    said = words_of(study_of_dice(dice, **{"study.seeds": (0, 1, 2, 3, 4)}), CLAIMS_SECTION)
    assert "with fewer than 5 seeds no line is a verdict" in said
