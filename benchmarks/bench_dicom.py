"""A CT series of 600 slices of 512×512 to voxels, uncompressed and JPEG 2000: time and peak memory beside SimpleITK.

    python -m benchmarks.bench_dicom [--quick]

The series is made for the benchmark: smooth shapes with noise, 12 bits stored. Every measurement is a process of its
own (`benchmarks.read_dicom_once`) that loads its reader before the time runs; the readers take turns. The files are in
the cache of the operating system. Both readers find the series in its folder, put its slices in order and read them as
16-bit HU: the same voxels, as their checksums show.

Quick: 100 slices, SimpleITK's plain reader and, of uncompressed slices, GDCMImageIO.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg.utils
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from benchmarks.pairs import Benchmark
from viscera.core.wording import counted

SIZE, NOISE_HU, DIFFERENT_IMAGES = 512, 15, 24
SETTINGS = {
    "plain": "GetGDCMSeriesFileNames and ImageSeriesReader, as the documentation has it",
    "GDCMImageIO": "likewise with SetImageIO('GDCMImageIO'), LoadPrivateTagsOff, MetaDataDictionaryArrayUpdateOff",
    "threads": "GetGDCMSeriesFileNames, ReadImage of each file in a thread a processor, JoinSeries",
}


def make_series(folders: Mapping[str, Path], slices: int) -> None:
    """Write the same series to each folder, named by the way the pixels are coded; images come again after some."""
    rng = np.random.default_rng(0)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    shape = np.add.outer(300 * np.sin(np.arange(SIZE) / 40), 400 * np.cos(np.arange(SIZE) / 55))
    noise = (rng.normal(1024, NOISE_HU, (SIZE, SIZE)) for _ in range(DIFFERENT_IMAGES))
    images = [(shape + k + each).clip(0, 4095).astype(np.uint16) for k, each in enumerate(noise)]
    coded: dict[str, list[bytes]] = {
        "jpeg2000": [encapsulate([bytes(openjpeg.utils.encode_array(each, bits_stored=12))]) for each in images],
        "uncompressed": [each.tobytes() for each in images],
    }
    for k in range(slices):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.PatientID = CTImageStorage, generate_uid(), "CT", "benchmark"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.8, 0.8], 1, 1, -1024
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = SIZE, SIZE, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        for name, folder in folders.items():
            is_packed = name == "jpeg2000"
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = JPEG2000Lossless if is_packed else ExplicitVRLittleEndian
            ds.PixelData = coded[name][k % len(images)]
            ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB" if is_packed else "OW", is_packed
            ds.save_as(folder / f"IM{ds.SOPInstanceUID[-12:]}", enforce_file_format=True)


def measure(folder: Path, readers: Sequence[str], repeats: int) -> dict[str, dict[str, list[Any]]]:
    """The figures of each reader, taken in turn."""
    figures: dict[str, dict[str, list[Any]]] = {reader: defaultdict(list) for reader in readers}
    for _ in range(repeats):
        for reader in readers:
            command = [sys.executable, "-m", "benchmarks.read_dicom_once", reader, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            for name, value in json.loads(done.stdout).items():
                figures[reader][name].append(value)
    voxels = {json.dumps(value) for of_reader in figures.values() for value in of_reader["voxels"]}
    if len(voxels) > 1:
        raise RuntimeError(f"the readers do not agree: {voxels}")
    return figures


def add_pairs(benchmark: Benchmark, coding: str, figures: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Time and memory; in each the best of the peer's settings counts."""
    ours, peers = figures["viscera"], {reader: of for reader, of in figures.items() if reader != "viscera"}
    goals = {"seconds": 1.0 if coding == "uncompressed" else 1.2, "peak_gib": 2.0}
    for what, name in (("seconds", "dicom"), ("peak_gib", "dicom_memory")):
        medians = {setting: statistics.median(of[what]) for setting, of in peers.items()}
        best = min(medians, key=lambda setting: medians[setting])
        names = [f"{name}_vs_simpleitk_{coding}", *([f"{name}_vs_simpleitk"] if coding == "uncompressed" else [])]
        for each in names:
            benchmark.pair(
                each,
                statistics.median(ours[what]),
                medians[best],
                goal=goals[what],
                unit="s" if what == "seconds" else "GiB",
                peer_settings=SETTINGS[best],
                other_settings_of_the_peer={SETTINGS[s]: round(value, 3) for s, value in medians.items() if s != best},
                repeats={reader: [round(value, 3) for value in of[what]] for reader, of in figures.items()},
                cpu_seconds={reader: round(statistics.median(of["cpu_seconds"]), 2) for reader, of in figures.items()},
                processes=ours["processes"][0],
            )


def decoding_seconds(folder: Path) -> float:
    """Processor time in which OpenJPEG alone decodes a series, from some of its images."""
    files = sorted(folder.iterdir())
    some = [next(generate_frames(pydicom.dcmread(file).PixelData)) for file in files[:DIFFERENT_IMAGES]]
    imagecodecs.jpeg2k_decode(some[0])
    began = time.process_time()
    for frame in some:
        imagecodecs.jpeg2k_decode(frame)
    return (time.process_time() - began) / len(some) * len(files)


def main() -> None:
    """Make the series, have them read, print and record the pairs."""
    benchmark = Benchmark.of_command_line(
        "dicom", __doc__, ["SimpleITK", "pydicom", "pylibjpeg-openjpeg", "imagecodecs"]
    )
    slices, repeats = (100, 3) if benchmark.quick else (600, 3)
    with tempfile.TemporaryDirectory() as name:
        folders = {coding: Path(name) / coding for coding in ("uncompressed", "jpeg2000")}
        for folder in folders.values():
            folder.mkdir()
        make_series(folders, slices)
        for coding, folder in folders.items():
            settings = list(SETTINGS)[: (2 if coding == "uncompressed" else 1)] if benchmark.quick else list(SETTINGS)
            add_pairs(benchmark, coding, measure(folder, ["viscera", *settings], repeats))
        alone, pair = decoding_seconds(folders["jpeg2000"]), benchmark.pairs["dicom_vs_simpleitk_jpeg2000"]
        pair["what_bounds_it"] = (
            f"OpenJPEG, which both decode with: it alone takes {alone:.3g} s of processor time, where ours takes "
            f"{pair['cpu_seconds']['viscera']:.3g} s in all, in {counted(pair['processes'], 'process')}"
        )
    benchmark.notes["volume_gib"] = round(slices * SIZE * SIZE * 2 / 2**30, 3)
    benchmark.notes["what_bounds_memory"] = (
        "the voxels themselves, in int16, and the packages: Python, NumPy, pydicom with its decoders, nibabel, pydantic"
    )
    benchmark.write()


if __name__ == "__main__":
    main()
