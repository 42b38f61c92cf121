"""What headers, files and folders say of patients, planted everywhere and looked for in everything that viscera leaves.

Each round writes scans whose every header field holds a marker, good ones and bad ones, takes them through the
commands, and searches all files (packed ones unpacked) and all that was printed. Every second round has markers in the
names of files and folders too, and gives `--pseudonyms`.
"""

import base64
import bz2
import contextlib
import gzip
import http.client
import io
import json
import logging
import lzma
import random
import re
import shutil
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
from highdicom._standard_utils import get_module_attribute_map
from nibabel.nifti1 import Nifti1Extension
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from typer.testing import CliRunner

from torture.outcome import Outcome
from viscera.check.check_page import MOST_PICTURES
from viscera.cli import app as command_line
from viscera.core.anatomy import CLASS_NAMES
from viscera.study import launch
from viscera.view.open_gallery import open_gallery
from viscera.view.view_server import ViewServer

WORD, ROOT, DATE, TIME, AGE = "QZXVWQ", "1.2.826.0.1.3680043.77777", "19470313", "043217.190347", "094Y"
DECIMAL, WHOLE = "71.947031", "1947031703"
NEEDLES = (WORD, "3680043.77777", DATE, "1947-03-13", "13.03.1947", "043217.19", "04:32:17", AGE, DECIMAL, WHOLE)
_BY_KIND = {  # what a field of each value representation is filled with
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"), WORD),
    "AS": AGE,
    "DA": DATE,
    "TM": TIME,
    "DT": f"{DATE}{TIME}",
    "UI": ROOT,
    "DS": DECIMAL,
    "IS": WHOLE,
}
_GROUPS = {0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040, 0x4008}
_BASE64 = re.compile(rb"(?<=;base64,)[A-Za-z0-9+/]+")
_OF_PATIENTS, _FEW = 0x0010, 0.05
_MEANT = re.compile(  # what says where and what the pixels are
    "^(Rows|Columns|Bits.*|HighBit|Pixel.*|Samples.*|Photometric.*|Rescale.*|Image.*Patient|ImageType|Modality|"
    "SOPClassUID|SpecificCharacterSet|.*GroupsSequence|NumberOfFrames|TimezoneOffsetFromUTC|SliceThickness|"
    "SpacingBetweenSlices|PatientSex|AcquisitionNumber|Temporal.*|PatientID|.*ImageSequence|LossyImage.*)$"
)
REFERRED_TO = {"SeriesInstanceUID", "SOPInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID"}
REFERRED_TO |= {"ReferencedFrameOfReferenceUID", "PositionReferenceIndicator"}
OF_PATIENT_AND_STUDY = ("patient", "clinical-trial-subject", "general-study", "patient-study", "clinical-trial-study")
TINY = ("--patch=8", "--batch-size=2", "--filters=2", "--iterations=4", "--device=cpu", "--set", "train.levels=2")
PARTS = ("--test-fraction", 0.25, "--validation-fraction", 0.25)
SHAPE = (14, 12, 10)


# --- planting


