"""From a study to comparisons.csv and to what the page says of it."""

import html
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.fabricated_studies import five_seeds, ladder, rows_of, words_of
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.arms import arms_of
from viscera.core.resolve import resolve_config
from viscera.io.scores import ScoreRow
from viscera.study.report.arm_spread import spread_of
from viscera.study.report.comparisons import Comparison, Family, compare
from viscera.study.report.comparisons_section import COMPARISONS, arm_standings, organ_findings
from viscera.study.report.page_section import Report, render_page
from viscera.study.report.table1_section import table1
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]
Array = npt.NDArray[np.float64]
ARMS = [arm.name for arm in arms_of(resolve_config("demo").study)]
PAIRS = 15  # of six arms
TESTS = PAIRS * 7


def by_key(rows: Sequence[Comparison]) -> dict[tuple[str, str, str, str], Comparison]:
    return {(row.metric, row.organ, row.arm_a, row.arm_b): row for row in rows}


def test_every_pair_and_organ_is_a_row_and_the_effect_is_in_points(make_study: StudyMaker) -> None:
    # 0.02 and 0.06 higher by turns on six patients, so all averages of two are 2, 4 or 6 points: the median is 4
    low = np.full((6, 7), 0.5)
    high = low + np.array([0.02, 0.06] * 3)[:, None]
    compared = compare(make_study([rows_of(high), rows_of(low), *[rows_of(low)] * 4]), "original")
    assert len(compared.rows) == TESTS
    assert [(r.organ, r.arm_a, r.arm_b) for r in compared.rows[:2]] == [
        ("artery", ARMS[0], ARMS[1]),
        ("artery", ARMS[0], ARMS[2]),
    ]
    first = compared.rows[0]
    assert first.n == 6
    assert first.statistic == 0
    assert first.p == 0.03125
    assert first.p_holm == 1  # 105 * 0.03125
    assert (first.effect, first.ci_low, first.ci_high) == pytest.approx((4, 2, 6))
    assert first.cells()[:11] == (
        "artery", "dice", ARMS[0], ARMS[1], "6", "0", "0.03125", "1", "4.0000", "2.0000", "6.0000",
    )  # fmt: skip
    # the mean of 2, 6, 2, 6, 2, 6 is 4, its standard error sqrt(4.8 / 6) = 0.894, Student's t of 5 is 2.571: 4 ± 2.2992
    assert first.cells()[11:] == ("4.0000", "1.7008", "6.2992", "0.03125", "1", "", "not shown")
    equal = compared.rows[PAIRS - 1]
    assert (equal.arm_a, equal.arm_b, equal.p, equal.effect) == (ARMS[4], ARMS[5], 1, 0)


def test_seeds_are_averaged_before_the_pairs(make_study: StudyMaker) -> None:
    # seeds of 0.4 and 0.8 average to the other arm's 0.6 on every patient: no difference at all, and n is of patients
    runs = [rows_of(np.full((8, 7), value)) for value in (0.4, 0.8, 0.6, 0.6, *[0.5] * 8)]
    first = compare(make_study(runs, seeds=(0, 1)), "original").rows[0]
    assert (first.n, first.p, first.effect) == (8, 1, 0)


def test_a_difference_on_every_patient_is_significant_once_there_are_enough(make_study: StudyMaker) -> None:
    study = five_seeds(make_study, ladder(13))
    enough, said = compare(study, "original"), words_of(study, COMPARISONS)
    assert enough.families == (Family("dice", TESTS, 13, 5, (5,), TESTS, TESTS, 0),)
    assert enough.rows[0].p_holm == pytest.approx(TESTS * 2 / 2**13)
    assert "Dice: 105 of 105 tests are significant" in said
    assert "the smallest p that is possible with 13 test cases is 0.00024, and 0.026 after" in said
    study = five_seeds(make_study, ladder(12))
    fewer, said = compare(study, "original"), words_of(study, COMPARISONS)
    assert fewer.families[0].significant == 0
    assert "Dice: no difference can be significant here, however large" in said
    assert "It takes 13 test cases or more." in said


