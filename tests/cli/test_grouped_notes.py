"""Equal notes are grouped: two are shown at once, the others together at the end."""

import logging
from pathlib import Path

import pytest

from viscera.cli.grouped_notes import GroupedNotes


def shown(*, all_of_them: bool = False, cases: int = 10) -> list[str]:
    said: list[str] = []
    log, notes = logging.getLogger("of this test"), GroupedNotes(said.append, said.append, all_of_them=all_of_them)
    log.propagate, log.handlers = False, [notes]
    for number in range(cases):
        log.warning("%s: its values do not look like HU (%d)", f"case_{number}", number)
    log.warning("no gallbladder")
    log.warning("no gallbladder")
    log.error("a defect")
    notes.finish()
    notes.finish()
    return said


def test_notes_in_the_same_words_are_grouped_by_what_they_are_about() -> None:
    first, second, other, defect, rest = shown()
    assert first == "Note: case_0: its values do not look like HU (0)"
    assert second == "Note: case_1: its values do not look like HU (1)"
    assert other == "Note: no gallbladder"
    assert defect == "Note: a defect"
    assert rest == "Note: the same for case_2, case_3, case_4, case_5, case_6, and 3 more."


def test_a_name_stays_on_one_line_and_a_table_has_its_own() -> None:
    said: list[str] = []
    log = logging.getLogger("of lines")
    log.propagate, log.handlers = False, [GroupedNotes(said.append, said.append)]
    log.warning("%s: 100 %% of %-3d cases:\n%s", Path("a\nb"), 7, "liver\nspleen")
    log.warning("c\nd")
    log.warning("%s, %.1f", "e\nf", 2)
    assert said == ["Note: a\\nb: 100 % of 7   cases:\nliver\nspleen", "Note: c\\nd", "Note: e\\nf, 2.0"]


@pytest.mark.parametrize("cases", [0, 1, 2])
def test_few_notes_are_shown_as_they_come(cases: int) -> None:
    assert len(shown(cases=cases)) == cases + 2


def test_programs_get_all_of_them() -> None:
    assert len(shown(all_of_them=True)) == 10 + 2 + 1
