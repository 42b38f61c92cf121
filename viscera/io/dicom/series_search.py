"""The series in a folder and all folders in it, and which of them is the scan."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import SecondaryCaptureImageStorage

from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry, size_text
from viscera.core.wording import agreeing, counted, listed
from viscera.io.dicom.dicom_file import is_dicomdir, may_be_cut_off, may_be_dicom, quiet_pydicom, start_of
from viscera.io.dicom.dicom_header import Header, UnusableSeriesError, known_name, read_header
from viscera.io.dicom.hounsfield_pixels import check_values
from viscera.io.dicom.slice_stack import Stack, stack
from viscera.io.files import read_error

_SECONDARY_CAPTURES = SecondaryCaptureImageStorage  # and of several frames, with one number more
_PROJECTIONS = {"MIP", "MINIP", "PROJECTION IMAGE", "VOLUME RENDERED"}
_FEWEST_IMAGES = 3
_FEWEST_SINGLE_IMAGES = 4  # with a series UID each, that may be one scan
_NAMED = 3
_LISTED = 5
_LIKE_SIZE = 0.5  # of the largest
_HOW = "`viscera series` lists them; name one with --series NUMBER or UID (in Python: series=)"
_MODALITIES = {  # PS3.3, C.7.3.1.1.1, those that are met beside CT; of others a header says whatever it says
    *("MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "IVUS", "OPT", "ES", "SM", "ECG", "OT", "SC"),
    *("SEG", "SR", "PR", "KO", "DOC", "REG", "FID", "RWV", "RTIMAGE", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Series(Header):
    """One series of a folder: what the file of its first slice says, with the slices of all its files.

    They are in the order of the K axis of the Volume; as found where they make no volume.
    """

    number: int = 0  # in the list of those that were found with it, from 1 on
    geometry: Geometry | None = None  # RAS+ grid of the Volume; None if the series cannot be read
    passed_over: str = ""  # why it is not chosen unless asked for by its UID; empty for a CT scan
    problem: str = ""  # why it cannot be read; empty if it can
    warnings: tuple[str, ...] = ()  # what a reader of the series should know

    @property
    def sources(self) -> tuple[Path, ...]:
        """The file of each slice along K; of a multi-frame file the same one for each of its frames."""
        return tuple(each.path for each in self.slices)

    @property
    def number_of_images(self) -> int:
        """Images, without identical copies."""
        return len(self.slices)

    @property
    def title(self) -> str:
        """Its number in the list, and what is no business of the patient's: messages are kept in logs and tables."""
        sizes = {each.shape for each in self.slices}
        size = f" of {size_text(next(iter(sizes))[::-1])} pixels" if len(sizes) == 1 else ""
        thick = f", {self.geometry.spacing_mm[2]:.3g} mm apart" if self.geometry and self.number_of_images > 1 else ""
        return f"{self.number} ({counted(self.number_of_images, 'image')}{size}{thick})"


def find_series(path: Path) -> list[Series]:
    """List the DICOM series of a folder and all folders in it, or of one file, numbered, those with most images first.

    Only headers are read. Files that are no DICOM are passed by, a DICOMDIR stands for its folder; links to nothing,
    and files beside DICOM that are cut too short to be told, are damaged. Linked folders are followed. Images with a
    series UID each are one series where they make one even stack. Series that cannot be read are listed with the
    reason, damaged files as one without a UID. Raises BadInputError for a folder that cannot be read.
    """
    groups: dict[tuple[str, str, str], list[Header]] = defaultdict(list)
    damaged: list[str] = []
    with quiet_pydicom():
        for files in _folders(path.parent if is_dicomdir(path) else path):
            readable, unreadable = _headers(files)
            damaged += [file.name for file in unreadable]
            for file, header in readable:
                uid = header.uid or f"{file.parent}/{header.description}"  # anonymised without one
                groups[uid, header.patient, _no_scan(header) or _odd_view(header)].append(header)
        found = list(_understood(list(groups.values())))
    found.sort(key=lambda s: (bool(s.passed_over), -s.number_of_images, s.uid, s.description))
    if damaged:
        reason = f"{len(damaged)} damaged DICOM {agreeing(len(damaged), 'file', 'files')}: {listed(damaged, _NAMED)}"
        found.append(Series(passed_over=reason, problem=reason))
    return [replace(series, number=number) for number, series in enumerate(found, start=1)]


