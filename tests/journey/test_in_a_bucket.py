"""The journey with everything in an object store: the same results, nothing secret in them, and a training killed."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.command_line import refused
from tests.fabricated_studies import draw_nothing
from tests.object_store import KEY, SECRET, ObjectStore, another_machine
from viscera.io.runlog import RunFolder

pytest.importorskip("s3fs")
TINY = [
    "--preset",
    "demo",
    "--patch",
    16,
    "--filters",
    2,
    "--batch-size",
    2,
    "--set",
    "train.log_every=2",
    "--set",
    "train.levels=2",
    "--set",
    "train.monitor_windows=2",
]


def journey(viscera: Callable[..., str], at: str) -> str:
    """Every command, with all that it reads and writes at one place."""
    said = viscera("phantom", f"{at}/data", "--cases", 4, "--shape", 32, 24, 24)
    fractions = ("--test-fraction", 0.25, "--validation-fraction", 0.25)
    said += viscera("prepare", f"{at}/data", f"{at}/store", "--downsample", 1, *fractions)
    said += viscera("train", f"{at}/store", f"{at}/run", *TINY, "--iterations", 4)
    said += viscera("train", f"{at}/store", f"{at}/run", *TINY, "--iterations", 6, "--resume")
    said += viscera("doctor", f"{at}/run")
    said += viscera("predict", f"{at}/run", f"{at}/data/imagesTr", f"{at}/predictions")
    said += viscera("predict", f"{at}/run", f"{at}/data/imagesTr/phantom_000_0000.nii.gz", f"{at}/one/p.nii.gz")
    said += viscera("evaluate", f"{at}/predictions", f"{at}/store", "--out", f"{at}/scores/scores.csv")
    return said


def leave_out(at: str) -> str:
    """The commands that tell, in a table or on a page, which case they could not read."""
    said = refused(3, "check", f"{at}/data", "--out", f"{at}/checked")
    said += refused(3, "prepare", f"{at}/data", f"{at}/again", "--downsample", 1)
    return said + refused(3, "predict", f"{at}/run", f"{at}/data/imagesTr", f"{at}/predictions")


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_in_a_bucket_is_as_on_a_disk(
    store_of_objects: ObjectStore, viscera: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 1)
    said = journey(viscera, store_of_objects.url)
    at_home = journey(viscera, str(tmp_path / "disk"))
    there = store_of_objects.objects
    on_disk = {n: c for n, c in files_in(tmp_path / "disk").items() if not Path(n).name.startswith(".")}
    assert there.keys() == on_disk.keys()
    models = {hashlib.sha256(files["run/best.pt"]).hexdigest() for files in (there, on_disk)}
    models |= {hashlib.sha256(files["run/last.pt"]).hexdigest() for files in (there, on_disk)}
    for name in there:
        if not name.endswith(("run.json", ".pt", "curve.jsonl", "card.json", "card.md")):  # which hold times
            one, other = (
                there[name],
                on_disk[name].replace(str(tmp_path / "disk").encode(), store_of_objects.url.encode()),
            )
            for model in models:
                one, other = (each.replace(model.encode(), b"model") for each in (one, other))
            # a record's checksum is of paths and models, too
            one, other = (
                re.sub(rb'"sha256:\w{64}"|(?<=lines below: )\w{64}|\w{64}(?= +summary\.json)', b"", each)
                for each in (one, other)
            )
            assert one == other, name
    assert said == at_home.replace(str(tmp_path / "disk"), store_of_objects.url)
    cache = str(tmp_path / "cache")
    left = {
        **there,
        **{n: c for n, c in files_in(tmp_path).items() if not n.startswith("disk/")},
        "output": said.encode(),
    }
    assert [n for n, content in left.items() if SECRET.encode() in content or KEY.encode() in content] == []
    assert [n for n, content in {**there, "output": said.encode()}.items() if cache.encode() in content] == []

    store_of_objects.wire.requests.clear()
    viscera(
        "evaluate", f"{store_of_objects.url}/predictions", f"{store_of_objects.url}/store", "--out", tmp_path / "s.csv"
    )
    assert [line for line in store_of_objects.wire.requests if "list-type=2" not in line and "HEAD" not in line] == []
    another_machine(monkeypatch, tmp_path)
    viscera(
        "evaluate",
        f"{store_of_objects.url}/predictions",
        f"{store_of_objects.url}/store",
        "--out",
        tmp_path / "t" / "s.csv",
    )
    assert (tmp_path / "t" / "s.csv").read_bytes() == (tmp_path / "s.csv").read_bytes() == there["scores/scores.csv"]

    store_of_objects.write("data/imagesTr/phantom_003_0000.nii.gz", b"no scan")
    (tmp_path / "disk" / "data" / "imagesTr" / "phantom_003_0000.nii.gz").write_bytes(b"no scan")
    said, at_home = (leave_out(at) for at in (store_of_objects.url, str(tmp_path / "disk")))
    assert said == at_home.replace(str(tmp_path / "disk"), store_of_objects.url)
    there = store_of_objects.objects
    for name in ("checked/check.csv", "checked/index.html", "predictions/quarantine.csv", "again/quarantine.csv"):
        table = (tmp_path / "disk" / name).read_text()
        names_its_folder = "quarantine" not in name  # what is handed on does not (docs/decisions/0041)
        assert (str(tmp_path / "disk") in table) == names_its_folder, name
        assert there[name].decode() == table.replace(str(tmp_path / "disk"), store_of_objects.url), name


@pytest.mark.slow
def test_a_study_in_a_bucket_goes_on_and_is_reported_elsewhere(
    store_of_objects: ObjectStore, viscera: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = store_of_objects.url
    viscera("phantom", tmp_path / "data", "--cases", 3, "--shape", 32, 24, 24)
    viscera("prepare", tmp_path / "data", f"{at}/store", "--downsample", 1, "--test-fraction", 0.34)
    draw_nothing(monkeypatch)
    arms = ["--weightings", "simple", "--learning-rates", "0.01"]
    viscera("study", f"{at}/store", f"{at}/study", *arms, *TINY, "--iterations", 2)
    another_machine(monkeypatch, tmp_path)
    said = viscera("study", f"{at}/store", f"{at}/study", *arms, *TINY, "--iterations", 4)
    assert said.splitlines()[-1].startswith(f"{at}/study/")
    record = store_of_objects.read("study/study.yaml").decode()
    assert f"store: {at}/store" in record
    assert "stages:\n- 2\n- 4" in record
    assert f"{at}/study/" in viscera("report", f"{at}/study")
    assert [name for name, content in store_of_objects.objects.items() if b"/remote/" in content] == []


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_checkpoint_on_another_machine(
    store_of_objects: ObjectStore, viscera: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = store_of_objects.url
    viscera("phantom", tmp_path / "data", "--cases", 3, "--shape", 32, 24, 24)
    viscera("prepare", tmp_path / "data", f"{at}/store", "--downsample", 1, "--test-fraction", 0)
    arguments = [*TINY, "--checkpoint-every", 5, "--set", "train.precision=float32"]
    train = ["train", f"{at}/store", f"{at}/run", *arguments, "--iterations", 100_000]
    environment = {**os.environ, "VISCERA_UPLOAD_EVERY_S": "0.2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "viscera", *map(str, train)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        reached, deadline = 0, time.monotonic() + 60
        while reached == 0 and time.monotonic() < deadline:
            time.sleep(0.1)
            if "run/last.pt" in store_of_objects.objects:
                last = _saved(store_of_objects, "run/last.pt", tmp_path / "before.pt")
                reached = torch.load(last, weights_only=True)["step"]
        process.send_signal(signal.SIGKILL)
    another_machine(monkeypatch, tmp_path)
    last = _saved(store_of_objects, "run/last.pt", tmp_path / "before.pt")
    reached = torch.load(last, weights_only=True)["step"]
    assert reached >= 5
    viscera("train", f"{at}/store", f"{at}/run", *arguments, "--iterations", reached + 5, "--resume")
    viscera("train", f"{at}/store", tmp_path / "whole", *arguments, "--iterations", reached + 5)
    one, other = (
        torch.load(path, weights_only=True)
        for path in (_saved(store_of_objects, "run/last.pt", tmp_path / "after.pt"), tmp_path / "whole" / "last.pt")
    )
    assert one["step"] == other["step"] == reached + 5
    (tmp_path / "run").mkdir()
    _saved(store_of_objects, "run/curve.jsonl", tmp_path / "run" / "curve.jsonl")
    curves = [RunFolder(tmp_path / name).read_curve() for name in ("run", "whole")]
    assert [line["step"] for line in curves[0]] == [line["step"] for line in curves[1]]
    assert [line["loss"] for line in curves[0]] == [line["loss"] for line in curves[1]]


def _saved(store: ObjectStore, key: str, path: Path) -> Path:
    path.write_bytes(store.read(key))
    return path
