"""The page as text: what it says, and that nothing of the data is more than text in it."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable

import pytest

from tests.fabricated_studies import FIVE_SEEDS, draw_no_curves, draw_nothing, words_of
from viscera.core.anatomy import ORGANS
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.page_section import Group, Report, Section, render_page
from viscera.study.report.report_stage import SECTIONS
from viscera.study.report.summary_section import SUMMARY
from viscera.study.report.table1_section import TABLE1
from viscera.study.results import StudyResult

StudyMaker = Callable[..., StudyResult]
Rows = list[tuple[ScoreRow, ...] | None]


def scripts_in(page: str) -> tuple[list[str], list[str]]:
    """What runs, and what is data."""
    found = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert page.count("<script") == len(found)
    assert {attributes for attributes, _ in found} <= {"", ' type="application/json"'}
    return [text for kind, text in found if not kind], [text for kind, text in found if kind]


def test_names_from_the_data_are_escaped(hostile_page: str) -> None:
    assert "<script>alert" not in hostile_page
    assert hostile_page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # data set, case, message, hardware
    assert "javascript:" not in hostile_page
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r"<script.*?</script>", "", hostile_page, flags=re.DOTALL))


def test_scripts_are_files_of_the_package_allowed_by_their_hash(hostile_page: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', hostile_page)
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy).split(";"))
    assert rules["default-src"] == "'none'"
    code, data = scripts_in(hostile_page)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in code]
    assert rules["script-src"].split() == hashes
    assert len(code) >= 2
    assert all(json.loads(text) for text in data)


def test_the_page_needs_no_second_file_and_no_network(hostile_page: str) -> None:
    text = re.sub(r"<script.*?</script>", "", hostile_page, flags=re.DOTALL)
    assert not re.findall(r"""src=["'](?!data:)""", text)
    assert set(re.findall(r"""href=["'](?!#)(.*?)["']""", text)) == {
        *("beside_paper.csv", "claims.csv", "comparisons.csv", "rank_correlation.csv", "table1_intervals.csv"),
        *("table1.csv", "table1.md", "table1.tex"),
    }  # beside it
    assert not re.search(r"url\((?!#)", text)  # clip paths of the charts are in the page
    assert "@import" not in text
    assert len(hostile_page) < 5_000_000


def test_a_phantom_is_called_one_in_the_banner_and_on_what_is_copied_out(hostile_page: str) -> None:
    banner = "All figures on this page come from a procedural phantom. They say nothing about patients."
    assert hostile_page.count(banner) == 1
    headings = re.findall(r"<h[123]>(.*?)</h[123]>", hostile_page)
    assert len(headings) >= 10
    assert not any("phantom" in heading for heading in headings)
    assert "Mean Dice on the test cases, per cent (phantom)</span></caption>" in hostile_page
    (methods,) = re.findall(r'<p class="paste">(.*?)</p>', hostile_page)
    assert methods.endswith("(phantom)")


def test_groups_come_in_their_order_and_details_are_folded(hostile_page: str) -> None:
    at = {section.anchor: hostile_page.find(f'id="{section.anchor}"') for section in SECTIONS}
    places = [at[s.anchor] for s in sorted(SECTIONS, key=lambda s: s.group) if at[s.anchor] > 0]
    assert places == sorted(places)
    assert at["summary"] < at["table1"] < at["segmentations"] < at["figure1"] < at["comparisons"]
    for section in SECTIONS:
        folded = f'<details class="folded" id="{section.anchor}">' in hostile_page
        assert folded == (section.group == Group.DETAILS and at[section.anchor] > 0), section.anchor


def test_pictures_and_charts_have_a_text_beside_them(hostile_page: str) -> None:
    pictures = re.findall(r"<img [^>]*>", hostile_page)
    assert len(pictures) == 7 + 7  # ground truth and six arms, as slice and as surface
    assert all(re.search(r'alt="[^"]{10,}"', picture) for picture in pictures)
    assert hostile_page.count('<div role="img" aria-label="Learning curve of ') == 6


