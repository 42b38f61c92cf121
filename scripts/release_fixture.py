"""Artifacts of one version of viscera, small, for the tests of all later ones (docs/decisions/0048).

    PYTHONPATH=CHECKOUT OMP_NUM_THREADS=1 python scripts/release_fixture.py OUT.tar.xz

Makes, by the commands of the viscera that Python finds there: a data set, a store, a run, one of the same settings that
was interrupted on its way, predictions, scores and a study of two arms.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

SETTINGS = """\
train:
  iterations: 200
  patch: 12
  batch_size: 2
  filters: 2
  levels: 2
  device: cpu
  learning_rate: 0.01
  weighting: 0.5
  organ_windows: 0.5
  average: 0.9
  checkpoint_every: 50
  log_every: 50
  validate_every: 100
  monitor_windows: 2
  precision: float32
  memory_layout: channels_last
  network: {dropout: 0.2}
  loss: {cross_entropy: 1.0, schedule: {to: uniform, first_step: 4, last_step: 180}}
  rate_schedule: {shape: cosine, warm_up: 4, lowest: 0.1}
  augment: {enabled: true, noise_probability: 0.5, mirror_axes: [R]}
"""
STOP_AT = 180  # steps, or a few later
MOST_BYTES = 300_000


def viscera(folder: Path, *arguments: str) -> None:
    """A command that succeeds."""
    subprocess.run([sys.executable, "-m", "viscera", *arguments], cwd=folder, check=True)


def interrupted(folder: Path, *arguments: str) -> None:
    """A training that is told to stop after some steps, as by `kill`."""
    command = [sys.executable, "-m", "viscera", *arguments, "--log-json"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as training:
        for line in training.stderr or ():
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("done", 0) >= STOP_AT:
                training.send_signal(signal.SIGTERM)
                break
        training.communicate()
    if training.returncode != 130:
        sys.exit(f"the training was to be interrupted, and ended with {training.returncode}")


def make(folder: Path) -> None:
    """All of it."""
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    with_settings = ["--config", "settings.yaml"]
    viscera(folder, "phantom", "data", "--cases", "4", "--shape", "20", "16", "16")
    of_store = ["--downsample", "1", "--validation-fraction", "0.25", "--test-fraction", "0.25"]
    viscera(folder, "prepare", "data", "store", *of_store)
    viscera(folder, "train", "store", "run", *with_settings)
    interrupted(folder, "train", "store", "interrupted", *with_settings)
    viscera(folder, "predict", "run", "data/imagesTr", "predictions")
    viscera(folder, "evaluate", "predictions", "data/labelsTr", "--out", "scores.csv")
    arms = ["--weightings", "uniform,square", "--learning-rates", "0.01", "--seeds", "0", "--set", "study.jobs=1"]
    small = ["train.filters=1", "train.average=0", "train.loss.schedule.to=null"]
    small = ["--iterations", "8", *(word for each in small for word in ("--set", each))]
    viscera(folder, "study", "store", "study", *with_settings, *arms, *small)
    (folder / "summary.json").unlink()  # of nnU-Net, which says where the references lie
    shutil.rmtree(folder / "study" / "report")  # which is made again, and large


def files_of(folder: Path) -> Iterator[Path]:
    """In the order of their names; locks and notes of processes are left out."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def pack(folder: Path, out: Path) -> None:
    """Without owners and times."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(out, "w:xz") as archive:
        for path in files_of(folder):
            archive.add(path, path.relative_to(folder).as_posix(), filter=plain)
    if out.stat().st_size > MOST_BYTES:
        sys.exit(f"{out}: {out.stat().st_size} bytes, more than {MOST_BYTES}")


def main() -> None:
    """Make them in a folder of their own, so that nothing says where, and pack them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out.absolute()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        pack(Path(folder), out)
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
