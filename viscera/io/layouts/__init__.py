"""The folder layouts that data sets come in: from a folder to the files of its cases.

`layout_table.py` is the table of them: a new data set is one entry there.
"""

from viscera.io.layouts.case_source import CaseSource
from viscera.io.layouts.dataset_tables import (
    case_name,
    case_of,
    channel_0_of,
    dataset_title,
    names_to_numbers,
    own_split,
    scan_case_name,
)
from viscera.io.layouts.labelled_cases import explained_by, find_cases, numbers_beside, numbers_of
from viscera.io.layouts.layout_table import LAYOUTS

__all__ = [
    "LAYOUTS",
    "CaseSource",
    "case_name",
    "case_of",
    "channel_0_of",
    "dataset_title",
    "explained_by",
    "find_cases",
    "names_to_numbers",
    "numbers_beside",
    "numbers_of",
    "own_split",
    "scan_case_name",
]
