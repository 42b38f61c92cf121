"""A generated CT series for tests: one image a slice, anywhere in the patient."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from viscera.core.geometry import Geometry

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique(shape: tuple[int, int, int] = (12, 9, 7), *, flipped: bool = False) -> Geometry:
    """Index (column, row, slice) to RAS+ mm: turned about all three axes, anisotropic."""
    a, b, c = np.radians([12, -7, 20])
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    directions = np.diag([-1.0, -1.0, 1.0]) @ x @ y @ z  # right-handed in LPS+
    if flipped:
        directions[:, :2] *= -1
    affine = np.eye(4)
    affine[:3, :3] = directions * (0.7, 0.9, 2.5)
    affine[:3, 3] = (31.5, -12.25, 1000.75)
    return Geometry(shape, affine)


def write_series(folder: Path, geometry: Geometry, hu: npt.NDArray[np.int16] | None = None) -> list[Path]:
    """Write the images in an order that is not that of their position; returns their paths in slice order.

    Args:
        folder: to write into.
        geometry: index (column, row, slice) to RAS+ mm.
        hu: (column, row, slice); air by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = LPS @ geometry.affine
    spacing = geometry.spacing_mm
    columns, rows, slices = geometry.shape
    voxels = hu if hu is not None else np.full(geometry.shape, -1000, dtype=np.int16)
    study, series, frame = (generate_uid(entropy_srcs=[part]) for part in ("study", "series", "frame"))
    paths = []
    for number in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        path = folder / f"{(number * 5) % slices:03d}.dcm"
        image = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.Modality, image.PatientName, image.PatientID = "CT", "Test^Patient", "P1"
        image.PatientBirthDate, image.PatientSex, image.StudyID, image.AccessionNumber = "", "", "1", ""
        image.StudyDate, image.StudyTime, image.ReferringPhysicianName = "20200101", "120000", ""
        image.SeriesNumber, image.InstanceNumber = 1, number + 1
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImageOrientationPatient = [
            f"{v:.10f}" for v in np.concatenate([affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]])
        ]
        image.ImagePositionPatient = [f"{v:.8f}" for v in affine[:3] @ [0, 0, number, 1]]
        image.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
        image.SliceThickness = f"{spacing[2]:.10g}"
        image.Rows, image.Columns = rows, columns
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelData = np.ascontiguousarray(voxels[:, :, number].T).tobytes()
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
