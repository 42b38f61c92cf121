"""The folder layouts that data sets come in: from a folder to the files of its cases.

`layout_table.py` is the table of them: a new data set is one entry there.
"""

from viscera.io.layouts.case_files import Layout, Place, Refusal, describe
from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import (
    case_name,
    case_of,
    channel_0_of,
    dataset_title,
    names_to_numbers,
    own_split,
    read_label_file,
    scan_case_name,
)
from viscera.io.layouts.labelled_cases import explained_by, find_cases, numbers_beside, numbers_of
from viscera.io.layouts.layout_detection import detect_layout
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS

__all__ = [
    "LAYOUTS",
    "REFUSALS",
    "CaseSource",
    "Layout",
    "Place",
    "Refusal",
    "case_name",
    "case_of",
    "channel_0_of",
    "dataset_title",
    "describe",
    "detect_layout",
    "explained_by",
    "find_cases",
    "names_to_numbers",
    "numbers_beside",
    "numbers_of",
    "own_split",
    "read_label_file",
    "scan_case_name",
]
