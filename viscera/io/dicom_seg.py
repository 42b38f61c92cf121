"""The former address of `viscera.io.dicom.seg_writer`, for scripts written before it moved."""

from viscera.io.dicom.seg_writer import Algorithm

__all__ = ["Algorithm"]
