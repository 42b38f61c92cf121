"""NIfTI as it really comes: extensions, damaged forms, units, pairs, packing, permissions."""

import bz2
import contextlib
import errno
import gzip
import logging
import lzma
import os
import socket
import struct
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import viscera
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap
from viscera.io import files
from viscera.io.nifti import nifti_bytes
from viscera.io.nifti_header import Placement, files_of

AFFINE = np.diag([2.0, 2, 2, 1])
HU = np.random.default_rng(0).integers(-1000, 500, (8, 8, 8)).astype(np.int16)
RAW = nib.Nifti1Image(HU, AFFINE).to_bytes()
NAN = float("nan")


def content(
    sform: int = 1, qform: int = 1, *, affine: np.ndarray = AFFINE, at: dict[int, bytes] | None = None
) -> bytes:
    """A file with these codes, and other bytes at some places of its header."""
    image = nib.Nifti1Image(HU, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    changed = bytearray(image.to_bytes())
    for place, value in (at or {}).items():
        changed[place : place + len(value)] = value
    return bytes(changed)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def assert_read(path: Path) -> None:
    volume = viscera.read_volume(path)
    assert np.array_equal(volume.hu, HU)
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-6)
    assert np.array_equal(viscera.io.nifti.read_volume(path).hu, HU)


@pytest.mark.parametrize("code", [0, 2, 4, 6, 44, 99])
@pytest.mark.parametrize("size", [1, 5000, 70_000])
def test_header_extensions_of_any_kind_and_size(tmp_path: Path, code: int, size: int) -> None:
    image = nib.Nifti1Image(HU, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * size))
    changed = bytearray(image.to_bytes())
    changed[356:360] = struct.pack("<i", code)
    for name, packed in (("a.nii", bytes(changed)), ("a.nii.gz", gzip.compress(changed))):
        (tmp_path / name).write_bytes(packed)
        assert_read(tmp_path / name)
    for size_said in (0, -5, 10**6):  # of an extension that is damaged itself
        changed[352:356] = struct.pack("<i", size_said)
        (tmp_path / "b.nii").write_bytes(changed)
        assert_read(tmp_path / "b.nii")


DAMAGED_QFORMS = {
    "a little too long": {256: floats(0, 0.70712, 0.70712)},
    "far too long": {256: floats(1, 1, 1)},
    "NaN": {256: floats(NAN, 0, 0)},
    "infinite": {256: floats(float("inf"), 0, 0)},
    "pixdim[0] NaN": {76: floats(NAN)},
    "pixdim[0] 3": {76: floats(3)},
    "voxel size 0": {80: floats(0, 0, 0)},
    "voxel size NaN": {80: floats(NAN, 2, 2)},
    "voxel size below 0": {80: floats(-2, 2, 2)},
}