def _headers(files: Sequence[Path]) -> tuple[list[tuple[Path, Header]], list[Path]]:
    """What the DICOM files of one folder say, and which are damaged: the beginnings of files beside DICOM, too."""
    readable, damaged, cut_off = [], [], []
    for file in files:
        if not file.is_file():  # a link to nothing
            damaged.append(file)
        elif may_be_dicom(start := start_of(file)):
            try:
                found = read_header(file)
            except BadInputError:
                damaged.append(file)
            else:
                readable += [(file, found[1])] if found is not None else []
        elif may_be_cut_off(start) and not file.name.startswith("."):
            cut_off.append(file)
    return readable, sorted([*damaged, *cut_off]) if readable else damaged


def _no_scan(header: Header) -> str:
    """Why an object holds no CT images; empty if it does."""
    if header.modality != "CT":
        known = header.modality if header.modality in _MODALITIES else "of another modality"
        return f"{known if header.modality else 'of no modality'}, not CT"
    if f"{header.sop_class}.".startswith(f"{_SECONDARY_CAPTURES}.") or header.channels > 1:
        return "secondary captures (screenshots), without Hounsfield units"
    return "" if header.slices else f"no images ({known_name(header.sop_class, 'a private kind of object')})"


def _odd_view(header: Header) -> str:
    """Why CT images are not what a scan is made of; empty if they are."""
    if "LOCALIZER" in header.image_type:
        return "localizer"
    return "projections of a scan (such as MIP)" if _PROJECTIONS & set(header.image_type) else ""


def _understood(groups: Sequence[Sequence[Header]]) -> Iterator[Series]:
    """The series that groups of headers are; single images that make one even stack are one.

    Some exports, and some anonymisation, give each image a series UID of its own.
    """
    alike: dict[tuple[object, ...], list[Header]] = defaultdict(list)
    for group in groups:
        first = group[0]
        if len(group) == len(first.slices) == 1 and not _no_scan(first) and not _odd_view(first):
            alike[first.patient, first.description, first.slices[0].shape].append(first)
        else:
            yield _series(group, _stacked(group))
    for singles in alike.values():
        count, part_of = len(singles), ""
        if count >= _FEWEST_SINGLE_IMAGES:
            one_study = len({header.study_uid for header in singles}) == 1
            made = _stacked(singles) if one_study else "they are of several studies"
            if isinstance(made, Stack) and len(made.slices) == count:
                joined = f"its {count} images have a series UID each; they make one even stack and are read as one."
                yield _series(singles, replace(made, warnings=(joined, *made.warnings)))
                continue
            reason = made if isinstance(made, str) else "some are there twice, or lie in another plane"
            part_of = (
                f"one of {count} images that have a series UID each and make no scan together: {reason}. Export or "
                "anonymise the scan again, with one UID for all of its images"
            )
        yield from (_series([header], _stacked([header]), part_of) for header in singles)


def _stacked(headers: Sequence[Header]) -> Stack | str:
    """The slices of a series in a row, with all that its reader should know; or why they make no volume."""
    if no_scan := _no_scan(headers[0]):
        return no_scan
    try:
        about_values = check_values(headers)
        made = stack([image for header in headers for image in header.slices])
    except UnusableSeriesError as error:
        return str(error)
    return replace(made, warnings=(*about_values, *made.warnings))


def _series(headers: Sequence[Header], made: Stack | str, part_of: str = "") -> Series:
    images = tuple(image for header in headers for image in header.slices)
    found = vars(made) if isinstance(made, Stack) else {"slices": images, "problem": made}
    first = next((header for header in headers if header.slices[:1] == found["slices"][:1]), headers[0])
    is_small = len(found["slices"]) < _FEWEST_IMAGES
    few = "fewer than three images: a localizer, or part of a series" if is_small else ""
    return Series(**(vars(first) | found), passed_over=_no_scan(first) or _odd_view(first) or part_of or few)


