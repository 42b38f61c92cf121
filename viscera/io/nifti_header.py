"""How a NIfTI file is opened, and where its header says that its voxels lie; with `io.nifti` the door to nibabel.

Nibabel parses the header, and is asked for everything in it; lengths become mm here and nowhere else.
"""

import bz2
import importlib
import logging
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.spatialimages import HeaderDataError

from viscera.core.errors import BadInputError
from viscera.core.geometry import Affine, Geometry, has_extent, size_text
from viscera.io.files import open_file, read_error

_PACKED = (".gz", ".bz2", ".xz", ".zst")
ENDINGS = tuple(f".{kind}{packed}" for kind in ("nii", "hdr", "img") for packed in (*_PACKED, ""))
_PAIR = re.compile(r"(.+)\.(hdr|img)(\.gz|\.bz2|\.xz|\.zst)?", re.IGNORECASE)
_HEADER_BYTES = 540
_MOST_BEHIND = 2**26  # bytes after the voxels
_UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}  # in mm, by NIfTI's code; the others are mm, or unknown
_LONGEST_QUATERNION = 1.01  # squared; up to there it is rounding, and scaled as the reference implementation does
_FORMS = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
_silent = logging.getLogger(f"{__name__}.nibabel")
_silent.disabled = True  # what nibabel puts right in a header is no news


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a NIfTI header says that its voxels lie: voxel size, unit, qform, sform and their codes."""

    header: nib.Nifti1Header

    @classmethod
    def read(cls, path: Path) -> "Placement":
        """Of a file that `read_volume` reads; raises BadInputError as it does."""
        with opened(path) as (header, _):
            return cls(header)

    @property
    def sform(self) -> Affine | None:
        """Its affine in mm; None where it is not set, or damaged."""
        return self._in_mm(self.header.get_sform) if self.header["sform_code"] else None

    @property
    def qform(self) -> Affine | None:
        """Its affine in mm; None where it is not set, or damaged."""
        return self._in_mm(self.header.get_qform) if self.header["qform_code"] else None

    @property
    def affine(self) -> Affine | None:
        """Voxel index to RAS+ in mm: the sform, else the qform, else by voxel size alone; None where there is none."""
        usable = (form for form in (self.sform, self.qform) if form is not None)
        is_set = self.header["sform_code"] or self.header["qform_code"]
        return next(usable, None if is_set else self._in_mm(self.header.get_base_affine))

    def _in_mm(self, read: Callable[[], Affine]) -> Affine | None:
        try:
            affine = np.array(read(), dtype=np.float64)
        except (ValueError, HeaderDataError):  # a quaternion that is none
            return None
        affine[:3] *= self._unit[1]
        return affine if has_extent(affine) else None

    @property
    def _unit(self) -> tuple[str, float]:
        return _UNITS.get(int(self.header["xyzt_units"]) % 8, ("mm", 1.0))

    def copy_to(self, header: nib.Nifti1Header) -> None:
        """Say the same in another header; a damaged form becomes what was read in its stead."""
        for field in _FORMS:
            header[field] = self.header[field]
        header["pixdim"][:4] = self.header["pixdim"][:4]
        header["xyzt_units"] = self.header["xyzt_units"] % 8  # those of space, not of time
        affine = np.array(self.affine)
        affine[:3] /= self._unit[1]
        size = header["pixdim"][1:4]
        header["pixdim"][1:4] = np.where((size > 0) & (size < np.inf), size, np.linalg.norm(affine[:3, :3], axis=0))
        if self.sform is None and self.header["sform_code"]:
            header.set_sform(affine, int(self.header["sform_code"]))
        if self.qform is None and self.header["qform_code"]:
            header.set_qform(affine, int(self.header["qform_code"]))

    def warnings(self, geometry: Geometry) -> Iterator[str]:
        """What a person should know who looks at the scan in another program."""
        unit, factor = self._unit
        if factor != 1:
            size = size_text(geometry.spacing_mm)
            yield f"the header gives lengths in {unit}: voxels of {size} mm. Other programs may take them for mm."
        codes = int(self.header["qform_code"]), int(self.header["sform_code"])
        if codes == (0, 0):
            yield "the header does not say how the patient lies; I, J, K are taken to run left, front, up. Check it."
        for name, code, form in (("qform", codes[0], self.qform), ("sform", codes[1], self.sform)):
            if code and form is None:
                yield f"its {name} is damaged; the other one is taken. Other programs may refuse the file."
        if self.sform is not None and self.qform is not None:
            tolerance_mm = 0.5 * min(geometry.spacing_mm)
            if not geometry.same_grid(Geometry(geometry.shape, self.qform), tolerance_mm):
                yield (
                    "its qform and sform disagree; the sform is taken. Other programs may take the qform: check the "
                    "place."
                )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is read, as one sentence that names it."""
    try:
        yield
    except BadInputError:
        raise
    except HeaderDataError as error:
        raise BadInputError(f"{path}: its NIfTI header is damaged ({error}). Copy or export the file again.") from error
    except (MemoryError, OverflowError) as error:
        raise BadInputError(
            f"{path}: the header asks for more than the memory holds. If the scan is not that large, the header is "
            "damaged: copy or export the file again, or leave it out."
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, igzip.BadGzipFile, IsalError) as error:  # type: ignore[misc] # isal types its error class as an instance
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of what is in the file
            raise read_error(path, error) from error
        raise BadInputError(
            f"{path}: truncated or damaged ({' '.join(str(error).split())}). Copy or export the file again, or leave "
            "it out."
        ) from error


