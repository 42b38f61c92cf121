"""What a DICOM series is to viscera: images in a row, and where they lie; and which series of a folder is the scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry

Vector3 = tuple[float, float, float]
_LIKE_SIZE = 0.5  # of the largest
_NAMED = 5
_HOW = "Name one with --series UID (in Python: series=UID)"


class UnusableSeriesError(Exception):
    """The images of a series make no volume; the message says why and what to do, without the last full stop."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of one image lie in the patient: DICOM's LPS axes, millimetres.

    Attributes:
        position_mm: centre of the first pixel (ImagePositionPatient).
        row, column: unit vectors along a row and down a column (ImageOrientationPatient).
        spacing_mm: between columns, and between rows: PixelSpacing the other way round.
        thickness_mm: of the slice, None if it is not given.
    """

    position_mm: Vector3
    row: Vector3
    column: Vector3
    spacing_mm: tuple[float, float]
    thickness_mm: float | None = None


@dataclass(frozen=True)
class Slice:
    """One image: a file, or a frame of one.

    Attributes:
        path: the file.
        frame: number of the frame in it, from 0.
        instance_uid: SOPInstanceUID.
        shape: rows and columns.
        plane: None if the header does not say where the image lies.
        frames: how many the file holds.
        frame_of_reference: UID; positions of different ones cannot be compared.
        is_compressed: whether the pixels take time to decode.
        slope, intercept: HU = slope × stored value + intercept.
        not_given: which of RescaleSlope and RescaleIntercept the header does not give.
        padding: lowest and highest stored value that mean "outside the field of view"; None if there is none.
        acquisition: what tells phases apart: names and values of numbers and times of the acquisition.
    """

    path: Path
    frame: int
    instance_uid: str
    shape: tuple[int, int]
    plane: Plane | None
    frames: int = 1
    frame_of_reference: str = ""
    is_compressed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    not_given: tuple[str, ...] = ()
    padding: tuple[int, int] | None = None
    acquisition: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Series:
    """One series of a folder.

    Attributes:
        uid, study_uid: SeriesInstanceUID, StudyInstanceUID.
        patient_id: PatientID, often empty after anonymisation.
        modality: CT, MR, SEG, …
        description: SeriesDescription.
        date: of the acquisition, ISO 8601; empty if it is not given.
        slices: the images in the order of the K axis of the Volume; as found where they make no volume.
        geometry: RAS+ grid of the Volume; None if the series cannot be read.
        passed_over: why it is not chosen unless asked for by its UID; empty for a CT scan.
        problem: why it cannot be read; empty if it can.
        warnings: what a reader of the series should know.
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    date: str
    slices: tuple[Slice, ...]
    geometry: Geometry | None = None
    passed_over: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()

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
        """UID and what a person recognises it by, for messages."""
        about = [
            repr(self.description) if self.description else "",
            f"patient {self.patient_id}" if self.patient_id else "",
            f"{self.number_of_images} {'image' if self.number_of_images == 1 else 'images'}",
        ]
        return f"{self.uid or 'without UID'} ({', '.join(part for part in about if part)})"


def choose_series(found: Sequence[Series], origin: object, uid: str | None = None) -> Series:
    """The series with this UID, or description; or else the CT with most images.

    Args:
        found: what `find_series` found.
        origin: where, for messages.
        uid: of the wanted series; or its description, since anonymisation may leave no UID.

    Raises:
        BadInputError: no such series; none that is a CT scan; several with as many images; scans of several patients
            of like size (more than half as many images); the chosen one has a problem.
    """
    chosen = _by_uid(found, origin, uid) if uid is not None else _by_rule(found, origin)
    if chosen.geometry is None:
        others = [series for series in found if not series.passed_over and series is not chosen]
        instead = f", or name another series with --series UID: {_listed(others)}" if uid is None and others else ""
        raise BadInputError(f"{origin}: series {chosen.title}: {chosen.problem}{instead}.")
    return chosen


def _by_uid(found: Sequence[Series], origin: object, uid: str) -> Series:
    named = [series for series in found if series.uid == uid] or [s for s in found if s.description == uid]
    if not uid or not named:
        raise BadInputError(f"{origin}: there is no series {uid!r}. There are {_listed(found) or 'none'}.")
    readable = [series for series in named if series.geometry is not None]
    scans = [series for series in readable if not series.passed_over] or readable or named
    if len(scans) > 1:
        raise BadInputError(
            f"{origin}: {len(scans)} series are called {uid}: {_listed(scans)}. Put each into a folder of its own."
        )
    return scans[0]


def _by_rule(found: Sequence[Series], origin: object) -> Series:
    scans = [series for series in found if not series.passed_over]
    if not scans:
        titles: dict[str, list[str]] = {}
        for series in found:
            titles.setdefault(series.passed_over, []).extend([series.title] if series.uid else [])
        reasons = "; ".join(f"{_several(t)}: {why}" if t else why for why, t in list(titles.items())[:_NAMED])
        or_name = f" {_HOW}, or give" if any(s.geometry is not None for s in found) else " Give"
        raise BadInputError(
            f"{origin}: there is no CT scan in it ({reasons}).{or_name} the folder of one."
            if found
            else f"{origin}: there is no DICOM image in it. Give the folder of a CT series, or a NIfTI file."
        )
    chosen = max(scans, key=lambda series: series.number_of_images)
    rivals = [s for s in scans if s is not chosen]
    as_large = [s for s in rivals if s.number_of_images == chosen.number_of_images]
    if as_large:
        raise BadInputError(f"{origin}: several scans have as many images: {_listed_to_choose([chosen, *as_large])}")
    others = [
        s
        for s in rivals
        if s.patient_id != chosen.patient_id and s.number_of_images > _LIKE_SIZE * chosen.number_of_images
    ]
    if others:
        raise BadInputError(f"{origin}: scans of several patients: {_listed_to_choose([chosen, *others])}")
    return chosen


def _listed_to_choose(series: Sequence[Series]) -> str:
    is_told = len({each.uid for each in series}) == len(series)
    return f"{_listed(series)}. {_HOW if is_told else 'They share a series UID: put each into a folder of its own'}."


def _listed(series: Sequence[Series]) -> str:
    return _several([each.title for each in series])


def _several(titles: Sequence[str]) -> str:
    more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
    return ", ".join(titles[:_NAMED]) + more
