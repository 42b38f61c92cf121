"""3D Slicer: a colour table for label maps, and a terminology for its Segment Editor, with SNOMED CT codes.

The formats are those of Slicer's developer guide ("Color table file format") and of DCMQI's
segment-context-schema.json.
"""

from pathlib import Path
from typing import Any

from viscera.core.anatomy import ANATOMICAL_STRUCTURE, ClassTable
from viscera.export.exported_model import ExportedModel, readme_of
from viscera.io.files import write_text
from viscera.io.records import write_json

_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"
_SNOMED_CT = "SCT"


def write_slicer(model: ExportedModel, folder: Path) -> None:
    """Write viscera.ctbl, viscera.term.json and README.md."""
    write_text(folder / "viscera.ctbl", colour_table(model.predictor.classes))
    write_json(folder / "viscera.term.json", terminology(model.predictor.classes, model.name))
    write_text(folder / "README.md", readme_of(model, "slicer"))


def colour_table(classes: ClassTable) -> str:
    """One line a class: label, name, red, green, blue, opacity; background is transparent."""
    lines = ["# Color table file viscera.ctbl", f"# {len(classes)} values"]
    for each in classes.classes:
        red, green, blue = each.rgb
        lines.append(f"{each.label} {each.name} {red} {green} {blue} {255 if each.label else 0}")
    return "\n".join(lines) + "\n"


def terminology(classes: ClassTable, name: str) -> dict[str, Any]:
    """Category and type of each organ with its colour, as in DICOM-SEG; those without a code are tissue."""
    category, meaning = ANATOMICAL_STRUCTURE
    types = []
    for each in classes.organs:
        code, title = each.coded
        types.append(
            {
                "CodeMeaning": title,
                "CodingSchemeDesignator": _SNOMED_CT,
                "CodeValue": code,
                "3dSlicerLabel": each.name,
                "recommendedDisplayRGBValue": list(each.rgb),
            }
        )
    of_category = {
        "CodeMeaning": meaning,
        "CodingSchemeDesignator": _SNOMED_CT,
        "CodeValue": category,
        "showAnatomy": False,
        "Type": types,
    }
    return {
        "SegmentationCategoryTypeContextName": f"viscera: {name}",
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": [of_category]},
    }
