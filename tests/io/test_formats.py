"""The formats of a label map: which a name asks for, and what each needs."""

import sys
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.io.formats import FORMATS, wanted_formats


def test_a_missing_library_is_told_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)  # as Python sees a package that is not there
    for name, form in FORMATS.items():
        if name != "dicom-seg":
            form.refuse_if_unavailable()
    with pytest.raises(BadInputError, match=r"needs highdicom .*pip install 'viscera\[dicom\]'.* leave dicom-seg out"):
        FORMATS["dicom-seg"].refuse_if_unavailable()
    with pytest.raises(BadInputError, match="needs highdicom"):
        wanted_formats(Path("out"), ["nifti", "dicom-seg"])
    assert wanted_formats(Path("out"), ["nifti", "rtstruct"]) == ["nifti", "rtstruct"]