def test_other_metrics_are_families_of_their_own(make_study: StudyMaker) -> None:
    arms = ladder(6)
    rows = [
        rows_of(v) + rows_of(10 * v, "hd95_mm") + rows_of(v, "surface_dice") + rows_of(v, "volume_ml") for v in arms
    ]
    study = make_study(rows)
    compared = compare(study, "original")
    assert [family.metric for family in compared.families] == ["dice", "hd95_mm", "surface_dice"]
    assert {family.tests for family in compared.families} == {TESTS}
    found = by_key(compared.rows)
    dice, surface, distance = (
        found[metric, "liver", ARMS[0], ARMS[1]] for metric in ("dice", "surface_dice", "hd95_mm")
    )
    assert surface[4:] == dice[4:]
    assert dice.effect == pytest.approx(5, abs=0.1)
    assert distance.effect == pytest.approx(0.5, abs=0.01)  # mm stay mm
    assert {len(row) for row in compared.rows} == {len(Comparison._fields)}
    assert words_of(study, COMPARISONS).count("no difference can be significant here") == 3


def test_background_and_other_grids_are_not_compared(make_study: StudyMaker) -> None:
    rows = tuple(ScoreRow("a", organ, "prepared", "dice", 0.5) for organ in CLASS_NAMES)
    study = make_study([rows] * 6)
    assert compare(study, "original").rows == ()
    assert "background" not in {row.organ for row in compare(study, "prepared").rows}


def test_too_few_patients_leave_cells_empty_and_say_so(make_study: StudyMaker) -> None:
    study = make_study([rows_of(v) for v in ladder(1)])
    one = compare(study, "original")
    assert one.rows[0].cells()[4:8] == ("1", "", "", "")
    assert one.rows[0].effect == pytest.approx(5, abs=0.02)  # the one difference
    assert one.rows[0].cells()[9:11] == ("", "")
    assert one.rows[0].cells()[12:] == ("", "", "", "1", "", "")
    assert one.families[0].tests == 0
    assert "Dice: with 1 test case there is no test" in words_of(study, COMPARISONS)
    assert any("one case allows no test" in note for note in one.notes)
    five = compare(make_study([rows_of(v) for v in ladder(5)]), "original")
    assert five.rows[0].p == 0.0625
    assert five.rows[0].ci_low is None


def test_different_test_cases_are_compared_on_the_common_ones(make_study: StudyMaker) -> None:
    arms = ladder(8)
    rows = [rows_of(v) for v in arms]
    fewer = tuple(row for row in rows[0] if row.case not in {"case_000", "case_001"})
    undefined = arms[1].copy()
    undefined[3, 5] = np.nan  # no gallbladder, neither in truth nor in prediction
    compared = compare(make_study([fewer, rows_of(undefined), *rows[2:5], None]), "original")
    found = by_key(compared.rows)
    assert found["dice", "liver", ARMS[0], ARMS[2]].n == 6
    assert found["dice", "liver", ARMS[1], ARMS[2]].n == 8
    assert found["dice", "gallbladder", ARMS[1], ARMS[2]].n == 7
    assert found["dice", "liver", ARMS[0], ARMS[5]].cells()[4:16] == ("0", *[""] * 10, "0")
    assert compared.families[0].tests == TESTS - 5 * 7  # an arm without scores has no tests
    same = by_key(compare(make_study(rows), "original").rows)["dice", "spleen", ARMS[1], ARMS[2]]
    assert found["dice", "spleen", ARMS[1], ARMS[2]].p == same.p
    notes = " ".join(compared.notes)
    assert "These arms have no scores by Dice and are in no test: square, rate 0.01." in notes
    assert "Arms with fewer than all 8 cases: uniform, rate 0.001: 6." in notes
    assert "gallbladder 5" in notes


