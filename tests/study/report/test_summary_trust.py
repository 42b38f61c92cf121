"""What flags were worth on the test cases, by hand."""

import dataclasses
from collections.abc import Callable

import pytest

from viscera.io.scores import ScoreRow
from viscera.study.report.case_gallery import gallery_of, scene_views
from viscera.study.report.page_section import Report
from viscera.study.report.segmentations_section import organ_figures
from viscera.study.report.summary_section import flagged_organs, trust_rows, trust_sentence
from viscera.study.results import Scene, StudyResult

MakeStudy = Callable[..., StudyResult]
DICE = {("a", "liver"): 0.9, ("a", "spleen"): 0.2, ("b", "liver"): 0.4, ("b", "spleen"): None, ("b", "stomach"): 0.1}
REASONS: dict[tuple[str, str], tuple[str, ...]] = {
    ("a", "liver"): (),
    ("a", "spleen"): ("not found",),
    ("b", "liver"): (),
    ("b", "spleen"): ("HU 3 outside 40 to 60",),
}  # nothing was measured of b's stomach


@pytest.fixture
def study(make_study: MakeStudy) -> StudyResult:
    rows = tuple(ScoreRow(case, organ, "original", "dice", value) for (case, organ), value in DICE.items())
    plain = make_study([rows] + [None] * 5)
    first = dataclasses.replace(plain.runs[0], reasons=REASONS)
    return dataclasses.replace(plain, runs=(first, *plain.runs[1:]))


def test_unflagged_and_flagged_failures(study: StudyResult) -> None:
    (row,) = trust_rows(study, "original")
    assert (row.unflagged, row.unflagged_failed, row.flagged, row.flagged_failed) == (2, 1, 1, 1)
    assert trust_rows(study, "prepared") == []
    sentence = trust_sentence([row])
    assert (
        "Among 2 unflagged organs of the test cases 50 % have a Dice below 0.5; among 1 flagged ones 100 %" in sentence
    )


def test_the_pictures_name_flagged_organs(make_study: MakeStudy, scene: Scene) -> None:
    assert flagged_organs(REASONS, "a") == ("spleen",)
    shown = dataclasses.replace(scene, flagged={"uniform_lr0.001": ("portal_vein", "spleen")})
    study = make_study([None] * 6)
    panels = organ_figures(study, shown, scene_views(Report(study, shown)))[0].panels
    assert [panel.note for panel in panels] == ["", "flagged: portal vein, spleen", ""]
    gallery = gallery_of(Report(study, shown))
    assert gallery is not None
    assert [tile.flagged for tile in gallery.arms] == [("portal vein", "spleen"), (), (), (), (), ()]
