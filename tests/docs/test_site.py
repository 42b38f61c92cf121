"""The site has every page, and every room of the house is in its drawing; `make docs` checks the links."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.docs_pages import COMMANDS, HOUSE, SETTINGS, floors, house, purpose, settings_page
from viscera.core.resolve import PRESETS

ROOT = Path(__file__).parents[2]


def pages(nav: Any) -> Iterator[str]:
    for each in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from [each] if isinstance(each, str) else pages(each)


def test_every_page_stands_in_the_site_and_every_page_of_the_site_is_one() -> None:
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    made = {path.relative_to(ROOT / "docs").as_posix() for path in (COMMANDS, SETTINGS)}
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    named = list(pages(project["nav"]))
    assert sorted(named) == sorted(written | made)


def test_every_room_is_drawn_with_its_purpose() -> None:
    rooms = [room for floor in floors() for room in floor]
    assert sorted(rooms) == sorted(path.parent.name for path in (ROOT / "viscera").glob("*/__init__.py"))
    (axes,) = house(floors()).axes
    drawn = [text.get_text() for text in axes.texts]
    assert set(rooms) <= set(drawn)
    assert all(purpose(room) for room in rooms)
    assert "Class weights (balance, Eq" in purpose("losses")


def test_every_setting_stands_on_its_page() -> None:
    assert "learning_rate:" in settings_page()


def test_the_page_of_terms_names_every_preset() -> None:
    (row,) = re.findall(r"^\| preset \|.*$", (ROOT / "docs" / "terms.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(PRESETS)


def test_pages_that_are_made_are_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {path.relative_to(ROOT).as_posix() for path in (COMMANDS, SETTINGS, HOUSE)} <= {*ignored}