def read_to_end(stream: IO[bytes]) -> None:
    """Read what is behind the voxels of a packed stream, where its checksums are compared; raises ValueError for much.

    A file of a few MB can unpack to terabytes.
    """
    size = 0
    while piece := stream.read(1 << 20):
        size += len(piece)
        if size > _MOST_BEHIND:
            raise ValueError(f"more than {_MOST_BEHIND >> 20} MiB follow the voxels that its header tells of")


@contextmanager
def opened(path: Path) -> Iterator[tuple[nib.Nifti1Header, IO[bytes]]]:
    """The header, and the unpacked content that the voxels are in; raises BadInputError, also while they are read."""
    with _explained(path), ExitStack() as files:
        streams = [files.enter_context(_content(each)) for each in files_of(path)]
        header = next((found for found in map(_header, streams) if found is not None), None)
        if header is None:
            raise BadInputError(
                f"{path}: this is not a NIfTI file. Give a .nii or .nii.gz file, or a pair of .hdr and .img."
            )
        is_pair = header["magic"].item() == header.pair_magic
        if is_pair and len(streams) < 2:
            raise BadInputError(f"{path}: a header without voxels. Put the .img file that belongs to it beside it.")
        yield header, streams[-1 if is_pair else 0]


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of a scan: of a pair, by the name of either, those that are there, the header first."""
    named = _PAIR.fullmatch(path.name)
    if named is None:
        return (path,)
    other = "img" if named[2].lower() == "hdr" else "hdr"
    names = (
        f"{named[1]}.{ending}{packed}" for packed in (named[3] or "", "", *_PACKED) for ending in (other, other.upper())
    )
    partner = next((found for name in names if (found := path.with_name(name)).exists()), None)
    both = (path,) if partner is None else (path, partner)
    return both if other == "img" else both[::-1]


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI scan by its name; of a pair of `.hdr` and `.img`, the header is."""
    name, files = path.name.lower(), files_of(path)
    is_first = ".nii" in name or (len(files) > 1 and files[0] == path)
    return name.endswith(ENDINGS) and not name.startswith(".") and is_first


def stores_bytes(path: Path) -> bool:
    """Whether voxels are single bytes, as label maps are and no CT can be; raises BadInputError as `opened`."""
    with opened(path) as (header, _):
        return bool(header.get_data_dtype().itemsize == 1)


@contextmanager
def _content(path: Path) -> Iterator[IO[bytes]]:
    """A file, unpacked by what it is, not by its name."""
    with open_file(path) as file:
        start = file.read(6)
        file.seek(0)
        unpack = next((unpack for magic, unpack in _UNPACK.items() if start.startswith(magic)), nullcontext)
        with unpack(file) as stream:
            yield stream


def _zstd(file: IO[bytes]) -> IO[bytes]:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            stream: IO[bytes] = importlib.import_module(module).open(file)
        except ImportError:
            continue
        return stream
    raise BadInputError(
        f"{file.name}: packed with Zstandard, which this Python does not unpack. Unpack it with `zstd -d`, or "
        "`pip install backports.zstd`."
    )


_UNPACK: Mapping[bytes, Callable[[Any], IO[bytes]]] = {
    b"\x1f\x8b": igzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def _header(stream: IO[bytes]) -> nib.Nifti1Header | None:
    """As nibabel parses it, without extensions, and with what the reference implementation forgives put right."""
    content = stream.read(_HEADER_BYTES)
    kind = next((kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(content)), None)
    if kind is None:
        return None
    header = kind(content[: kind.sizeof_hdr], check=False)
    given = header["pixdim"][1:4].copy()
    header.check_fix(_silent)
    header["pixdim"][1:4][given == 0] = 0  # not the 1 mm that nibabel makes of it
    header["dim"][4:] = np.maximum(header["dim"][4:], 1)
    if header["magic"].item() == header.single_magic and header["vox_offset"] == 0:
        header["vox_offset"] = header.single_vox_offset
    length = np.square([header[f"quatern_{part}"] for part in "bcd"], dtype=np.float64).sum()
    if 1 < length < _LONGEST_QUATERNION:
        for part in "bcd":
            header[f"quatern_{part}"] /= np.sqrt(length)
    return header
