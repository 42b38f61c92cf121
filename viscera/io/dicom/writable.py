"""The header of a source image as results can take it over: what the standard asks for, and nothing that it forbids."""

import logging

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.valuerep import DA, TM

from viscera.io.dicom.dataset import DAMAGE

log = logging.getLogger(__name__)
OF_THE_PATIENT = (  # and the study; DICOM wants them in every object, empty where nobody knows
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_UNICODE = "ISO_IR 192"
_KINDS: dict[str, type[DA | TM]] = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
_SEXES = {"M", "F", "O"}


def make_writable(header: Dataset) -> None:
    """Turn text into Unicode, and leave out what DICOM does not allow; a warning names that.

    Dates, times and sex that cannot be read become empty, as does what is missing but has to be there. Spacing and
    orientation that a multi-frame image gives for each frame are taken as those of all: of the first.
    """
    left_out = [*_unicode(header), *_empty_invalid(header)]
    for name in OF_THE_PATIENT:
        if name not in header:
            setattr(header, name, "")
    for name in ("PatientName", "ReferringPhysicianName"):
        if isinstance(header[name].value, MultiValue):
            setattr(header, name, header[name].value[0])
            left_out.append(name)
    if "SliceThickness" not in header:
        header.SliceThickness = None
    if "NumberOfFrames" in header:
        _share_groups(header)
    if left_out:
        log.warning(
            "The source images' %s %s what DICOM does not allow; the result leaves it out.",
            ", ".join(left_out),
            "holds" if len(left_out) == 1 else "hold",
        )


def _unicode(header: Dataset) -> list[str]:
    """Read all values by the character set that the header says, so that they are written in Unicode.

    Returns:
        The names of elements that cannot be read; they are gone.
    """
    character_set = header.get("SpecificCharacterSet") or _undeclared(header)
    header.SpecificCharacterSet = character_set
    unreadable = []
    for tag in list(header.keys()):
        alone = Dataset()
        alone.SpecificCharacterSet = character_set
        try:
            alone[tag] = header[tag]
            alone.decode()
        except DAMAGE:
            unreadable.append(_name(tag))
            del header[tag]
    header.SpecificCharacterSet = _UNICODE
    return unreadable


def _undeclared(header: Dataset) -> str:
    """The character set of a header that names none: often it is Unicode all the same."""
    raw = getattr(header.get_item("PatientName"), "value", None)
    if isinstance(raw, bytes):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return "ISO_IR 100"
    return _UNICODE


def _name(tag: BaseTag) -> str:
    element = Dataset()
    element.add_new(tag, "UN", None)
    return element[tag].keyword or str(tag)


def _empty_invalid(header: Dataset) -> list[str]:
    """Empty dates, times and sex that are none; returns their names."""
    invalid = [name for name, kind in _KINDS.items() if not _is_one(kind, header.get(name))]
    if header.get("PatientSex") and header.PatientSex not in _SEXES:
        invalid.append("PatientSex")
    for name in invalid:
        setattr(header, name, "")
    return invalid


def _is_one(kind: type[DA | TM], value: object) -> bool:
    try:
        return not value or kind(str(value)) is not None
    except ValueError:
        return False


def _share_groups(image: Dataset) -> None:
    """Put spacing and orientation into the shared functional groups, wherever they stand."""
    shared = (image.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = image.get("PerFrameFunctionalGroupsSequence") or []
    for group, keywords in (
        ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
        ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
    ):
        of_frames = [frame[group].value for frame in frames if frame.get(group)]
        if of_frames:
            setattr(shared, group, of_frames[0])
        elif not shared.get(group):
            alone = Dataset()
            for keyword in keywords:
                setattr(alone, keyword, image.get(keyword))
            setattr(shared, group, Items([alone]))
    image.SharedFunctionalGroupsSequence = Items([shared])