@pytest.mark.parametrize("kind", DAMAGED_QFORMS)
def test_a_damaged_qform_beside_a_valid_sform(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content(at=DAMAGED_QFORMS[kind]))
    assert_read(path)
    answer = nifti_bytes(
        LabelMap(np.ones((8, 8, 8), np.uint8), Geometry((8, 8, 8), AFFINE)), "", placement=Placement.read(path)
    )
    (tmp_path / "answer.nii.gz").write_bytes(answer)
    image = nib.load(tmp_path / "answer.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE)
    assert np.isfinite(image.get_qform()).all()  # raises where it is damaged
    assert (image.header["pixdim"][1:4] > 0).all()


def test_a_damaged_sform_beside_a_valid_qform(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for srow in (floats(*[0] * 12), floats(*[NAN] * 12)):
        (tmp_path / "a.nii").write_bytes(content(at={280: srow}))
        assert_read(tmp_path / "a.nii")
        assert "its sform is damaged; the other one is taken" in caplog.text


@pytest.mark.parametrize("kind", ["far too long", "NaN", "voxel size 0", "voxel size NaN"])
def test_a_place_that_is_not_known_is_not_made_up(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.nii").write_bytes(content(sform=0, at=DAMAGED_QFORMS[kind]))
    with pytest.raises(BadInputError, match=r"a\.nii: the header's geometry is damaged or has no extent"):
        viscera.read_volume(tmp_path / "a.nii")


def test_a_quaternion_that_is_a_little_too_long_is_scaled(tmp_path: Path) -> None:
    """As `nifti_quatern_to_mat44` of the reference implementation does: half a turn about the diagonal of J and K."""
    (tmp_path / "a.nii").write_bytes(content(sform=0, at=DAMAGED_QFORMS["a little too long"]))
    directions = viscera.read_volume(tmp_path / "a.nii").geometry.affine[:3, :3]
    np.testing.assert_allclose(directions, [[-2, 0, 0], [0, 0, 2], [0, 2, 0]], atol=1e-6)


@pytest.mark.parametrize(("code", "to_mm", "unit"), [(1, 1000, "metres"), (3, 0.001, "micrometres")])
@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (1, 1), (0, 0)])
@pytest.mark.parametrize("time", [0, 8])
def test_lengths_are_taken_to_mm(  # noqa: PLR0913, PLR0917
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    code: int,
    to_mm: float,
    unit: str,
    sform: int,
    qform: int,
    time: int,
) -> None:
    affine = np.diag([2 / to_mm, 2 / to_mm, 2 / to_mm, 1])
    affine[:3, 3] = np.array([10, 20, 30]) / to_mm
    (tmp_path / "a.nii").write_bytes(content(sform, qform, affine=affine, at={123: bytes([code + time])}))
    volume = viscera.read_volume(tmp_path / "a.nii")
    assert volume.geometry.spacing_mm == pytest.approx((2, 2, 2))
    if sform or qform:
        np.testing.assert_allclose(volume.geometry.affine[:3, 3], [10, 20, 30], rtol=1e-5)
    assert f"gives lengths in {unit}: voxels of 2×2×2 mm" in caplog.text
    placement = Placement.read(tmp_path / "a.nii")
    (tmp_path / "answer.nii.gz").write_bytes(
        nifti_bytes(LabelMap(np.ones((8, 8, 8), np.uint8), volume.geometry), "", placement=placement)
    )
    answer = viscera.read_labels(tmp_path / "answer.nii.gz")
    assert answer.geometry.same_grid(volume.geometry)
    assert nib.load(tmp_path / "answer.nii.gz").header["xyzt_units"] == code  # as of its scan, for any program


@pytest.mark.parametrize("code", [0, 2, 4, 7, 10, 255])
def test_other_units_are_mm_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int) -> None:
    (tmp_path / "a.nii").write_bytes(content(at={123: bytes([code])}))
    with caplog.at_level(logging.WARNING):
        assert_read(tmp_path / "a.nii")
    assert not caplog.messages


@pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_pair_by_the_name_of_either(tmp_path: Path, image_class: type[nib.Nifti1Pair], packed: str) -> None:
    header, image = tmp_path / f"a.hdr{packed}", tmp_path / f"a.img{packed}"
    nib.save(image_class(HU, AFFINE), image)
    for path in (header, image):
        assert_read(path)
        assert files_of(path) == (header, image)
    image.rename(tmp_path / "A.IMG")
    with pytest.raises(BadInputError, match=r"a\.hdr(\.gz)?: a header without voxels. Put the \.img file"):
        viscera.read_volume(header)
    header.unlink()
    with pytest.raises(BadInputError, match=r"A\.IMG: (this is not a NIfTI file|truncated)"):
        viscera.read_volume(tmp_path / "A.IMG")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nii.bz2", "a.nii.xz", "a.img", "a.hdr"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_what_is_packed_its_content_says(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(pack(RAW))
    assert_read(tmp_path / name)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_and_damaged(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(RAW)
    for damaged in (packed[:-5], packed[:-300], packed[:20], packed[:200] + bytes(9) + packed[209:]):
        (tmp_path / "a.nii.gz").write_bytes(damaged)
        with pytest.raises(BadInputError, match=r"a\.nii\.gz: truncated or damaged"):
            viscera.read_volume(tmp_path / "a.nii.gz")


def test_zstandard_is_read_or_said(tmp_path: Path) -> None:
    (tmp_path / "a.nii.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(99))
    with pytest.raises(BadInputError, match=r"packed with Zstandard|truncated or damaged"):
        viscera.read_volume(tmp_path / "a.nii.zst")


@pytest.mark.parametrize("dims", [(5, 8, 8, 8, 1, 1), (7, 8, 8, 8, 1, 1, 1, 1), (5, 8, 8, 8, 0, 0), (4, 8, 8, 8, -1)])
def test_axes_of_length_one_behind_the_third(tmp_path: Path, dims: tuple[int, ...]) -> None:
    """0 stands for 1 in the reference implementation."""
    (tmp_path / "a.nii").write_bytes(content(at={40: struct.pack(f"<{len(dims)}h", *dims)}))
    assert_read(tmp_path / "a.nii")


@pytest.mark.parametrize("shape", [(8, 8, 4, 2), (8, 8, 4, 1, 2), (8, 64), (512,)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(HU.reshape(shape), AFFINE), tmp_path / "a.nii")
    with pytest.raises(BadInputError, match=r"a\.nii: an array of .* values; one three-dimensional scan was expected"):
        viscera.read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("slope", [0, NAN, float("inf")])
def test_a_slope_that_is_none_does_not_count(tmp_path: Path, slope: float) -> None:
    (tmp_path / "a.nii").write_bytes(content(at={112: floats(slope, 5)}))
    assert_read(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({112: floats(1, NAN)}, "header is damaged"),
        ({70: struct.pack("<h", 1)}, "header is damaged"),  # single bits
        ({108: floats(1e9)}, "truncated or damaged"),  # where the voxels begin
        ({108: floats(NAN)}, "truncated or damaged"),
        ({344: b"ni1\0"}, "a header without voxels"),
        ({42: struct.pack("<3h", -1, 1, 1)}, "header is damaged"),  # FreeSurfer's long vectors, without their length
        (
            {42: struct.pack("<3h", -1, 1, 1), 144: struct.pack("<i", 2**30)},
            "damaged|more than the memory",
        ),
    ],
)
def test_other_damage_is_one_sentence(tmp_path: Path, at: dict[int, bytes], message: str) -> None:
    (tmp_path / "a.nii").write_bytes(content(at=at))
    with pytest.raises(BadInputError, match=rf"a\.nii: .*{message}") as caught:
        viscera.read_volume(tmp_path / "a.nii")
    assert "\n" not in str(caught.value)


def test_what_a_download_left_in_place_of_a_scan(tmp_path: Path) -> None:
    """A Git LFS pointer; a page that asks for a password; zeros for the unused axes, and in pixdim."""
    for stub in (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", b"<!DOCTYPE html>" * 99):
        (tmp_path / "a.nii.gz").write_bytes(stub)
        with pytest.raises(BadInputError, match=r"a\.nii\.gz: this is not a NIfTI file"):
            viscera.read_volume(tmp_path / "a.nii.gz")
    zeros = {40: struct.pack("<8h", 3, 8, 8, 8, 0, 0, 0, 0), 76: floats(0, 2, 2, 2, 0, 0, 0, 0), 123: b"\0"}
    (tmp_path / "b.nii").write_bytes(content(at=zeros))
    assert_read(tmp_path / "b.nii")


def test_a_single_file_that_does_not_say_where_its_voxels_begin(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(content(at={108: floats(0)}))
    assert_read(tmp_path / "a.nii")


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_voxels_that_are_no_plain_numbers(tmp_path: Path, dtype: np.dtype) -> None:
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), dtype), AFFINE), tmp_path / "a.nii")
    with pytest.raises(BadInputError, match=r"a\.nii: voxels of type .*plain numbers were expected"):
        viscera.read_volume(tmp_path / "a.nii")


def test_any_change_of_the_header_is_read_or_one_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for original in (RAW, nib.Nifti2Image(HU, AFFINE).to_bytes()):
        for _ in range(25):
            changed = np.frombuffer(original, np.uint8).copy()
            changed[rng.integers(0, 352, rng.integers(1, 6))] = rng.choice([0, 1, 127, 128, 255])
            (tmp_path / "a.nii").write_bytes(changed.tobytes())
            with contextlib.suppress(BadInputError):
                viscera.io.nifti.read_volume(tmp_path / "a.nii")


def test_a_file_without_permission_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(RAW))

    def refuse(*_: object) -> BufferedReader:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInputError, match=r"a\.nii\.gz: cannot be read \(Permission denied\)") as caught:
        viscera.io.nifti.read_volume(tmp_path / "a.nii.gz")
    assert "truncated" not in str(caught.value)


def test_an_error_of_the_disk_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(RAW))

    class Broken(BufferedReader):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("viscera.io.nifti_header.open_file", lambda path: Broken(files.open_file(path).detach()))
    with pytest.raises(BadInputError, match=r"a\.nii\.gz: cannot be read \(Input/output error\)"):
        viscera.io.nifti.read_volume(tmp_path / "a.nii.gz")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.nii.gz"))
    for path in (tmp_path / "pipe.nii.gz", tmp_path / "socket.nii.gz", Path("/dev/null")):
        with pytest.raises(BadInputError, match="this is a pipe, socket or device"):
            viscera.read_volume(path)
        with pytest.raises(BadInputError, match="this is a pipe, socket or device"):
            files.sha256(path)
