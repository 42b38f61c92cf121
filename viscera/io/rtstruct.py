"""The former address of `viscera.io.dicom.result_writers`, for scripts written before it moved."""

from viscera.io.dicom.result_writers import rtstruct_bytes

__all__ = ["rtstruct_bytes"]
