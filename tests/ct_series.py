"""CT series written with pydicom alone, to be spoilt in every way that real ones are."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STORED = np.random.default_rng(5).integers(0, 4096, (6, 40, 48)).astype(np.uint16)  # slices, rows, columns


def ct_series(
    stored_KJI: npt.NDArray[Any] = STORED,
    *,
    origin_mm: ArrayLike = (-120.0, -80.0, 30.0),
    step_mm: ArrayLike = (0.0, 0.0, 2.5),
    orientation: Iterable[float] = AXIAL,
    **tags: Any,
) -> list[Dataset]:
    """One data set a slice, along `step_mm` in LPS; 0.8 mm between rows, 0.7 between columns; HU = stored - 1024.

    Args:
        stored_KJI: (slices, rows, columns).
        origin_mm, step_mm, orientation: LPS.
        tags: replace those of every slice; None deletes one.
    """
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    dtype = stored_KJI.dtype
    slices = []
    for k, stored in enumerate(stored_KJI):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.Modality, ds.PatientID, ds.SeriesDescription = "CT", "patient 1", "abdomen"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.ImageType, ds.AcquisitionDate, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], "20240229", k + 1
        ds.ImagePositionPatient = np.round(np.asarray(origin_mm) + k * np.asarray(step_mm), 6).tolist()
        ds.ImageOrientationPatient = [round(float(x), 10) for x in orientation]
        ds.PixelSpacing, ds.SliceThickness = [0.8, 0.7], 2.5
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.Rows, ds.Columns = stored.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored = 8 * dtype.itemsize, 8 * dtype.itemsize
        ds.HighBit, ds.PixelRepresentation = 8 * dtype.itemsize - 1, int(dtype.kind == "i")
        ds.PixelData = np.ascontiguousarray(stored).tobytes()
        ds["PixelData"].VR = "OW"
        set_tags(ds, tags)
        slices.append(ds)
    return slices


def set_tags(dataset: Dataset, tags: dict[str, Any]) -> None:
    """Set these tags; None deletes one."""
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)


def save(folder: Path, datasets: Iterable[Dataset], *, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write data sets as files without extensions, whose names do not give their order away.

    Of compressed syntaxes only RLE is truly compressed; others are said in the header and nothing more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for ds in datasets:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, dtype=f"<u{ds.BitsAllocated // 8}").byteswap().tobytes()
        elif syntax == RLELossless:
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(RLELossless, generate_instance_uid=False)
        elif syntax.is_compressed:
            ds.PixelData = encapsulate([ds.PixelData])
            ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.save_as(folder / file_name(ds), enforce_file_format=True)
    return folder


def file_name(dataset: Dataset) -> str:
    """The name that `save` gives a data set."""
    return f"IM{dataset.SOPInstanceUID[-10:]}"


def enhanced(slices: Sequence[Dataset]) -> Dataset:
    """The same slices as one multi-frame Enhanced CT object."""
    ds = copy.deepcopy(slices[0])
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = EnhancedCTImageStorage, generate_uid(), len(slices)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    del ds.RescaleSlope, ds.RescaleIntercept
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([item(slices[0], "ImageOrientationPatient")])
    shared.PixelMeasuresSequence = Items([item(slices[0], "PixelSpacing", "SliceThickness")])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for each in slices:
        frame = Dataset()
        frame.PlanePositionSequence = Items([item(each, "ImagePositionPatient")])
        frame.PixelValueTransformationSequence = Items([item(each, "RescaleSlope", "RescaleIntercept")])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    ds.PixelData = b"".join(each.PixelData for each in slices)
    ds["PixelData"].VR = "OW"
    return ds


def item(source: Dataset, *keywords: str) -> Dataset:
    """An item of a sequence with some of a data set's tags."""
    result = Dataset()
    for keyword in keywords:
        setattr(result, keyword, getattr(source, keyword))
    return result
