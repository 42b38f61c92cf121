"""The former address of DICOM-SEG in `viscera.io.dicom.result_writers`, for scripts written before it moved."""

from viscera.io.dicom.result_writers import Algorithm, dicom_seg_bytes

__all__ = ["Algorithm", "dicom_seg_bytes"]
