"""The former address of `viscera.io.dicom.source_images`, for scripts written before it moved."""

from viscera.io.dicom.source_images import SourceImages

__all__ = ["SourceImages"]
