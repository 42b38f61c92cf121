"""DICOM in and out: the series of a folder, which of them is the scan, its Volume; results that refer to its images."""

from viscera.io.dicom.archive import unpacked
from viscera.io.dicom.dicom_file import is_dicom
from viscera.io.dicom.dicom_header import Plane, Slice
from viscera.io.dicom.series_reader import read_series
from viscera.io.dicom.series_search import Series, choose_series, find_series

__all__ = ["Plane", "Series", "Slice", "choose_series", "find_series", "is_dicom", "read_series", "unpacked"]
