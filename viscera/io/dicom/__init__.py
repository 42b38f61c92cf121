"""DICOM in: the series of a folder, which of them is the scan, and its Volume. With `io` the one door to pydicom."""

from viscera.io.dicom.archive import unpacked
from viscera.io.dicom.choose import choose_series
from viscera.io.dicom.dataset import is_dicom
from viscera.io.dicom.find import find_series
from viscera.io.dicom.read import read_series
from viscera.io.dicom.series import Plane, Series, Slice

__all__ = ["Plane", "Series", "Slice", "choose_series", "find_series", "is_dicom", "read_series", "unpacked"]
