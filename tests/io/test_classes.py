"""The class file: what it says, and what it must not say."""

from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.classes import read_class_file


def written(folder: Path, text: str) -> Path:
    (folder / "classes.yaml").write_text(text)
    return folder / "classes.yaml"


@pytest.mark.parametrize("first", ["", "background, "])
def test_names_in_label_order_background_given_or_not(tmp_path: Path, first: str) -> None:
    found = read_class_file(written(tmp_path, f"classes: [{first}kidney_left, liver]"))
    assert found.table.names == ("background", "kidney_left", "liver")
    assert found.table.label_of("Kidney Left") == 1
    assert found.numbers == {}


def test_numbers_of_label_maps_without_a_table(tmp_path: Path) -> None:
    found = read_class_file(written(tmp_path, "classes: [liver]\nlabels: {Liver: 6, spleen: 1}"))
    assert found.numbers == {"Liver": 6, "spleen": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [liver]\nlabel: {liver: 1}", "no key 'label'; there are classes and labels"),
        ("labels: {liver: 1}", "must be a list of names"),
        ("classes: liver", "must be a list of names"),
        ("classes: [1, 2]", "must be a list of names"),
        ("classes: []", "names no organ"),
        ("classes: [background]", "names no organ"),
        ("classes: [liver, background]", "background is always class 0"),
        ("classes: [liver, spleen, liver]", "class liver stands there twice"),
        ("classes: [liver, Liver]", "each once"),
        ("classes: [left kidney, left_kidney]", "'left kidney' and 'left_kidney' are both called left_kidney"),
        ("classes: [left kidney, left-kidney]", "'left kidney' and 'left-kidney' are both called left_kidney"),
        ("classes: [left kidney, leftkidney]", "each once"),
        ("classes: [Größe]", "'Größe' is not a valid name of a class"),
        ("classes: ['  ']", "is not a valid name of a class"),
        ("classes: [2nd kidney]", "'2nd kidney' is not a valid name of a class"),
        ("classes: [liver]\nlabels: {1: liver, 2: liver}", "'liver' has the numbers 1 and 2"),
        ("classes: [liver]\nlabels: {liver: [1, 2]}", "'liver' is a region"),
        ("classes: [liver]\nlabels: {liver: true}", "a whole number"),
        ("classes: [liver]\nlabels: {liver: 70000}", "numbers run from 0"),
        ("classes: [AVG]", "'AVG' is not a valid name of a class"),
        ("classes: [liver]\nlabels: [liver]", "must give each name a number"),
        ("classes: [liver]\nlabels: {liver: one}", "liver: one; a name and a whole number"),
        ("classes: [liver]\nlabels: {liver: -1}", "numbers run from 0"),
        ("classes: [liver]\nlabels: {liver: 2, spleen: 2}", "number 2 stands there twice"),
        (f"classes: [{', '.join(f'o{n}' for n in range(255))}]", "256 of them"),
    ],
)
def test_what_is_no_class_file_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=f"(?s)classes.yaml: .*{message}"):
        read_class_file(written(tmp_path, text))


def test_names_as_the_fields_own_tables_have_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "classes: [background, right kidney, ' left  kidney ', prostate/uterus, gall-bladder, liver]"
    table = read_class_file(written(tmp_path, text)).table
    assert table.names[1:] == ("right_kidney", "left_kidney", "prostate_uterus", "gall_bladder", "liver")
    assert [table.label_of(name) for name in ("right kidney", "Left Kidney", "prostate/uterus")] == [1, 2, 3]
    assert caplog.text.count("'right kidney' is called right_kidney") == 1
    assert "liver" not in caplog.text


@pytest.mark.parametrize("labels", ["{right kidney: '2', liver: 6}", "{2: right kidney, '6': liver}"])
def test_numbers_as_text_and_names_by_number(tmp_path: Path, labels: str) -> None:
    found = read_class_file(written(tmp_path, f"classes: [right kidney]\nlabels: {labels}"))
    assert found.numbers == {"right kidney": 2, "liver": 6}


def test_a_byte_order_mark_in_front(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("classes: [liver]", encoding="utf-8-sig")
    assert read_class_file(tmp_path / "classes.yaml").table.names == ("background", "liver")
