"""Colours and codes for 3D Slicer are those of the classes."""

import json
from pathlib import Path

from viscera.core.anatomy import ClassTable
from viscera.export.export_stage import export
from viscera.export.slicer_form import colour_table, terminology


def test_the_colour_table_is_one_of_slicers_developer_guide() -> None:
    table = colour_table(ClassTable.of_names(["background", "portal_vein", "kidney"])).splitlines()
    assert table == [
        "# Color table file viscera.ctbl",
        "# 3 values",
        "0 background 0 0 0 0",
        "1 portal_vein 0 114 178 255",
        "2 kidney 51 34 136 255",
    ]


def test_the_terminology_has_codes_where_they_are_known() -> None:
    found = terminology(ClassTable.of_names(["background", "portal_vein", "kidney"]), "run")
    (category,) = found["SegmentationCodes"]["Category"]
    assert (category["CodeValue"], category["CodingSchemeDesignator"]) == ("123037004", "SCT")
    vein, kidney = category["Type"]
    assert (vein["CodeValue"], vein["CodeMeaning"]) == ("32764006", "Portal vein")
    assert vein["recommendedDisplayRGBValue"] == [0, 114, 178]
    assert kidney["CodeValue"] == "85756007"  # tissue: viscera knows no code of it


def test_they_are_written(tiny_run: Path, tmp_path: Path) -> None:
    out = export(tiny_run, tmp_path / "out", ["slicer"])
    names = {"viscera.ctbl", "viscera.term.json", "README.md", "card.md", "card.json", "export.json"}
    assert {path.name for path in out.iterdir()} == names
    assert len(json.loads((out / "viscera.term.json").read_text())["SegmentationCodes"]["Category"][0]["Type"]) == 7
