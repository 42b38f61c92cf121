"""One door for scans, whatever they come as: a NIfTI file, a folder or zip file of DICOM images, one DICOM file."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from viscera.core.errors import BadInputError
from viscera.core.geometry import size_text
from viscera.core.scan import Volume
from viscera.core.shape_hints import given_path
from viscera.core.wording import listed
from viscera.io.dicom import Series, choose_series, find_series, is_dicom, read_series, unpacked
from viscera.io.files import is_occupied, open_file, reading, sha256
from viscera.io.layouts.dataset_tables import case_name, channel_0_of, scan_case_name
from viscera.io.nifti import read_volume as read_nifti
from viscera.io.nifti_header import Placement, files_of, is_nifti
from viscera.io.remote.scan_by_scan import LaterScan, later_scans

log = logging.getLogger(__name__)
_NAMED = 3
_TOLD = ("number", "uid", "study_uid", "patient_id", "modality", "description", "date")  # of a series, as JSON


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that is found but not yet read."""

    name: str  # of the case: the file's name without ending and channel number, or the folder's
    path: Path  # as it was given
    series: Series | None = None  # the chosen DICOM series; None for NIfTI
    later: LaterScan | None = None  # it is fetched when it is first read; None: it is here
    has_pseudonym: bool = False  # whether `name` is one

    def in_use(self) -> AbstractContextManager[None]:
        """Within, it can be read as often as wanted; what was fetched for that is deleted then."""
        return self.later.in_use() if self.later else nullcontext()

    def read(self, *, again: bool = False) -> Volume:
        """The voxels; raises BadInputError as `io.nifti.read_volume` and `io.dicom.read_series` do.

        What a user should know about the scan is logged, but not when it is read again.
        """
        if self.series is None:
            self._fetch()
            return read_nifti(self.path, warn=not again)
        return read_series(self.series, warn=not again)

    def placement(self) -> Placement | None:
        """How a NIfTI file says where its voxels lie; None for DICOM."""
        if self.series is not None:
            return None
        self._fetch()
        return Placement.read(self.path)

    def sha256(self) -> str:
        """Checksum of the file; of a series or a pair, that of its files' checksums in their order."""
        if self.later:
            return self.later.sha256()
        files = files_of(self.path) if self.series is None else tuple(dict.fromkeys(self.series.sources))
        if self.series is None and len(files) == 1:
            return sha256(self.path)
        return hashlib.sha256("\n".join(sha256(file) for file in files).encode()).hexdigest()

    def _fetch(self) -> None:
        if self.later:
            self.later.fetch()


@dataclass(frozen=True, eq=False)
class Listing:
    """The DICOM series of a folder."""

    series: tuple[Series, ...]  # all of them, as `io.dicom.find_series` lists them
    chosen: Series | None  # the one that would be read; None if none would
    refusal: str = ""  # why none would


def read_volume(path: str | Path, series: str | int | None = None) -> Volume:
    """Read a CT scan: int16 HU on the grid of the file or of the slices, RAS+ mm.

    It is a NIfTI file; or a folder (with all folders in it) or zip file of DICOM images, or one multi-frame file.
    `series` is the DICOM series to read, by its SeriesInstanceUID, its description or its number in `viscera
    series`; by default the CT with most images.

    Raises BadInputError where there is nothing that can be read: what was found, and what to do about it; BadTypeError
    for a path that is none.
    """
    uid = str(series) if isinstance(series, int) else series
    with open_scan(given_path(path, "the scan"), uid) as scan:
        return scan.read()


@contextmanager
def open_scan(path: Path, series: str | None = None) -> Iterator[Scan]:
    """Find one scan; the files of a zip file are there until the end of the `with`. Raises as `read_volume`."""
    _refuse_missing(path)
    with unpacked(path) as folder:
        with reading(path):
            is_series = folder.is_dir() or (folder.is_file() and is_dicom(folder))
        if is_series:
            yield _dicom_scan(path, folder, series)
        elif series is not None:
            raise BadInputError(
                f"{path}: a series was named, but this is not DICOM. Give a folder or zip file of DICOM."
            )
        else:
            yield Scan(scan_case_name(path), path)


@contextmanager
def open_scans(source: Path, series: str | None = None) -> Iterator[list[Scan]]:
    """Find all scans of a source: those of a folder of NIfTI files, or the one that `open_scan` finds.

    A folder with DICOM files in it is DICOM, whatever else it holds. Raises as `read_volume`.
    """
    _refuse_missing(source)
    with reading(source):
        later = later_scans(source)
        niftis = sorted({*filter(is_nifti, source.iterdir()), *later}) if source.is_dir() else []
        others = (path for path in sorted(source.iterdir()) if path.is_file() and not is_nifti(path)) if niftis else ()
        is_dicom_source = series is not None or not niftis or any(map(is_dicom, others))
    if not is_dicom_source:
        yield _channels_0([Scan(scan_case_name(path), path, later=later.get(path)) for path in niftis])
        return
    if niftis:
        log.warning("%s: read as DICOM; the %d NIfTI files in it are left alone.", source, len(niftis))
    with open_scan(source, series) as scan:
        yield [scan]


