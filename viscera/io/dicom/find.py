"""The series in a folder."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.uid import (
    UID,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from viscera.core.errors import BadInputError
from viscera.io.dicom.dataset import may_be_cut_off, may_be_dicom, quiet_pydicom
from viscera.io.dicom.folders import folders, leads_nowhere
from viscera.io.dicom.header import Header, read_header
from viscera.io.dicom.series import Series
from viscera.io.dicom.stack import Stack, stack
from viscera.io.dicom.unusable import UnusableSeriesError
from viscera.io.dicom.values import refuse_values, value_warnings

_SECONDARY_CAPTURES = {
    SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
}
_PROJECTIONS = {"MIP", "MINIP", "PROJECTION IMAGE", "VOLUME RENDERED"}
_FEWEST_IMAGES = 3
_NAMED = 3


def find_series(path: Path) -> list[Series]:
    """List the DICOM series of a folder and all folders in it, those with most images first.

    Only headers are read. Files that are no DICOM and DICOMDIR files are passed by; links to nothing, and files beside
    DICOM that are cut too short to be told, are damaged. Linked folders are followed.

    Args:
        path: a folder, or one DICOM file.

    Returns:
        All series, also those that cannot be read, with the reason; damaged files as a series without a UID.

    Raises:
        BadInputError: no such folder, or one that cannot be read.
    """
    headers: dict[tuple[str, str, str], list[Header]] = defaultdict(list)
    damaged: list[str] = []
    with quiet_pydicom():
        for files in folders(path):
            readable, unreadable = _headers(files)
            damaged += [file.name for file in unreadable]
            for file, header in readable:
                uid = header.series_uid or f"{file.parent}/{header.description}"  # anonymised without one
                headers[uid, header.patient_id, _no_scan(header) or _odd_view(header)].append(header)
        found = [_series(group) for group in headers.values()]
    found.sort(key=lambda s: (bool(s.passed_over), -s.number_of_images, s.uid, s.description))
    return [*found, *_damaged(damaged)]


def _headers(files: Sequence[Path]) -> tuple[list[tuple[Path, Header]], list[Path]]:
    """What the DICOM files of one folder say, and which are damaged: the beginnings of files beside DICOM, too."""
    readable, damaged, cut_off = [], [], []
    for file in files:
        if leads_nowhere(file):
            if not file.name.startswith("."):  # how editors lock files
                damaged.append(file)
        elif not may_be_dicom(file):
            if may_be_cut_off(file) and not file.name.startswith("."):
                cut_off.append(file)
        else:
            try:
                header = read_header(file)
            except BadInputError:
                damaged.append(file)
            else:
                readable += [(file, header)] if header is not None else []
    return readable, sorted([*damaged, *cut_off]) if readable else damaged


def _no_scan(header: Header) -> str:
    """Why an object holds no CT images; empty if it does."""
    if header.modality != "CT":
        return f"{header.modality or 'of no modality'}, not CT"
    if header.sop_class in _SECONDARY_CAPTURES or header.channels > 1:
        return "secondary captures (screenshots), without Hounsfield units"
    return "" if header.slices else f"no images ({UID(header.sop_class).name})"


def _odd_view(header: Header) -> str:
    """Why CT images are not what a scan is made of; empty if they are."""
    if "LOCALIZER" in header.image_type:
        return "localizer"
    return "projections of a scan (such as MIP)" if _PROJECTIONS & set(header.image_type) else ""


def _series(headers: Sequence[Header]) -> Series:
    first = headers[0]
    images = tuple(image for header in headers for image in header.slices)
    made: Stack | None = None
    problem = no_scan = _no_scan(first)
    if not no_scan:
        try:
            refuse_values(headers)
            made = stack(images)
        except UnusableSeriesError as error:
            problem = str(error)
    slices = made.slices if made else images
    few = "fewer than three images: a localizer, or part of a series" if len(slices) < _FEWEST_IMAGES else ""
    return Series(
        uid=first.series_uid,
        study_uid=first.study_uid,
        patient_id=first.patient_id,
        modality=first.modality,
        description=first.description,
        date=first.date,
        slices=slices,
        geometry=made.geometry if made else None,
        passed_over=no_scan or _odd_view(first) or few,
        problem=problem,
        warnings=(*value_warnings(headers), *made.warnings) if made else (),
    )


def _damaged(names: Sequence[str]) -> Iterator[Series]:
    if names:
        noun = "file" if len(names) == 1 else "files"
        more = ", …" if len(names) > _NAMED else ""
        reason = f"{len(names)} damaged DICOM {noun}: {', '.join(names[:_NAMED])}{more}"
        yield Series("", "", "", "", "", "", (), passed_over=reason, problem=reason)
