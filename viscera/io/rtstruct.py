"""The former address of `viscera.io.dicom.rtstruct`, for scripts written before it moved."""

from viscera.io.dicom.rtstruct import rtstruct_bytes

__all__ = ["rtstruct_bytes"]
