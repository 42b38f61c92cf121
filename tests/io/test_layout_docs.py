"""The pages that list the layouts list those that there are."""

from pathlib import Path

import pytest

from viscera.core.anatomy import ABDOMEN
from viscera.io.layouts.case_files import Layout, describe
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "layouts.md"


def cells_of(layout: Layout) -> list[str]:
    """The cells of a layout in the first table of docs/reference/layouts.md, after its name and title."""
    files = "; ".join(describe(place) for place in layout.places) or "a preset for files arranged otherwise"
    numbers = {ABDOMEN.label_of(name): str(number) for name, number in (layout.numbers or {}).items()}
    by_name = "by name" if layout.names_in else "by mask"
    cells = [numbers.get(organ.label, "–") if layout.is_data_set else by_name for organ in ABDOMEN.organs]
    return [files, *cells]


def tables() -> list[dict[str, list[str]]]:
    """Of the page, which layouts and what is refused, and where that was looked up: the other cells by the first."""
    text = PAGE.read_text(encoding="utf-8").split("| layout |")[1:]
    rows = [[line.strip("| ").split(" | ") for line in part.split("\n\n")[0].splitlines()[2:]] for part in text]
    return [{row[0].strip("`"): row[1:] for row in table} for table in rows]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_table_of_the_page_has_every_layout(layout: Layout) -> None:
    title, *others = tables()[0][layout.name]
    assert title
    assert others == cells_of(layout)


def test_the_page_has_no_other_layouts_and_says_what_is_refused() -> None:
    assert list(tables()[0]) == list(LAYOUTS)
    assert all(f"- {refusal.title} (" in PAGE.read_text(encoding="utf-8") for refusal in REFUSALS)


def test_every_entry_says_where_it_was_checked() -> None:
    sources = tables()[1]
    assert list(sources) == [*LAYOUTS, *(refusal.title for refusal in REFUSALS)]
    assert all(len(source) == 1 and source[0] for source in sources.values())
