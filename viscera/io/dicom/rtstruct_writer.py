"""RTSTRUCT: the organs as closed contours, slice by slice (DICOM PS3.3 A.19)."""

import datetime as dt

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from skimage.measure import find_contours

from viscera.core.anatomy import ABDOMEN, AnatomicalClass, ClassTable
from viscera.core.regions import Box, boxes_of
from viscera.core.scan import LabelMap
from viscera.io.dicom.seg_writer import SERIES_NUMBER, Algorithm
from viscera.io.dicom.source_images import OF_THE_PATIENT, SourceImages, as_file, content_digest, derived_uid

_CONTOUR_DATA = Tag("ContourData")


def rtstruct_bytes(
    label_map: LabelMap, sources: SourceImages, algorithm: Algorithm, table: ClassTable = ABDOMEN
) -> bytes:
    """A label map as an RTSTRUCT: one region a class, listed even if empty; region numbers are class numbers.

    A contour runs half-way between the centres of voxels inside and outside, so that filling it by voxel centres gives
    the same voxels. A hole is a contour of its own within another: fill by the even-odd rule.

    Args:
        label_map: on the grid of the source images, in any voxel order.
        sources: the images that were segmented.
        algorithm: what made it.
        table: the classes.

    Returns:
        The whole file.

    Raises:
        BadInputError: another grid.
    """
    frames = sources.frames(label_map)
    dataset = _described(sources, algorithm, content_digest(frames))
    dataset.StructureSetROISequence = DicomSequence([_region(organ, sources, algorithm) for organ in table.organs])
    boxes = zip(table.organs, boxes_of(frames, len(table))[1:], strict=True)
    dataset.ROIContourSequence = DicomSequence([_contours(organ, frames, box, sources) for organ, box in boxes])
    dataset.RTROIObservationsSequence = DicomSequence([_observation(organ) for organ in table.organs])
    return as_file(dataset)


def contours_of(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    """Closed contours (N, 2) of a slice (row, column), in voxels; the last point is not the first again."""
    around = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)  # the edge of the slice closes them, too
    return [each[:-1] - 1 for each in around]


def _described(sources: SourceImages, algorithm: Algorithm, digest: str) -> Dataset:
    first, now = sources.headers[0], dt.datetime.now(tz=dt.UTC).astimezone()  # local, as nothing says otherwise
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VR limits a contour to 64 KiB
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for name in ("StudyInstanceUID", *OF_THE_PATIENT):
        setattr(dataset, name, first.get(name))
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = derived_uid("rtstruct", first.SeriesInstanceUID, algorithm.model, digest)
    dataset.SeriesInstanceUID = derived_uid("rtstruct series", first.SeriesInstanceUID, algorithm.model)
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = SERIES_NUMBER + 1
    dataset.SeriesDescription = "Organs (viscera, not for clinical use)"
    dataset.OperatorsName = ""
    dataset.Manufacturer = "viscera"
    dataset.ManufacturerModelName = algorithm.name
    dataset.SoftwareVersions = algorithm.version
    dataset.InstanceNumber = 1
    dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = first.get("PositionReferenceIndicator", "")
    dataset.StructureSetLabel = "ORGANS"
    dataset.StructureSetDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    series = Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = DicomSequence(_reference(sources, number) for number in range(len(sources.headers)))
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired, as PS3.3 asks for
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = DicomSequence([study])
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([frame])
    return dataset


def _reference(sources: SourceImages, number: int) -> Dataset:
    """To the image of a slice, and where it has several, to the frame."""
    header, item = sources.headers[number], Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if sources.frame_numbers:
        item.ReferencedFrameNumber = sources.frame_numbers[number]
    return item


def _region(organ: AnatomicalClass, sources: SourceImages, algorithm: Algorithm) -> Dataset:
    item = Dataset()
    item.ROINumber = organ.label
    item.ReferencedFrameOfReferenceUID = sources.headers[0].FrameOfReferenceUID
    item.ROIName = organ.title
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"{algorithm.name} {algorithm.version}, model {algorithm.model[:12]}"
    return item


def _contours(organ: AnatomicalClass, frames: npt.NDArray[np.uint8], box: Box, sources: SourceImages) -> Dataset:
    contours = []
    slices, rows, columns = box
    for number in range(slices.start, slices.stop):
        for row, column in (each.T for each in contours_of(frames[number, rows, columns] == organ.label)):
            position_mm = sources.to_mm(number, column + columns.start, row + rows.start)
            item = Dataset()
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(position_mm)
            item.ContourImageSequence = DicomSequence([_reference(sources, number)])
            item[_CONTOUR_DATA] = _decimal_strings(position_mm)
            contours.append(item)
    region = Dataset()
    region.ReferencedROINumber = organ.label
    region.ROIDisplayColor = list(organ.rgb)
    if contours:
        region.ContourSequence = DicomSequence(contours)
    return region


def _decimal_strings(values: npt.NDArray[np.float64]) -> RawDataElement:
    """As they stand in the file: pydicom checks each of a million numbers otherwise, for half a minute."""
    text = "\\".join(f"{value:.4f}" for value in values.ravel().tolist()).encode()
    text += b" " * (len(text) % 2)
    return RawDataElement(_CONTOUR_DATA, "DS", len(text), text, 0, is_implicit_VR=True, is_little_endian=True)


def _observation(organ: AnatomicalClass) -> Dataset:
    item = Dataset()
    item.ObservationNumber = organ.label
    item.ReferencedROINumber = organ.label
    item.RTROIInterpretedType = "ORGAN"
    item.ROIInterpreter = ""
    if organ.snomed:
        code = Dataset()
        code.CodeValue, code.CodeMeaning = organ.coded
        code.CodingSchemeDesignator = "SCT"
        item.RTROIIdentificationCodeSequence = DicomSequence([code])
    return item
