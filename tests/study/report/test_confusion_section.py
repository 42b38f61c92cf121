"""The section "Confusion": from matrices worked out by hand."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.fabricated_probes import made_probe
from tests.fabricated_studies import words_of as text_of
from viscera.core.anatomy import ABDOMEN, CLASS_NAMES, ClassTable
from viscera.doctor.probe_record import Refit, StatisticsScores
from viscera.io.scores import ScoreRow
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import Outcome, words_of
from viscera.study.report.confusion_section import CONFUSION, arm_confusions, failures_by_arm, words_over_seeds
from viscera.study.report.page_section import Report, Rows, render_page
from viscera.study.results import StudyResult

MakeStudy = Callable[..., StudyResult]
LIVER, SPLEEN, STOMACH = (CLASS_NAMES.index(name) for name in ("liver", "spleen", "stomach"))


SCORED = (ScoreRow("a", "liver", "original", "dice", 0.5),)


def right() -> Confusion:
    """Ten voxels of each class, all right."""
    return Confusion(ABDOMEN, np.diag(np.full(8, 10)))


def flooded() -> Confusion:
    """Of 100 voxels of background 64 are called stomach and 27 liver; the spleen is called stomach, too."""
    voxels = np.diag(np.full(8, 10))
    voxels[0, [0, LIVER, STOMACH]] = 9, 27, 64
    voxels[SPLEEN, [SPLEEN, STOMACH]] = 0, 10
    return Confusion(ABDOMEN, voxels)


def with_confusions(study: StudyResult, *of_runs: Confusion | None) -> StudyResult:
    runs = [dataclasses.replace(run, confusion=each) for run, each in zip(study.runs, of_runs, strict=True)]
    return dataclasses.replace(study, runs=tuple(runs))


@pytest.fixture
def study(make_study: MakeStudy) -> StudyResult:
    """Six arms; the third floods, the last was not counted."""
    return with_confusions(make_study([SCORED] * 6), right(), right(), flooded(), right(), right(), None)


def test_the_row_of_background_is_there_with_its_words(study: StudyResult) -> None:
    fine, _, flood, *_ = arm_confusions(study)
    assert fine.failing == 0
    background, spleen, stomach = (flood.rows[label] for label in (0, SPLEEN, STOMACH))
    assert [cell.text for cell in background.cells] == ["9", "0", "0", "27", "0", "64", "0", "0"]
    assert background.words == "empty, called stomach"  # 9 of 100 voxels: less than a ninth
    assert (spleen.words, spleen.volume) == ("empty, called stomach", "0")
    assert (stomach.words, stomach.volume) == ("flooded", "8.4")
    assert flood.rows[LIVER].words == "flooded"  # 37 of 10
    # 130 voxels of the four are all called one of them, and so are no others
    assert flood.sentences[0].startswith(
        "Background, liver, spleen and stomach are taken for one another: as one class"
    )
    assert "a Dice of 1.000" in flood.sentences[0]


def test_the_page_says_it_and_opens_what_failed(study: StudyResult) -> None:
    said = text_of(study, CONFUSION)
    assert "square, rate 0.001: 4 classes not learnt" in said
    assert "uniform, rate 0.001: every class is learnt" in said
    assert "Not counted: square, rate 0.01." in said
    assert "viscera doctor STUDY/arms/ARM/seed_S" in said
    page = render_page(Report(study), [CONFUSION])
    assert page.count("<details open>") == 1
    assert page.count("<details>") == 4
    assert page.count('aria-label="Confusion, ') == 5
    assert '"background:rgba(234,88,12,0.38)">64<' in page  # 0.6 of 64 %


def test_its_files_hold_all_numbers(study: StudyResult) -> None:
    cells, outcomes = (CONFUSION.files(Report(study))[name] for name in ("confusion.csv", "outcomes.csv"))
    assert isinstance(cells, Rows)
    assert isinstance(outcomes, Rows)
    assert ("square_lr0.001", 0, "background", "stomach", 64, "0.640000") in [tuple(row) for row in cells.rows]
    (stomach,) = (row for row in outcomes.rows if row[0] == "square_lr0.001" and row[2] == "stomach")
    # 10 of 84 voxels that are called so
    assert tuple(stomach[3:]) == ("0.212766", "8.400000", "0.119048", "stomach", "flooded")


def test_several_seeds_say_in_how_many(make_study: MakeStudy) -> None:
    study = make_study([SCORED] * 12, seeds=(0, 1))
    each = [right(), right(), right(), right(), right(), flooded()] + [None] * 6
    arm = arm_confusions(with_confusions(study, *each))[2]
    assert arm.rows[SPLEEN].words == "empty (1 of 2 seeds), called stomach (1 of 2 seeds)"
    assert failures_by_arm(with_confusions(study, *each))[study.arms[2].name]["stomach"] == "flooded (1 of 2 seeds)"
    both = [Outcome(0.0, 0.0, "liver"), Outcome(0.1, 5.0, "liver"), Outcome(0.9, 1.0, "spleen")]
    said = words_over_seeds([(words_of("spleen", outcome), outcome) for outcome in both])
    assert said == "empty (1 of 3 seeds), flooded (1 of 3 seeds), called liver (2 of 3 seeds)"


def test_an_organ_that_no_test_case_has_is_not_called_failing(make_study: MakeStudy) -> None:
    voxels = np.diag(np.full(8, 10))
    voxels[0, LIVER], voxels[LIVER], voxels[SPLEEN] = 5, 0, 0
    study = with_confusions(make_study([SCORED] * 6), *[Confusion(ABDOMEN, voxels)] * 6)
    arm, *_ = arm_confusions(study)
    assert (arm.rows[LIVER].words, arm.rows[SPLEEN].words) == ("in no test case, but predicted", "absent")
    assert arm.failing == 0
    assert failures_by_arm(study)[study.arms[0].name]["liver"] == "in no test case, but predicted"


def test_many_classes_are_listed_instead_of_a_column_each(make_study: MakeStudy) -> None:
    names = ("background", *(f"organ_{n}" for n in range(20)))
    study = make_study([SCORED] * 6)
    study = dataclasses.replace(study, record=study.record.model_copy(update={"classes": names}))
    voxels = np.diag(np.full(21, 10))
    voxels[1, [1, 2, 0]] = 1, 6, 3
    confused = Confusion(ClassTable.of_names(names), voxels)
    runs = tuple(dataclasses.replace(run, confusion=confused) for run in study.runs)
    said = text_of(dataclasses.replace(study, runs=runs), CONFUSION)
    assert "organ 0 organ 1 60 %, background 30 %, organ 0 10 % 0.1 empty, called organ 1" in said


def test_without_counts_and_probes_there_is_no_section(make_study: MakeStudy) -> None:
    assert CONFUSION.values(Report(make_study([None] * 6))) is None


def test_a_probe_is_shown_with_its_sentences(study: StudyResult) -> None:
    statistics = StatisticsScores(windows=48, batch_size=3, running=None, recomputed=(0.5,) * 8, batch=(0.52,) * 8)
    refit = Refit(steps=50, before=(0.2,) * 8, after=(0.9, *[0.3] * 7))
    probe = made_probe(refit, flooded().voxels, statistics)
    runs = [dataclasses.replace(run, probe=probe if n == 2 else None) for n, run in enumerate(study.runs)]
    said = text_of(dataclasses.replace(study, runs=tuple(runs)), CONFUSION)
    assert "square, rate 0.001. Background, liver, spleen and stomach are taken for one another" in said
    assert "Background then has a Dice of at least 0.5: the failure is in the last layer" in said
    assert "the failure is in the features" in said
    assert "background 0.20 / 0.90" in said
    assert "statistics: running – statistics: recomputed 0.50 statistics: by batch 0.52" in said
