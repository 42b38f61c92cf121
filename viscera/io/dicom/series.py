"""What a DICOM series is to viscera: images in a row, and where they lie."""

from dataclasses import dataclass
from pathlib import Path

from viscera.core.geometry import Geometry

Vector3 = tuple[float, float, float]


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
        is_compressed: whether the pixels take time to decode.
        slope, intercept: HU = slope × stored value + intercept.
        padding: lowest and highest stored value that mean "outside the field of view"; None if there is none.
        acquisition: what tells phases apart: names and values of numbers and times of the acquisition.
    """

    path: Path
    frame: int
    instance_uid: str
    shape: tuple[int, int]
    plane: Plane | None
    is_compressed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
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