def test_the_marks_of_table_1_are_the_arms_not_told_apart_from_the_best(make_study: StudyMaker) -> None:
    arms = ladder(16)
    arms[1][:, 2] = arms[0][:, 2] + 0.001 * np.array(
        [1, -1] * 8
    )  # liver of the second arm: up and down around the best
    study = five_seeds(make_study, arms)
    table = table1(study, "original")
    liver = next(row for row in table.rows() if row.name == "liver")
    assert [cell.mark for cell in liver.cells] == ["", "≈", "", "", "", ""]
    assert all(cell.mark == "" for row in table.rows() if row.name != "liver" for cell in row.cells)
    assert any(note.startswith("≈: not significantly different") for note in table.footnotes)
    findings = {f.organ: f for f in organ_findings(compare(study, "original"))}
    assert findings["liver"].alike == [ARMS[1]]
    assert findings["spleen"].alike == []
    lines = {line[0]: line[1:] for line in _lines(study)}
    assert lines["liver"][3:] == ["4 of 5", "simple, rate 0.001"]
    assert lines["spleen"][4] == "none"
    assert lines["spleen"][2].startswith("+5.0 [")


def test_the_standing_of_each_arm(make_study: StudyMaker) -> None:
    study = five_seeds(make_study, ladder(16))
    standings = arm_standings(compare(study, "original"))
    assert [s.arm for s in standings] == ARMS
    assert [(s.rank, s.better, s.worse, s.tests) for s in standings] == [
        (rank, 7 * (6 - rank), 7 * (rank - 1), 35) for rank in range(1, 7)
    ]
    lines = {line[0]: line[1:] for line in _lines(study)}
    assert [lines[arm.title][2] for arm in study.arms] == ["1", "2", "3", "4", "5", "6"]  # ranks in 95 %
    assert lines["uniform, rate 0.001"][3] == "100\N{NO-BREAK SPACE}%"


def test_intervals_widen_with_the_patients_and_the_seeds(make_study: StudyMaker) -> None:
    # one patient: none; two patients at 40 and 60 %: a standard error of 10, and Student's t of one degree is 12.706
    assert spread_of(make_study([rows_of(np.full((1, 7), 0.5))] * 6), "original").low.isna().to_numpy().all()
    two = rows_of(np.array([[0.4] * 7, [0.6] * 7]))
    spread = spread_of(make_study([two] * 6), "original")
    assert spread.half_width[ARMS[0]]["liver"] == pytest.approx(127.06, abs=0.01)
    assert spread.half_width[ARMS[0]]["FOREGROUND"] == pytest.approx(127.06, abs=0.01)
    assert (spread.low[ARMS[0]]["liver"], spread.high[ARMS[0]]["liver"]) == (0, 100)  # as far as Dice goes
    assert np.isnan(spread.low[ARMS[0]]["background"])
    # patients alike, seeds at 49.9 and 50.1 %: all of it comes from the seeds, a standard error of 0.1
    alike = [rows_of(np.full((5, 7), value)) for value in (0.499, 0.501)]
    of_seeds = spread_of(make_study(alike * 6, seeds=(0, 1)), "original").half_width[ARMS[3]]
    assert of_seeds["liver"] == pytest.approx(1.2706, abs=1e-3)
    assert spread_of(make_study([alike[0]] * 6), "original").half_width[ARMS[3]]["liver"] == pytest.approx(0)


def test_a_seed_that_is_scored_in_part_changes_no_mean_of_seeds_and_cases_that_add(make_study: StudyMaker) -> None:
    # every arm: five cases from 40 to 60 %, the second seed 20 points better; the first arm lacks three of its cases
    of_seeds = [np.linspace(0.4, 0.6, 5)[:, None] + np.full(7, gain) for gain in (0.0, 0.2)]
    whole = [rows_of(of) for of in of_seeds]
    missing = [whole[0], tuple(row for row in whole[1] if row.case in {"case_000", "case_001"})]
    study = make_study([*missing, *whole * 5], seeds=(0, 1))
    spread, first = spread_of(study, "original"), compare(study, "original").rows[0]
    assert spread.high[ARMS[0]].dropna().tolist() == pytest.approx(spread.high[ARMS[1]].dropna().tolist())
    assert {spread.stability[arm].best for arm in ARMS} == {1.0}
    assert first.mean == pytest.approx(0)
    assert first.n == 5


