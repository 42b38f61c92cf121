"""Which series of a folder is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.ct_series import STORED, ct_series, save
from viscera.core.errors import BadInputError
from viscera.io.dicom import Series, choose_series, find_series

LONG = np.concatenate([STORED, STORED])


def chosen(folder: Path, *series: list[Dataset], uid: str | None = None) -> Series:
    for slices in series:
        save(folder, slices)
    return choose_series(find_series(folder), "SCANS", uid)


def refused(folder: Path, *series: list[Dataset], uid: str | None = None) -> str:
    with pytest.raises(BadInputError, match=r"^SCANS: ") as caught:
        chosen(folder, *series, uid=uid)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_ct_with_most_images(tmp_path: Path) -> None:
    large = ct_series()
    others: list[dict[str, Any]] = [
        {"Modality": "MR"},
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ]
    series = chosen(tmp_path, ct_series(STORED[:5]), large, *(ct_series(LONG, **tags) for tags in others))
    assert series.uid == large[0].SeriesInstanceUID


def test_by_uid_or_description(tmp_path: Path) -> None:
    small, large = ct_series(STORED[:4], SeriesDescription="thick"), ct_series()
    uid = small[0].SeriesInstanceUID
    assert chosen(tmp_path, small, large, uid=uid).uid == uid
    assert chosen(tmp_path, uid="thick").uid == uid


def test_a_uid_also_names_what_the_rule_passes_over(tmp_path: Path) -> None:
    two = ct_series(STORED[:2])
    assert chosen(tmp_path, two, ct_series(), uid=two[0].SeriesInstanceUID).number_of_images == 2


@pytest.mark.parametrize("uid", ["1.2.3", ""])
def test_no_such_series(tmp_path: Path, uid: str) -> None:
    slices = ct_series()
    message = refused(tmp_path, slices, uid=uid)
    assert f"there is no series '{uid}'" in message
    assert "There are series 1 (6 images of 48×40 pixels, 2.5 mm apart)." in message
    assert slices[0].SeriesInstanceUID not in message


def test_a_tie_is_refused_and_the_list_shown(tmp_path: Path) -> None:
    soft, bone = ct_series(SeriesDescription="soft"), ct_series(SeriesDescription="bone")
    message = refused(tmp_path, soft, bone)
    assert "several scans have as many images" in message
    assert "series 1 (6 images of 48×40 pixels, 2.5 mm apart), series 2 (6 images" in message
    assert "`viscera series` lists them; name one with --series NUMBER or UID" in message
    assert {chosen(tmp_path, uid=number).description for number in "12"} == {"soft", "bone"}


def test_messages_do_not_say_whose_scans_they_are(tmp_path: Path) -> None:
    said: dict[str, Any] = {"PatientID": "Q-4711", "SeriesDescription": "Q-thorax", "AcquisitionDate": "19470313"}
    message = refused(tmp_path, ct_series(**said), ct_series(**said, PatientName="Q^Hans"))
    assert "as many images" in message
    assert not {each for each in ("Q", "19470313", "1947-03-13", "1.2.826") if each in message}


def test_patients_with_scans_of_like_size_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, ct_series(STORED[:4], PatientID="B"), ct_series(PatientID="A"))
    assert "scans of several patients" in message
    assert "series 1 (6 images of 48×40 pixels, 2.5 mm apart), series 2 (4 images" in message


def test_a_much_smaller_scan_of_another_patient_does_not_matter(tmp_path: Path) -> None:
    assert chosen(tmp_path, ct_series(STORED[:3], PatientID="B"), ct_series(PatientID="A")).patient_id == "A"


def test_one_uid_for_two_patients(tmp_path: Path) -> None:
    uid = ct_series()[0].SeriesInstanceUID
    patients = [ct_series(SeriesInstanceUID=uid, PatientID=name) for name in "AB"]
    assert "2 series are called that: series 1 (" in refused(tmp_path, *patients, uid=uid)
    assert {chosen(tmp_path, uid=number).patient_id for number in "12"} == {"A", "B"}


def test_a_problem_of_the_largest_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    large, small = ct_series(LONG), ct_series()
    message = refused(tmp_path, large[:4] + large[5:], small)
    assert "1 slice is missing" in message
    assert "or name another with --series NUMBER: series 2 (6 images" in message


def test_no_scan_at_all(tmp_path: Path) -> None:
    assert "there is no CT scan in it (" in refused(tmp_path, ct_series(Modality="MR"))
    assert "MR, not CT). Give the folder of one." in refused(tmp_path)
    two = refused(tmp_path, ct_series(STORED[:2]))
    assert two.endswith("name one with --series NUMBER or UID (in Python: series=), or give the folder of one.")
    (tmp_path / "empty").mkdir()
    assert "there is no DICOM image in it" in refused(tmp_path / "empty")
