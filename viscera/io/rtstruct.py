"""The former address of `viscera.io.dicom.rtstruct_writer`, for scripts written before it moved."""

from viscera.io.dicom.rtstruct_writer import rtstruct_bytes

__all__ = ["rtstruct_bytes"]