def test_seeds_with_cases_of_their_own_have_no_interval(make_study: StudyMaker) -> None:
    rows = rows_of(np.linspace(0.4, 0.6, 6)[:, None] + np.zeros(7))
    parts = [tuple(row for row in rows if row.case in names) for names in ({"case_000", "case_001"}, {"case_002"})]
    study = make_study(parts * 6, seeds=(0, 1))
    first = compare(study, "original").rows[0]
    assert (first.n, first.mean_low, first.mean_high, first.p_trainings) == (3, None, None, 1)
    assert spread_of(study, "original").low.isna().to_numpy().all()


def test_one_arm_alone_has_no_other(study_of_dice: StudyMaker) -> None:
    grid = {"study.weightings": ("uniform",), "study.learning_rates": (0.01,)}
    study = study_of_dice(lambda *_: 0.5, **grid)
    assert _lines(study)[0] == ["artery", "uniform, rate 0.01: 50.0", "–", "–", "–", "–"]
    assert _lines(study)[-1][1:] == ["50.0 ±0.0", "1", "1", "100\N{NO-BREAK SPACE}%", "–", "–"]


def test_nothing_scored_is_nothing_compared(make_study: StudyMaker) -> None:
    study = make_study([None] * 6)
    compared = compare(study, "")
    assert (compared.rows, compared.families, compared.notes) == ((), (), ())
    assert organ_findings(compared) == []
    assert arm_standings(compared) == []


def _lines(study: StudyResult) -> list[list[str]]:
    """The cells of the rows of the section's tables."""
    page = render_page(Report(study), [COMPARISONS])
    rows = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", page, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_intervals_of_differences_end_where_dice_does(make_study: StudyMaker) -> None:
    """Two patients, differences of 0 and 80 points: a standard error of 40, and Student's t of one degree is 12.7."""
    low, high = rows_of(np.array([[0.1] * 7, [0.1] * 7])), rows_of(np.array([[0.1] * 7, [0.9] * 7]))
    first = compare(make_study([high, low, *[None] * 4]), "original").rows[0]
    assert first.mean == pytest.approx(40)
    assert (first.mean_low, first.mean_high) == (-100, 100)


def test_one_seed_is_said_to_be_over_cases_alone(make_study: StudyMaker) -> None:
    one = words_of(make_study([rows_of(v) for v in ladder(6)]), COMPARISONS)
    assert "its 95 % interval, over cases, is not corrected" in one
    two = words_of(make_study([rows_of(v) for v in ladder(6) for _ in range(2)], seeds=(0, 1)), COMPARISONS)
    assert "its 95 % interval, over cases and seeds, is not corrected for the number of tests, and with" in two


def test_pairs_with_seeds_enough_are_counted_for_themselves(make_study: StudyMaker) -> None:
    """Five of fifteen pairs have the first arm with two seeds, in 16 patients a clear ladder."""
    rows = [rows_of(values) if arm or seed < 2 else None for arm, values in enumerate(ladder(16)) for seed in range(5)]
    study = make_study(rows, seeds=(0, 1, 2, 3, 4))
    (family,) = compare(study, "original", ["dice"]).families
    assert (family.of_enough, family.significant, family.of_models, family.fewer_seeds) == (70, 70, 35, "2")
    said = words_of(study, COMPARISONS)
    assert "70 of 70 tests with 5 shared seeds or more are significant" in said
    assert "The other 35, with 2" in said