def case_arrays(number: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """HU and labels of seven slabs."""
    labels = np.zeros(SHAPE, np.uint8)
    for label in range(1, 8):
        labels[2 * label - 2 : 2 * label, 1 + number % 3 : 9, 2:8] = label
    noise = np.random.default_rng(number).integers(-20, 20, SHAPE)
    return (100 * labels.astype(np.int64) - 300 + noise).astype(np.int16), labels


def write_nifti(path: Path, array: npt.NDArray[Any], *, comment: bool = True) -> Path:
    """With markers in every field of text, extensions, and in the header of gzip: name and comment."""
    image = nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.5, 1]))
    for field, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16), ("db_name", 18), ("data_type", 10)):
        image.header[field] = f"{WORD} {field}"[:size].encode()
    for code, text in ((6, f"{WORD}^comment {DATE}"), (4, f"<a name='{WORD}' uid='{ROOT}.1'/>"), (0, AGE)):
        image.header.extensions.append(Nifti1Extension(code, text.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile(f"{WORD}.nii" if comment else "", "wb", 1, file) as packed:
        packed.write(image.to_bytes())
    return path


def write_data_set(folder: Path, names: Collection[str]) -> Path:
    """In nnU-Net's layout: the first case is cut short, the second's labels are missing."""
    for number, name in enumerate(names):
        hu, labels = case_arrays(number)
        scan = write_nifti(folder / "imagesTr" / f"{name}_0000.nii.gz", hu)
        label_map = write_nifti(folder / "labelsTr" / f"{name}.nii.gz", labels)
        if number == 0:
            scan.write_bytes(scan.read_bytes()[:-300])
        if number == 1:
            label_map.unlink()
    (folder / "dataset.json").write_text(json.dumps({"labels": {name: n for n, name in enumerate(CLASS_NAMES)}}))
    return folder


def _fill(dataset: Dataset, seed: random.Random, share: float) -> None:
    for tag, (kind, many, _, retired, keyword) in DicomDictionary.items():
        if tag >> 16 not in _GROUPS or _MEANT.match(keyword) or not keyword or retired == "Retired":
            continue
        if kind == "SQ" and keyword.endswith("CodeSequence") and seed.random() < share:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = WORD, WORD, WORD
            setattr(dataset, keyword, [item])
        elif kind in _BY_KIND and (seed.random() < share or tag >> 16 == _OF_PATIENTS):
            value = _BY_KIND[kind]
            is_several = many.startswith(("2", "3"))
            setattr(dataset, keyword, [value] * int(many[0]) if is_several else value)
    private = dataset.private_block(0x0019, f"{WORD} VENDOR", create=True)
    private.add_new(0x01, "LO", WORD)
    private.add_new(0x02, "UN", WORD.encode("utf-16-le"))


def write_series(
    folder: Path, hu: npt.NDArray[np.int16], seed: random.Random, share: float = _FEW, **tags: object
) -> Path:
    """With markers in every element of patient, study, series and equipment, private ones and the file's own."""
    folder.mkdir(parents=True, exist_ok=True)
    with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
        filled = Dataset()
        _fill(filled, seed, share)
        for k in range(hu.shape[2]):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
            meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.9.{k}")
            meta.ImplementationVersionName, meta.SourceApplicationEntityTitle = WORD, WORD
            meta.ImplementationClassUID = UID(f"{ROOT}.5")
            image = FileDataset("", filled, file_meta=meta, preamble=f"{WORD:128}".encode())
            image.SOPClassUID, image.SOPInstanceUID, image.Modality = CTImageStorage, f"{ROOT}.9.{k}", "CT"
            image.PatientID, image.PatientName, image.PatientSex = f"{WORD}0815", f"{WORD}^Hans", "O"
            image.StudyInstanceUID, image.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
            image.FrameOfReferenceUID, image.ImageType = f"{ROOT}.3", ["ORIGINAL", "PRIMARY", WORD]
            image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 2.5 * k], [1, 0, 0, 0, 1, 0]
            image.PixelSpacing, image.SliceThickness = [2, 2], 2.5
            image.Rows, image.Columns = hu.shape[1], hu.shape[0]
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated = image.BitsStored = 16
            image.HighBit, image.PixelRepresentation = 15, 1
            image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
            image.PixelData = np.ascontiguousarray(hu[:, :, k].T).tobytes()
            for keyword, value in tags.items():
                setattr(image, keyword, value(k) if callable(value) else value)
            image.save_as(folder / f"IM{k:03d}", enforce_file_format=True)
    return folder


def bad_series(folder: Path, seed: random.Random) -> list[Path]:
    """Folders of series that are refused, each for another reason."""
    hu, _ = case_arrays(1)
    made = {
        "phases": write_series(folder / "phases", hu, seed, ImagePositionPatient=lambda k: [0, 0, 2.5 * (k // 2)]),
        "gap": write_series(folder / "gap", hu, seed, ImagePositionPatient=lambda k: [0, 0, 2.5 * (k + (k > 4))]),
        "unit": write_series(folder / "unit", hu, seed, RescaleType=WORD),
        "modality": write_series(folder / "modality", hu, seed, Modality=WORD),
        "kind": write_series(folder / "kind", hu, seed, SOPClassUID=f"{ROOT}.8"),
        "size": write_series(folder / "size", hu, seed, Rows=5),
        "turns": write_series(folder / "turns", hu, seed, AcquisitionTime=lambda k: f"0{4 + k % 2}3217.190347"),
    }
    two = folder / "patients"
    write_series(two / "a", hu, seed)
    write_series(two / "b", hu, seed, SeriesInstanceUID=f"{ROOT}.22", PatientID=f"{WORD}4711")
    cut = write_series(folder / "cut", hu, seed)
    for path in sorted(cut.iterdir())[2:]:
        path.write_bytes(path.read_bytes()[:700])
    return [*made.values(), two, cut]


# --- looking for it


def said_in(content: bytes, needles: Collection[str] = NEEDLES) -> set[str]:
    """Which of them are in some bytes, whatever the encoding, and in what is packed in these."""
    found = set[str]()
    for part in _unpacked(content):
        small = part.lower()
        for needle in needles:
            forms = (needle.lower().encode(each) for each in ("utf-8", "utf-16-le", "utf-16-be"))
            if any(form in small for form in forms):
                found.add(needle)
    return found


def _unpacked(content: bytes, depth: int = 0) -> Iterator[bytes]:
    yield _BASE64.sub(b"", content)  # whose letters may be anything
    for packed in _BASE64.findall(content):
        yield base64.b64decode(packed + b"===")
    if depth > 3:
        return
    if content[:2] == b"PK":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield archive.comment
            for member in archive.infolist():
                yield member.filename.encode() + member.comment + member.extra
                yield from _unpacked(archive.read(member), depth + 1)
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if content.startswith(magic):
            with contextlib.suppress(OSError, EOFError, lzma.LZMAError, zlib.error):
                yield from _unpacked(unpack(content), depth + 1)
    if content.startswith(b"NRRD"):  # a header of text, then gzip
        yield from _unpacked(content.partition(b"\n\n")[2], depth + 1)


def leaks(folder: Path, needles: Collection[str] = NEEDLES) -> list[str]:
    """`path: needles` of each file, hidden ones too, that has one in its name or its content."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        told = said_in(name.encode(errors="surrogateescape"), needles)
        if path.is_file() and not path.name.endswith(".dcm"):
            told |= said_in(path.read_bytes(), needles)
        elif path.is_file():
            told |= _beyond_the_patient(path, needles)
        found += [f"{name}: {', '.join(sorted(told))}"] if told else []
    return found


def _beyond_the_patient(path: Path, needles: Collection[str]) -> set[str]:
    """Of a DICOM result: elements with a marker that are not those of patient and study, nor of what it refers to."""
    dataset, strange, modules = pydicom.dcmread(path), set[str](), get_module_attribute_map()
    allowed = {each["keyword"] for name in OF_PATIENT_AND_STUDY for each in modules[name] if not each["path"]}

    def look(within: Dataset) -> None:
        for element in within:
            keyword = keyword_for_tag(element.tag) or str(element.tag)
            if keyword in allowed | REFERRED_TO:
                continue
            if element.VR == "SQ":
                for item in element.value:
                    look(item)
            elif said_in(str(element.value).encode(), needles):
                strange.add(f"{keyword}={element.value}")

    look(dataset)
    look(dataset.file_meta)
    return strange | (said_in(dataset.preamble, needles) if dataset.preamble else set())


# --- the commands


class Commands:
    """viscera's command line in this process; keeps what was printed."""

    def __init__(self) -> None:
        self.printed: list[tuple[str, str]] = []  # command and output
        self.failures: list[str] = []  # commands that did not end as they had to

    def __call__(self, *arguments: object) -> int:
        """Run one; its exit code. A defect of ours is printed as a user would see it."""
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            with mock.patch.object(launch, "start_pool", return_value=None), warnings.catch_warnings():
                warnings.simplefilter("default")
                result = CliRunner().invoke(command_line.app, [str(argument) for argument in arguments])
        finally:
            root.handlers[:], root.level = handlers, level
        output = result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            output += "".join(traceback.format_exception(result.exception))
        self.printed.append((" ".join(str(each) for each in arguments[:1]), output))
        return result.exit_code

    def must(self, *arguments: object, code: int = 0) -> None:
        """Run one that ends with this code, or nothing of it would be searched."""
        if (found := self(*arguments)) != code:
            said = self.printed[-1][1].strip().splitlines()[-1:]
            self.failures.append(f"{arguments[0]}: exit code {found}, not {code}: {''.join(said)}")

    def leaks(self, needles: Collection[str] = NEEDLES) -> list[str]:
        """`command: needles: line` of what was printed."""
        return [
            f"{command}: {', '.join(sorted(told))}: {line}"
            for command, output in self.printed
            for line in output.splitlines()
            if (told := said_in(line.encode(errors="surrogateescape"), needles))
        ]


def first_commands(
    viscera: Commands, raw: Path, series: Path, out: Path, keys: tuple[object, ...] = (), *, whole: bool
) -> None:
    """From data to predictions and scores: the commands that read headers, files and folders."""
    pictures = mock.patch("viscera.check.check_stage.MOST_PICTURES", MOST_PICTURES if whole else 1)
    if keys or whole:
        with pictures:  # which take seconds
            viscera.must("check", raw, "--out", out / "check", *keys, *["--json"] * whole, code=3)
    viscera.must("prepare", raw, out / "store", "--downsample", 1, *PARTS, *keys, code=3)
    viscera.must("train", out / "store", out / "run", *TINY, "--set", "train.monitor_windows=2")
    formats = ("--format", "nifti,seg-nrrd,probabilities,entropy")
    viscera.must("predict", out / "run", raw / "imagesTr", out / "predictions", *formats, *keys, code=3)
    viscera.must("predict", out / "run", series, out / "of_series", *formats, *keys)
    scores = out / "scores" / "scores.csv"
    viscera.must("evaluate", out / "predictions", raw, "--out", scores, *keys, code=3)
    if not keys:
        dicom = ("--format", "nifti,dicom-seg,dicom-seg-labelmap,rtstruct")
        viscera.must("predict", out / "run", series, out / "of_dicom", *dicom)


def other_commands(viscera: Commands, out: Path) -> None:
    """What is made of these."""
    viscera.must("doctor", out / "run", "--no-probe", "--json")
    viscera.must("card", out / "run", "--store", out / "store")
    viscera.must("export", out / "run", out / "exported", "--to", "safetensors,slicer")
    viscera.must("verify", out / "store")
    viscera.must("verify", out / "predictions", "--json")


def study_commands(viscera: Commands, out: Path) -> None:
    """A study with its report, which draw for seconds."""
    arms = ("--weightings", "uniform,simple", "--learning-rates", "0.01", "--seeds", "0", "--fuse")
    viscera.must("study", out / "store", out / "study", *arms, *TINY, "--set", "train.monitor_windows=2")
    viscera.must("report", out / "study")
    viscera.must("doctor", out / "run", "--store", out / "store")
    viscera.must("doctor", out / "store", "--preset", "demo", "--set", "train.iterations=20", "--json")
    viscera.must("plan", out / "store", "--iterations", 10, "--out", out / "plan.yaml")
    viscera.must("export", out / "run", out / "exported_more", "--to", "onnx,monai-bundle")


def look(path: Path) -> str:
    """What the viewer's page is told of the cases at a path."""
    with ViewServer(open_gallery(path)).running() as server:
        texts = [_asked(server, "gallery")]
        for number in range(len(json.loads(texts[0])["cases"])):
            texts += [_asked(server, f"cases/{number}{more}") for more in ("", "/labels/0/organs")]
            texts += [_asked(server, f"cases/{number}/scan")[:400]]
    return "\n".join(texts)


def _asked(server: ViewServer, what: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"/{server.token}/api/{what}")
    answer = connection.getresponse()
    said = f"{answer.getheaders()}".encode() + answer.read()
    connection.close()
    return said[said.index(b"]") + 1 :].decode("latin-1") if what == "gallery" else said.decode("latin-1")


def one_round(work: Path, seed: random.Random, *, has_pseudonyms: bool, whole: bool) -> tuple[int, list[str]]:
    """Files with markers, and where these were found again."""
    word = WORD if has_pseudonyms else "scan"
    source = work / ("in" if not has_pseudonyms else f"{WORD} in")
    raw = write_data_set(source / f"{word} data", [f"{word}-Hans {n}" for n in range(6)])
    series = write_series(source / f"{word} series", case_arrays(3)[0], seed, 1.0 if not whole else seed.random())
    bad = bad_series(source / f"{word} bad", seed)
    zipped = Path(shutil.make_archive(str(source / f"{word} packed"), "zip", bad[0]))
    viscera, out = Commands(), work / "out"
    keys = ("--pseudonyms", work / "keys.json") if has_pseudonyms else ()
    first_commands(viscera, raw, series, out, keys, whole=whole)
    for number, path in enumerate([*bad, zipped]):
        viscera("predict", out / "run", path, out / f"of_bad_{number}", *keys)
    other_commands(viscera, out)
    viscera.printed += [("view", look(path)) for path in (out / "store", out / "predictions", out / "of_series")]
    if whole:
        study_commands(viscera, out)
    count = sum(path.is_file() for path in source.rglob("*"))
    return count, [*viscera.failures, *leaks(out), *viscera.leaks()]


def trial(seconds: float, seed: int) -> Outcome:
    """Rounds, with names of files and without, until the time is over."""
    outcome, started, rounds = Outcome("privacy"), time.monotonic(), 0
    while rounds < 2 or time.monotonic() - started < seconds * (1 - 1 / (rounds + 1)):
        chosen = random.Random(seed + rounds)
        with tempfile.TemporaryDirectory() as work:
            files, found = one_round(Path(work), chosen, has_pseudonyms=rounds % 2 == 1, whole=True)
        outcome.inputs += files
        outcome.failures += [f"seed {seed + rounds}: {each}" for each in found]
        rounds += 1
    outcome.figures = {"rounds": str(rounds), "markers looked for": str(len(NEEDLES))}
    return outcome
