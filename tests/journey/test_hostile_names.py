"""No HTML, script, formula or escape from a name runs: data set, cases and files with such names, by the commands."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.command_line import run
from viscera.core.safe_names import from_cell
from viscera.view.open_gallery import open_gallery

ESCAPES = "\x1b[31mred\x1b]0;title\x07"  # which no store takes for a case
NAMES = ("'=1+1;@SUM(1)", "<img src=x onerror=alert(1)>", ESCAPES)


@pytest.fixture(scope="module")
def hostile(
    make_nnunet: Callable[..., Path], make_case: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    raw = make_nnunet(tmp_path_factory.mktemp("names") / "raw", {name: make_case(n) for n, name in enumerate(NAMES)})
    said = json.loads((raw / "dataset.json").read_text())
    said |= {"name": "<script>alert(1)</script>", "licence": "=cmd|' /C calc'!A0", "description": "\x1b[2J"}
    (raw / "dataset.json").write_text(json.dumps(said))
    return raw


def cells(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.csv"):
        for delimiter in ",;\t":  # whichever a spreadsheet takes
            with path.open(newline="") as file:
                yield from (cell for row in csv.reader(file, delimiter=delimiter) for cell in row)


def is_formula(cell: str) -> bool:
    return cell.startswith(("=", "+", "-", "@")) and not re.fullmatch(r"[-+]?(\d+\.?\d*(e[-+]?\d+)?|inf|nan)", cell)


class Harm(HTMLParser):
    """What of a page a browser would run, beside its own scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            where = name in {"src", "href", "action", "formaction", "data", "style"}
            if name.startswith("on") or (where and re.match(r"\s*(javascript|vbscript|data:text)", value or "")):
                self.found.append(f"{tag} {name}={value}")
        if tag in {"iframe", "object", "embed", "base", "form"} or (tag == "img" and dict(attrs).get("src") == "x"):
            self.found.append(tag)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and "alert(1)" in data:
            self.found.append(data)


def test_what_would_be_harm_is_found() -> None:
    assert len(Harm("<img src=x onerror=alert(1)><a href=' javascript:x'>y</a><script>alert(1)</script>").found) == 4
    assert (
        Harm('<img alt="&lt;img src=x onerror=alert(1)&gt;" src="data:image/png;base64,x">&lt;script&gt;').found == []
    )


def test_names_stay_names(hostile: Path, tiny_run: Path, tmp_path: Path) -> None:
    said = [
        run("check", hostile, "--out", tmp_path / "check").output,
        run("predict", tiny_run, hostile / "imagesTr", tmp_path / "out", "--device", "cpu").output,
        run("evaluate", tmp_path / "out", hostile, "--out", tmp_path / "out" / "scores.csv").output,
    ]
    assert [text for text in said if not set(text).isdisjoint("\x1b\x07")] == []
    assert Harm((tmp_path / "check" / "index.html").read_text()).found == []
    assert [cell for cell in cells(tmp_path) if is_formula(cell)] == []
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        assert {from_cell(row["case"]) for row in csv.DictReader(file)} == {*NAMES} - {ESCAPES}
    assert {case.name for case in open_gallery(tmp_path / "out").cases} == set(NAMES)