def list_series(path: Path) -> Listing:
    """The DICOM series of a folder or zip file; the files of a zip file are gone afterwards.

    Raises BadInputError for no such file or folder, no DICOM in it, or a damaged zip file.
    """
    _refuse_missing(path)
    with unpacked(path) as folder:
        found = _found(path, folder)
    try:
        return Listing(tuple(found), choose_series(found, path))
    except BadInputError as error:
        if not found:
            raise
        return Listing(tuple(found), None, str(error))


def _refuse_missing(path: Path) -> None:
    with reading(path):
        if not path.exists():
            raise BadInputError(f"{path}: there is no such file or folder.")
        if not path.is_dir():
            open_file(path).close()  # refuses pipes, and what may not be read


def _found(path: Path, folder: Path) -> list[Series]:
    """The series of a folder; raises BadInputError where it holds NIfTI files instead."""
    with reading(path):
        found = find_series(folder)
        if not found and not is_occupied(folder):
            raise BadInputError(f"{path}: the folder is empty. Give a scan, a folder of scans or that of a CT series.")
        niftis = sorted(p for p in folder.rglob("[!.]*") if is_nifti(p)) if not found and folder.is_dir() else []
    if niftis:
        places = list(dict.fromkeys(str(each.parent.relative_to(folder)) for each in niftis))
        named = listed(places, _NAMED)
        raise BadInputError(
            f"{path}: there is no DICOM image in it, but {len(niftis)} NIfTI files (in {named}; {niftis[0].name}). "
            f"{'Give' if folder == path else 'Unpack it and give'} one of them, or the folder that they are in."
        )
    return found


def _dicom_scan(path: Path, folder: Path, uid: str | None) -> Scan:
    found = _found(path, folder)
    series = choose_series(found, path, uid)
    others = [other for other in found if not other.passed_over and other is not series]
    if uid is None and others:
        titles = ", ".join(f"series {other.title}" for other in others)
        log.warning("%s: read series %s, which has most images; there are also %s.", path, series.title, titles)
    for damaged in (other for other in found if not other.uid and other is not series):
        log.warning("%s: left out: %s.", path, damaged.passed_over)
    named = path.absolute().parent if path.name.upper() == "DICOMDIR" and path.is_file() else path  # of its folder
    own_name = (named if named.name not in {"", ".."} else named.resolve()).name
    return Scan(own_name.removesuffix(".zip").removesuffix(".dcm") or "scan", path, series)


def _channels_0(scans: list[Scan]) -> list[Scan]:
    """Without further channels of one scan, as nnU-Net has them: `p_0001` beside a `p_0000` of the same grid."""
    by_name = {case_name(scan.path): scan for scan in scans}
    firsts = {scan: by_name.get(channel_0_of(name)) for name, scan in by_name.items()}
    others = [scan for scan in scans if (first := firsts.get(scan)) is not None and _same_grid(scan, first)]
    if others:
        names = listed([scan.path.name for scan in others], _NAMED)
        log.warning(
            "%s: left out, as further channels of cases whose CT is channel 0 (_0000): %s.", scans[0].path.parent, names
        )
    return [scan for scan in scans if scan not in others]


def _same_grid(scan: Scan, other: Scan) -> bool:
    """By their headers; a file that cannot be read is no channel of another."""
    placed = []
    try:
        for each in (scan, other):
            with each.in_use():
                placed.append(each.placement())
    except BadInputError:
        return False
    one, two = placed
    if one is None or two is None:
        return False
    same_shape = one.header.get_data_shape()[:3] == two.header.get_data_shape()[:3]
    if one.affine is None or two.affine is None or not same_shape:
        return False
    return np.allclose(one.affine, two.affine, atol=1e-2)


def series_table(listing: Listing) -> str:
    """One row a DICOM series; a star at the one that would be read.

    Table and JSON are what headers say, patients and dates included: for the person who asked, and for no record.
    """
    rows = [
        (
            *("*" if each is listing.chosen else "", str(each.number), each.uid, each.patient_id, each.modality),
            *(each.description, each.date, str(each.number_of_images)),
            size_text(each.geometry.spacing_mm) if each.geometry else "",
            each.passed_over or each.problem or " ".join(each.warnings),
        )
        for each in listing.series
    ]
    headers = ("", "", "series", "patient", "modality", "description", "date", "images", "mm", "")
    align = ("left", "right", *["left"] * 5, "right", "left", "left")
    table = tabulate(rows, headers, disable_numparse=True, colalign=align)
    return f"{table}\n\n{listing.refusal}" if listing.refusal else table


def series_json(listing: Listing) -> list[dict[str, Any]]:
    """One object a DICOM series."""
    return [
        {name: getattr(series, name) for name in _TOLD}
        | {
            "images": series.number_of_images,
            "geometry": series.geometry.to_json() if series.geometry else None,
            "chosen": series is listing.chosen,
            "passed_over": series.passed_over,
            "problem": series.problem,
            "warnings": list(series.warnings),
        }
        for series in listing.series
    ]
