"""The former address of `viscera.io.dicom.dicom_seg`, for scripts written before it moved."""

from viscera.io.dicom.dicom_seg import Algorithm

__all__ = ["Algorithm"]
