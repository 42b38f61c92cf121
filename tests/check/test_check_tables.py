"""A check as text: what of a large data set is shown, and how it fits a terminal."""

from viscera.check.case_facts import CaseFacts, LabelledOrgan
from viscera.check.check_tables import WIDTH, check_text
from viscera.check.findings import CaseCheck, DataSetCheck, Finding
from viscera.core.anatomy import ABDOMEN
from viscera.metrics.hounsfield import HuFacts

HU = HuFacts(-1024, 3071, 0.0, -1024, 0.2, 0.5, 0.3, 0.0)
LIVER = LabelledOrgan("liver", 4000.0, 60.0, 0.0, (0, 0, 0), (0, 0, 0), None, "S", 1, 1.0, None)
NAMES = ABDOMEN.names[1:]


def case(name: str, *findings: Finding) -> CaseCheck:
    facts = CaseFacts(name, (512, 512, 1024), (0.75, 0.75, 0.75), "LPS", (0, 0, 0), HU, (LIVER,), (), NAMES, "a", "b")
    return CaseCheck(name, facts, findings=findings)


def large_liver(name: str) -> Finding:
    return Finding(name, "liver", "volume", "suspicious", "4000 mL", "600 to 3500 mL in adults", (0, 0, 0))


def test_of_a_large_data_set_what_should_be_looked_at_is_shown() -> None:
    cases = [case(f"case_{n:03d}", *([large_liver(f"case_{n:03d}")] if n < 20 else [])) for n in range(300)]
    text = check_text(DataSetCheck("large", NAMES, tuple(cases)))
    assert "case_019" in text
    assert "case_020" not in text
    assert "Not shown here: 280 cases of which nothing is suspicious." in text
    assert "and 8 more in findings.csv" in text
    assert "300 cases: 20 suspicious, 280 clean." in text
    assert len(text.splitlines()) < 80


def test_a_large_data_set_without_a_suspicion_has_no_empty_tables() -> None:
    text = check_text(DataSetCheck("large", NAMES, tuple(case(f"case_{n}") for n in range(300))))
    assert text.splitlines() == [
        "Not shown here: 300 cases of which nothing is suspicious.",
        "",
        "300 cases: 300 clean.",
    ]


def test_long_names_and_long_values_stay_within_the_width() -> None:
    name = "1.2.840.113704.1.111.5224.1190299350.7.with.a.long.name"
    finding = Finding(name, "liver", "fragments", "suspicious", "12 pieces, " + "the largest 99.9% " * 8, "one piece")
    note = Finding(name, "liver", "cut_off", "note", "touches the upper edge", "inside the scan")
    text = check_text(DataSetCheck("long", NAMES, (case(name, finding, note), CaseCheck("bad", None, f"{name}: bad"))))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "* 4000 /" in text
    assert name in text


def test_many_classes_have_no_table_of_volumes() -> None:
    names = tuple(f"organ_{n}" for n in range(24))
    assert "mL" not in check_text(DataSetCheck("atlas", names, (case("a"),)))
