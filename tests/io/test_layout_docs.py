"""The pages that list the layouts list those that there are."""

from pathlib import Path

import pytest

from viscera.core.anatomy import ABDOMEN
from viscera.io.layouts.case_files import Layout, describe
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "data.md"


def row(layout: Layout) -> str:
    """The row of a layout in the table of docs/howto/data.md."""
    files = "; ".join(describe(place) for place in layout.places) or "a preset for files arranged otherwise"
    numbers = {ABDOMEN.label_of(name): str(number) for name, number in (layout.numbers or {}).items()}
    by_name = "by name" if layout.names_in else "by mask"
    cells = [numbers.get(organ.label, "–") if layout.is_data_set else by_name for organ in ABDOMEN.organs]
    return f"| `{layout.name}` | {layout.title} | {files} | {' | '.join(cells)} |"


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_table_of_the_how_to_has_every_layout(layout: Layout) -> None:
    assert row(layout) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_how_to_has_no_other_layouts_and_says_what_is_refused() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == list(LAYOUTS)
    assert all(refusal.title in page for refusal in REFUSALS)


def test_every_entry_says_where_it_was_checked() -> None:
    assert all([*(layout.checked for layout in LAYOUTS.values()), *(refusal.checked for refusal in REFUSALS)])
