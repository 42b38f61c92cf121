"""The folder layouts that data sets come in: from a folder to the files of its cases.

`table.py` is the table of them: a new data set is one entry there.
"""

from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.detect import detect_layout
from viscera.io.layouts.find import explained_by, find_cases, numbers_beside, numbers_of
from viscera.io.layouts.layout import Layout, Place, Refusal
from viscera.io.layouts.listing import describe
from viscera.io.layouts.names import case_name, dataset_title, read_label_file, scan_case_name
from viscera.io.layouts.splits import own_split
from viscera.io.layouts.table import LAYOUTS, REFUSALS

__all__ = [
    "LAYOUTS",
    "REFUSALS",
    "CaseSource",
    "Layout",
    "Place",
    "Refusal",
    "case_name",
    "dataset_title",
    "describe",
    "detect_layout",
    "explained_by",
    "find_cases",
    "numbers_beside",
    "numbers_of",
    "own_split",
    "read_label_file",
    "scan_case_name",
]
