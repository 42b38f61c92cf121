"""DICOM segmentation objects: the one door to highdicom."""

import hashlib
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from viscera.core.anatomy import ABDOMEN, ANATOMICAL_STRUCTURE, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.scan import LabelMap
from viscera.io.dicom.source_images import SourceImages, as_file, content_digest, derived_uid

SERIES_NUMBER = 9000


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation.

    Attributes:
        model: identifies the trained model: the checksum of its run.
        version, name: of the software.
    """

    model: str
    version: str
    name: str = "viscera"


def load_highdicom() -> Any:  # noqa: ANN401 - a module
    """highdicom, which comes with the extra `dicom`.

    Raises:
        BadInputError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module("highdicom")
    except ImportError as error:
        raise BadInputError(
            f"--format dicom-seg needs highdicom ({error}). Install it: pip install 'viscera[dicom]', or leave "
            "dicom-seg out."
        ) from error


def dicom_seg_bytes(
    label_map: LabelMap, sources: SourceImages, algorithm: Algorithm, table: ClassTable = ABDOMEN
) -> bytes:
    """A label map as one binary DICOM-SEG, a segment a class; all are described, frames without voxels left out.

    Segment numbers are class numbers, codes are SNOMED CT, colours those of `core.anatomy`.

    Args:
        label_map: on the grid of the source images, in any voxel order.
        sources: the images that were segmented.
        algorithm: what made it.
        table: the classes.

    Returns:
        The whole file.

    Raises:
        BadInputError: highdicom is not installed; another grid; or headers that it cannot take over.
    """
    hd = load_highdicom()
    frames = sources.frames(label_map)
    images = sources.headers
    if sources.frame_numbers:
        images, frames = images[:1], frames[np.argsort(sources.frame_numbers)]
    elif not frames.any():  # an object without any frame is no DICOM: one empty frame a segment
        images, frames = images[:1], frames[:1]
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        parameters={"model": algorithm.model},
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=organ.label,
            segment_label=organ.title,
            segmented_property_category=_coded(*ANATOMICAL_STRUCTURE),
            segmented_property_type=_coded(*organ.coded),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            tracking_uid=derived_uid("segment", sources.headers[0].SeriesInstanceUID, algorithm.model, organ.name),
            tracking_id=organ.name,
            display_color=hd.color.CIELabColor.from_rgb(*organ.rgb),
        )
        for organ in table.organs
    ]
    of_source = (sources.headers[0].SeriesInstanceUID, algorithm.model)
    try:
        segmentation = hd.seg.Segmentation(
            source_images=images,
            pixel_array=frames,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=derived_uid("seg series", *of_source),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived_uid("seg", *of_source, content_digest(frames)),
            instance_number=1,
            manufacturer="viscera",
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            omit_empty_frames=bool(frames.any()),
            device_serial_number=hashlib.sha256(algorithm.model.encode()).hexdigest()[:16],
            content_label="ORGANS",
            content_description="Organs of the abdomen",
            series_description="Organs (viscera, not for clinical use)",
        )
        return as_file(segmentation)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(
            f"DICOM-SEG cannot take over the headers of the source images ({reason}); give --format nifti or seg-nrrd."
        ) from error


def _coded(snomed: str, meaning: str) -> Code:
    return Code(snomed, "SCT", meaning)