def test_clinical_data_are_not_called_a_phantom(
    make_study: StudyMaker, paper_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_no_curves(monkeypatch)
    text = render_page(Report(make_study(paper_rows), None, ["The store is gone."]), SECTIONS)
    assert "phantom" not in text
    assert "The store is gone." in text
    assert "no test case could be read" in text


def test_every_organ_has_its_colour_in_the_legend(hostile_page: str) -> None:
    for organ in ORGANS:
        assert f'background:{organ.colour}"></span>{organ.title}' in hostile_page


def test_one_case_gives_no_statistics(hostile_page: str) -> None:
    section = html.unescape(hostile_page[hostile_page.index('id="comparisons"') : hostile_page.index('id="claims"')])
    assert "no test is possible" in section
    assert "with 1 test case there is no test" in section
    assert "These arms have no scores by Dice and are in no test: square, rate 0.01." in section
    assert "<table" not in section


def test_nothing_is_made_of_zeros(make_study: StudyMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    zeros: Rows = [tuple(ScoreRow("case", organ.name, "original", "dice", 0.0004) for organ in ORGANS)] * 6
    study = make_study(zeros)
    assert "no arm segments any organ: every mean foreground Dice is 0.0\N{NO-BREAK SPACE}%." in html.unescape(
        render_page(Report(study), [SUMMARY])
    )
    assert 'class="best"' not in render_page(Report(study), [TABLE1])
    assert "none: 0.0 in all" not in render_page(Report(study), SECTIONS)  # one case: no comparisons at all
    two = [tuple(row._replace(case=case) for case in "ab" for row in rows or ()) for rows in zeros]
    assert render_page(Report(make_study(two)), SECTIONS).count("none: 0.0 in all") == 7


def test_what_is_not_trained_to_the_end_is_said_first(make_study: StudyMaker) -> None:
    early = RunStatus(state="running", step=40, iterations=300)
    rows: Rows = [(ScoreRow("a", "liver", "original", "dice", 0.3),), *[None] * 5]
    said = words_of(make_study(rows, statuses=dict.fromkeys(range(6), early)), SUMMARY)
    assert said.startswith("After 40 of 300 steps, none of the 6 arms has a finished and scored run yet.")
    of_others = words_of(make_study(rows, statuses=dict.fromkeys(range(1, 6), early)), SUMMARY)
    assert "uniform weights at rate 0.001 reach a mean foreground Dice of 30.0 %." in of_others
    assert "5 of 6 arms have no finished and scored run" in of_others


def test_a_verdict_is_a_word_and_a_sign_and_not_a_colour_alone(
    study_of_dice: StudyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uniform falls by 30 points at the higher rate, simple and square rise by 20: claim 3 holds, claim 5 does not."""
    draw_no_curves(monkeypatch)
    change = {"uniform": -0.3, "simple": 0.2, "square": 0.2}
    study = study_of_dice(
        lambda arm, _seed, case, _organ: 0.6 + 0.001 * case + (arm.learning_rate == 0.01) * change[arm.weighting],
        **{"study.seeds": FIVE_SEEDS},
    )
    text = render_page(Report(study), SECTIONS)
    lines = re.findall(
        r'<tr><th scope="row">(\d+[ab]?)</th>.*?<span class="verdict (\w+)">(. \w+)</span>', text, re.DOTALL
    )
    shown = {number: (word, tag) for number, word, tag in lines}
    assert len(shown) == 11
    assert shown["3"] == ("supported", "✓ supported")
    assert shown["5"] == ("contradicted", "✗ contradicted")
    assert shown["6"] == ("undecided", "? undecided")


def test_nothing_scored_still_makes_a_page(make_study: StudyMaker) -> None:
    text = render_page(Report(make_study([None] * 6)), SECTIONS)
    assert "none of the 6 arms has a finished and scored run yet." in text
    assert text.count("No scores") == 1
    assert "† All 6 runs: No scores: its scores.csv is missing, empty or damaged." in text
    assert "<table" not in text[text.index('id="table1"') : text.index('id="figure1"')]
    assert "so there is nothing to compare" in text


def test_sections_share_what_was_computed_once_and_leave_themselves_out(make_study: StudyMaker) -> None:
    report, computed = Report(make_study([None] * 6)), list[Report]()

    def number(of: Report) -> int:
        computed.append(of)
        return len(computed)

    sections = [
        Section("cost", "Shown", lambda of: {"costs": [], "number": of.once(number)}),
        Section("gap", "Left out", lambda of: None if of.once(number) == 1 else {}),
    ]
    text = render_page(report, sections)
    assert computed == [report]
    assert "<h2>Shown</h2>" in text
    assert "Left out" not in text
    assert 'id="gap"' not in text
