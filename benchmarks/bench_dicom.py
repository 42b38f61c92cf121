"""A CT series of 600 slices of 512×512 to a Volume: time and peak memory beside SimpleITK. The bar is 10 s, 1.5 GiB.

    python -m benchmarks.bench_dicom [--real FOLDER]

The series is made for the benchmark, uncompressed and in JPEG 2000: smooth shapes with noise, 12 bits stored. With
`--real`, also one of the JPEG 2000 images of a real series, stacked until there are 600. Every measurement is a process
of its own, the readers take turns. The files are in the cache of the operating system. Compressed pixels are decoded by
as many children as there are cores, up to eight; their CPU time is given for all of them together, and the peak memory
of the largest. A busy machine lengthens the seconds, and hardly the CPU seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import openjpeg.utils
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.misc import is_dicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

SLICES, SIZE, REPEATS, NOISE_HU = 600, 512, 3, 15


def make_series(folders: dict[str, Path]) -> None:
    """Write the same series to each folder, named by the way the pixels are coded."""
    rng = np.random.default_rng(0)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    shape = np.add.outer(300 * np.sin(np.arange(SIZE) / 40), 400 * np.cos(np.arange(SIZE) / 55))
    for k in range(SLICES):
        stored = (shape + k + rng.normal(1024, NOISE_HU, (SIZE, SIZE))).clip(0, 4095).astype(np.uint16)
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.PatientID = CTImageStorage, generate_uid(), "CT", "benchmark"
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.ImageType, ds.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, k], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.RescaleSlope, ds.RescaleIntercept = [0.8, 0.8], 1, 1, -1024
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = SIZE, SIZE, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        for name, folder in folders.items():
            ds.file_meta = FileMetaDataset()
            if name == "JPEG 2000":
                ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
                ds.PixelData = encapsulate([bytes(openjpeg.utils.encode_array(stored, bits_stored=12))])
                ds["PixelData"].VR = "OB"
            else:
                ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                ds.PixelData = stored.tobytes()
                ds["PixelData"].VR = "OW"
            ds["PixelData"].is_undefined_length = name == "JPEG 2000"
            ds.save_as(folder / f"IM{ds.SOPInstanceUID[-12:]}", enforce_file_format=True)


def stack_real_images(source: Path, folder: Path) -> None:
    """The images of a real series one upon another, again and again; their compressed pixels as they are."""
    images = [pydicom.dcmread(path) for path in sorted(source.iterdir()) if is_dicom(path)]
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(SLICES):
        ds = images[k % len(images)]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-200, -200, k], [1, 0, 0, 0, 1, 0]
        ds.AcquisitionNumber, ds.AcquisitionTime = 1, "120000"  # else they would look like phases that take turns
        ds.save_as(folder / f"IM{ds.SOPInstanceUID[-12:]}")


def read_once(reader: str, folder: Path) -> dict[str, float]:
    """Seconds and peak GiB of one reader, which lists the series and reads its voxels; run in a fresh process."""
    if reader == "viscera":
        from viscera.io.scans import read_volume  # noqa: PLC0415 - only what is measured is imported

        started, started_cpu = time.perf_counter(), time.process_time()
        total = int(read_volume(folder).hu.shape[2])
    else:
        import SimpleITK as sitk  # noqa: N813, PLC0415 - its usual name

        started, started_cpu = time.perf_counter(), time.process_time()
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        reader_ = sitk.ImageSeriesReader()
        reader_.SetFileNames(names)
        total = int(reader_.Execute().GetSize()[2])
    seconds = time.perf_counter() - started
    if total != SLICES:
        raise RuntimeError(f"{reader} read {total} slices")
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - started_cpu, 2),
        "peak_gib": round(own.ru_maxrss / 2**20, 2),
        "children_cpu_seconds": round(children.ru_utime + children.ru_stime, 2),
        "child_peak_gib": round(children.ru_maxrss / 2**20, 2),
    }


def measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Both readers in turn, some times."""
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(REPEATS):
        for reader in ("viscera", "SimpleITK"):
            command = [sys.executable, "-m", "benchmarks.bench_dicom", "--reader", reader, "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            for name, value in json.loads(done.stdout).items():
                figures.setdefault(reader, {}).setdefault(name, []).append(value)
    return figures


def main() -> None:
    """Measure and record; with a reader and a folder, one measurement as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reader")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--real", type=Path, help="a folder with one series of JPEG 2000 images of 512×512")
    arguments = parser.parse_args()
    if arguments.reader:
        print(json.dumps(read_once(arguments.reader, arguments.folder)))
        return
    from benchmarks.record import record  # noqa: PLC0415 - it imports torch

    with tempfile.TemporaryDirectory() as name:
        folders = {coding: Path(name) / coding for coding in ("uncompressed", "JPEG 2000")}
        for folder in folders.values():
            folder.mkdir()
        make_series(folders)
        if arguments.real:
            folders["JPEG 2000, real images"] = Path(name) / "real"
            folders["JPEG 2000, real images"].mkdir()
            stack_real_images(arguments.real, folders["JPEG 2000, real images"])
        figures = {coding: measure(folder) for coding, folder in folders.items()}
    record(
        "dicom",
        {**figures, "load_of_the_machine": [round(x, 1) for x in os.getloadavg()], "bar_seconds": 10, "bar_gib": 1.5},
    )


if __name__ == "__main__":
    main()
