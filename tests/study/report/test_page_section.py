"""The page as text, and as Debian's headless Chromium shows it from disk."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fabricated_studies import FIVE_SEEDS, draw_no_curves
from viscera.core.anatomy import ORGANS
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report.page_section import Report, Section, render_page
from viscera.study.report.report_stage import SECTIONS
from viscera.study.results import Scene, StudyResult

StudyMaker = Callable[..., StudyResult]
Rows = list[tuple[ScoreRow, ...] | None]
HOSTILE = "<script>alert(1)</script> phantom \"'&" + "x" * 200
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=8000",
    "--window-size=1300,1000",
]
MEASURE = """<!doctype html><meta charset="utf-8"><iframe src="index.html" width="%d" height="900"></iframe>
<pre id="measured"></pre><script>
addEventListener("load", () => {  // comes after the frame's own, and that after its pictures
  const view = document.querySelector("iframe").contentWindow, page = view.document;
  document.getElementById("measured").textContent = JSON.stringify({
    width: view.innerWidth, scrollWidth: page.documentElement.scrollWidth,
    images: [...page.images].map((image) => image.naturalWidth),
    rows: page.querySelectorAll("#table1 tbody tr").length, scripts: page.scripts.length,
    best: [...page.querySelectorAll("td.best")].map((cell) => cell.textContent),
    links: [...page.querySelectorAll("nav a")].map((a) => page.querySelector(a.getAttribute("href")) !== null),
  });
});
</script>"""


@pytest.fixture(scope="module")
def page(make_study: StudyMaker, paper_rows: Rows, scene: Scene) -> str:
    failed = RunStatus(state="failed", step=131, iterations=300, message=HOSTILE, hardware=HOSTILE)
    study = make_study([*paper_rows[:5], None], dataset=HOSTILE, statuses={5: failed})
    hostile_scene = dataclasses.replace(scene, case=HOSTILE)
    return render_page(Report(study, hostile_scene, [HOSTILE]), SECTIONS)


def test_names_from_the_data_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # data set, case, message, hardware


def test_the_page_needs_no_second_file_and_no_network(page: str) -> None:
    assert not re.findall(r"""src=["'](?!data:)""", page)
    assert set(re.findall(r"""href=["'](?!#)(.*?)["']""", page)) == {
        "beside_paper.csv",
        "claims.csv",
        "comparisons.csv",
        "rank_correlation.csv",
        "table1_intervals.csv",
    }  # beside it
    assert "url(" not in page
    assert "@import" not in page
    assert len(page) < 5_000_000


def test_a_phantom_is_called_one_in_every_heading(page: str) -> None:
    assert "All figures on this page come from a procedural phantom. They say nothing about patients." in page
    headings = re.findall(r"<h[123]>(.*?)</h[123]>", page)
    assert len(headings) >= 10
    assert all("phantom" in heading for heading in headings)


def test_clinical_data_are_not_called_a_phantom(
    make_study: StudyMaker, paper_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_no_curves(monkeypatch)
    text = render_page(Report(make_study(paper_rows), None, ["The store is gone."]), SECTIONS)
    assert "phantom" not in text
    assert "The store is gone." in text
    assert "no test case could be read" in text


def test_every_organ_has_its_colour_in_the_legend(page: str) -> None:
    for organ in ORGANS:
        assert f'background:{organ.colour}"></span>{organ.title}' in page


def test_the_comparisons_say_what_so_few_cases_allow(page: str) -> None:
    section = html.unescape(page[page.index('id="comparisons"') : page.index('id="claims"')])
    assert "with 1 test case there is no test" in section
    assert "These arms have no scores by Dice and are in no test: square, rate 0.01." in section
    assert section.count("<tr>") == 1 + 7 + 1 + 5  # two headings, seven organs, five scored arms


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
    assert "None of the 6 arms has scores yet." in text
    assert text.count("No scores") == 6
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
    assert '<a href="#cost">Shown</a>' in text
    assert "Left out" not in text
    assert 'id="gap"' not in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's `chromium` on PATH: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_all(page: str, tmp_path: Path, width: int) -> None:
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    measured, complaints = in_chromium(tmp_path, width)
    assert complaints == []
    assert measured["width"] == width
    assert measured["scrollWidth"] <= width
    assert len(measured["images"]) == 6 + 3 * 3 * 2  # curves; three figures of three columns with slice and surface
    assert min(measured["images"]) > 0
    assert measured["rows"] == 12
    assert measured["best"][1] == "89.2"
    assert measured["scripts"] == 0
    assert measured["links"]
    assert all(measured["links"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's `chromium` on PATH: apt-get install chromium")
def test_the_browser_test_sees_what_is_broken(tmp_path: Path) -> None:
    pictures = '<img src="data:image/png;base64,AAAA"><img src="none.png">'
    broken = f'{pictures}<div style="width:500px">wide</div><script>console.error("oh")</script>'
    (tmp_path / "index.html").write_text(f"<!doctype html><body>{broken}</body>", encoding="utf-8")
    measured, complaints = in_chromium(tmp_path, 390)
    assert measured["images"] == [0, 0]
    assert measured["scrollWidth"] > 390
    assert len(complaints) == 1
    assert "oh" in complaints[0]


def in_chromium(folder: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """Load index.html in a frame of that width (a window has a least width); its measures and console errors."""
    (folder / "measure.html").write_text(MEASURE % width, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            (folder / "measure.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    measured: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return measured, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