# ------------------------------------------------------------------------------------------ files


def _folders(path: Path) -> Iterator[list[Path]]:
    """The files of a folder and of every folder in it, by folder and name; a file is a folder of its own.

    Linked folders are followed, each real one is visited once, and none that holds `path` itself. Links that lead
    nowhere are among the files, but for hidden ones, with which editors lock files.
    """

    def refuse(error: OSError) -> None:
        raise read_error(Path(error.filename), error) from error

    if path.is_file():
        yield [path]
        return
    visited = set(path.resolve().parents)
    for name, subfolders, names in os.walk(path, onerror=refuse, followlinks=True):
        folder = Path(name)
        if folder.resolve() in visited:
            subfolders.clear()
            continue
        visited.add(folder.resolve())
        subfolders.sort()
        files = (folder / each for each in sorted(names))
        yield [file for file in files if file.is_file() or (not file.exists() and not file.name.startswith("."))]


# ------------------------------------------------------------------------------------------ the scan


def choose_series(found: Sequence[Series], origin: object, uid: str | None = None) -> Series:
    """The series of this UID, description (anonymisation may leave no UID) or number; or else the CT with most images.

    Raises:
        BadInputError: no such series; none that is a CT scan; several with as many images; scans of several patients
            of like size (more than half as many images); the chosen one has a problem.
    """
    chosen = _by_uid(found, origin, uid) if uid is not None else _by_rule(found, origin)
    if chosen.geometry is None:
        others = [series for series in found if not series.passed_over and series is not chosen]
        another = f", or name another with --series NUMBER: {_listed(others)}"
        instead = another if uid is None and others else ""
        raise BadInputError(f"{origin}: series {chosen.title}: {chosen.problem}{instead}.")
    return chosen


def _by_uid(found: Sequence[Series], origin: object, uid: str) -> Series:
    named = [series for series in found if series.uid == uid] or [s for s in found if s.description == uid]
    named = named or [series for series in found if str(series.number) == uid]
    if not uid or not named:
        raise BadInputError(f"{origin}: there is no series {uid!r}. There are {_listed(found) or 'none'}.")
    readable = [series for series in named if series.geometry is not None]
    scans = [series for series in readable if not series.passed_over] or readable or named
    if len(scans) > 1:
        raise BadInputError(
            f"{origin}: {len(scans)} series are called that: {_listed(scans)}. Give the number of one of them."
        )
    return scans[0]


def _by_rule(found: Sequence[Series], origin: object) -> Series:
    scans = [series for series in found if not series.passed_over]
    if not scans:
        named: dict[str, list[Series]] = {}
        for series in found:
            named.setdefault(series.passed_over, []).extend([series] if series.uid else [])
        reasons = "; ".join(f"{_listed(each)}: {why}" if each else why for why, each in list(named.items())[:_LISTED])
        or_name = f" {_HOW}, or give" if any(s.geometry is not None for s in found) else " Give"
        raise BadInputError(
            f"{origin}: there is no CT scan in it ({reasons}).{or_name} the folder of one."
            if found
            else f"{origin}: there is no DICOM image in it. Give the folder of a CT series, or a NIfTI file."
        )
    chosen = max(scans, key=lambda series: series.number_of_images)
    rivals = [s for s in scans if s is not chosen]
    if as_large := [s for s in rivals if s.number_of_images == chosen.number_of_images]:
        raise BadInputError(f"{origin}: several scans have as many images: {_listed_to_choose([chosen, *as_large])}")
    large = [s for s in rivals if s.number_of_images > _LIKE_SIZE * chosen.number_of_images]
    if others := [s for s in large if s.patient_id != chosen.patient_id]:
        raise BadInputError(f"{origin}: scans of several patients: {_listed_to_choose([chosen, *others])}")
    return chosen


def _listed_to_choose(series: Sequence[Series]) -> str:
    return f"{_listed(series)}. {_HOW}."


def _listed(series: Sequence[Series]) -> str:
    return listed([f"series {each.title}" for each in series], _LISTED)
