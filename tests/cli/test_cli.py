"""The command line in this process: options, exit codes, what is printed where."""

import dataclasses
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import typing
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

import viscera
from tests.ct_series import STORED, ct_series, save
from viscera.cli import app as module
from viscera.cli.options import Layout
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config
from viscera.core.errors import RunFailedError
from viscera.core.progress import OnProgress, Progress
from viscera.core.resolve import resolve_config
from viscera.core.scan import Volume
from viscera.doctor.diagnosis import diagnose, diagnosis_text
from viscera.io.checkpoint import load_checkpoint
from viscera.io.layouts import LAYOUTS
from viscera.io.nifti import read_volume
from viscera.io.runlog import RunFolder, read_config
from viscera.io.store import Store

COMMANDS = [
    "phantom",
    "check",
    "prepare",
    "doctor",
    "find-rate",
    "train",
    "predict",
    "series",
    "evaluate",
    "study",
    "report",
]
TINY = ["--patch=8", "--batch-size=2", "--filters=2", "--iterations=4", "--device=cpu"]
TINY += ["--set", "train.levels=2", "--set", "train.monitor_windows=2"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands send warnings to their display; the next test wants them elsewhere."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(module.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(code: int, *arguments: object) -> str:
    """The message of a call that ends with this code: one line, no traceback."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("viscera: ")
    return lines[-1]


# ------------------------------------------------------------------------------------------ help, version, usage


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["config"], ["config", "show"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    if len(command) == 1 and command != ["config"]:
        for option in ("--config", "--set", "--quiet", "--log-json"):
            assert option in result.output


def test_the_help_of_layout_names_all_of_them() -> None:
    text = typing.get_args(Layout)[1].help
    assert all(re.search(rf"\b{re.escape(name)}\b", text) for name in ("auto", *LAYOUTS))


def test_version() -> None:
    assert run("--version").output == f"viscera {viscera.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "s", "r", "--no-such-option"],
        ["no-such-command"],
        ["train", "s"],
        ["train", "s", "r", "--iterations", "many"],
        ["predict", "r"],
        ["predict", "r", "in", "out", "-i", "other"],
        ["predict", "r", "in", "out", "-o", "other"],
        ["prepare", "a", "b", "--downsample", "2", "--spacing-mm", "3"],
        ["phantom", "out"],
        [],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.depth=4"], "there is no setting 'train.depth'"),
        (["--set", "train.iterations"], "write it as section.key=value"),
        (["--set", "train.iterations=0"], "train.iterations = 0: input should be greater than or equal to 1"),
        (["--set", "train.learning_rate=nan"], "train.learning_rate"),
        (["--set", "=4"], "there is no setting"),
        (["--weighting", "cubic"], "train.weighting = 'cubic'"),
        (["--patch", "-1"], "train.patch"),
        (["--preset", "best"], "There is no preset 'best'"),
        (["--config", "missing.yaml"], "missing.yaml: there is no such file"),
        (["--config", "."], "cannot be read"),
        ([], "this is no store"),
    ],
)
def test_bad_settings_are_3_and_named(arguments: list[str], message: str) -> None:
    assert message in refused(3, "train", "no-store", "r", *arguments)
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--downsample", "4,4"], "prepare.downsample = '4,4': value error, a whole number from 1 on was expected, or"),
        (["--downsample", "1.5"], "whole numbers from 1 on were expected; for other voxel sizes give spacing_mm"),
        (["--downsample", "0"], "prepare.downsample = '0'"),
        (["--spacing-mm", "fine"], "prepare.spacing_mm = 'fine': value error, a voxel size in mm was expected, or"),
        (["--set", "prepare.downsample_axes=both"], "all or in_plane was expected"),
    ],
)
def test_bad_grids_are_3_and_named(arguments: list[str], message: str) -> None:
    assert message in refused(3, "prepare", "no-data", "s", *arguments)


@pytest.mark.parametrize(
    ("arguments", "spacing_mm"),
    [
        (["--downsample", "2,3,1"], (4, 6, 2.5)),
        (["--downsample", "2 3 1"], (4, 6, 2.5)),
        (["--downsample", "3"], (6, 6, 7.5)),
        (["--spacing-mm", "3,2.5,5"], (3, 2.5, 5)),
        (["--downsample", "2", "--set", "prepare.downsample_axes=in_plane"], (4, 4, 2.5)),
    ],
)
def test_prepare_with_a_grid_for_each_axis(
    tiny_raw: Path, tmp_path: Path, arguments: list[str], spacing_mm: tuple[float, ...]
) -> None:
    assert run("prepare", tiny_raw, tmp_path / "s", *arguments).exit_code == 0
    store = Store.open(tmp_path / "s")
    assert store.geometry("case_0").spacing_mm == pytest.approx(spacing_mm)
    assert run("prepare", tiny_raw, tmp_path / "s", *arguments).exit_code == 0  # the same settings


def test_what_this_version_lacks_is_said() -> None:
    assert "no such format" in refused(3, "predict", "r", "a", "b", "--format", "stl")
    assert "only local" in refused(3, "study", "s", "t", "--launcher", "ray")


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("viscera.doctor.diagnosis.diagnose", broken)
    with pytest.raises(ZeroDivisionError):
        run("doctor", "s")


def test_ctrl_c_without_a_checkpoint_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("viscera.stages.prepare.prepare", interrupted)
    assert refused(130, "prepare", "a", "b") == "viscera: interrupted."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", [["predict", "run", "a.zip", "out"], ["series", "a.zip"]])
def test_an_ended_command_leaves_no_unpacked_patient(
    tmp_path: Path, command: list[str], number: signal.Signals, code: int
) -> None:
    """128 and the signal's number, as shells have it; a second signal does not cut the cleaning up short."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("image", "of a patient")
    script = f"""
import os, shutil, signal, sys, time
from pathlib import Path
from viscera.cli import main
from viscera.io import scans
from viscera.io.dicom import unpacked

def slow(*arguments, **options):
    with unpacked(Path("a.zip")):
        print("unpacked", flush=True)
        time.sleep(60)

rmtree = shutil.rmtree
def removing(*arguments, **options):
    os.kill(os.getpid(), {int(number)})
    rmtree(*arguments, **options)

shutil.rmtree = removing
signal.signal({int(number)}, signal.SIG_DFL)  # the tests may run under nohup
scans.list_series = slow
if sys.argv[1] == "predict":
    from viscera.stages import predict
    predict.predict = slow
main()
"""
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "unpacked\n"
        assert list((tmp_path / "tmp").glob("viscera-*/image"))
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert list((tmp_path / "tmp").glob("viscera-*")) == []


def test_a_failed_run_is_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def diverged(*_args: object, **_kwargs: object) -> None:
        raise RunFailedError("the loss is nan at step 7")

    monkeypatch.setattr("viscera.stages.train.train", diverged)
    assert refused(4, "train", "s", tmp_path / "r") == "viscera: the loss is nan at step 7"


# ------------------------------------------------------------------------------------------ config show


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_the_configuration_shown_can_be_read_back(tmp_path: Path, preset: str) -> None:
    changes = ["--set", "train.loss.epsilon=1e-5", "--set", "prepare.spacing_mm=2.5"]
    shown = run("config", "show", "--preset", preset, *changes).stdout
    (tmp_path / "c.yaml").write_text(shown)
    expected = resolve_config(preset, assignments=changes[1::2])
    assert read_config(tmp_path / "c.yaml") == expected
    assert run("config", "show", "--config", tmp_path / "c.yaml").stdout == shown


def test_options_win_over_set_over_file_over_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def pretend(_store: Path, run: Path, config: Config, **_: object) -> RunFolder:
        seen.append(config)
        return RunFolder(run)

    monkeypatch.setattr("viscera.stages.train.train", pretend)
    (tmp_path / "c.yaml").write_text("train: {iterations: 5, filters: 6, patch: 7}\n")
    run(
        *("train", "s", tmp_path / "r", "--preset", "demo", "--config", tmp_path / "c.yaml"),
        *("--set", "train.filters=9", "--set", "train.patch=10", "--patch", "11"),
    )
    train = seen[0].train
    assert (train.levels, train.iterations, train.filters, train.patch) == (3, 5, 9, 11)


# ------------------------------------------------------------------------------------------ the journey


def test_prepare_train_predict_evaluate(tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("prepare", tiny_raw, "a store", "--downsample", 1, "--test-fraction", 0.2, "--validation-fraction", 0.2)
    assert said.exit_code == 0
    assert said.stdout == ""
    assert "4 training, 1 validation, 1 test cases" in said.stderr
    result = run("train", "a store", "run", *TINY, "--checkpoint-every", 2)
    assert result.exit_code == 0, result.output
    assert "this run exists" in refused(3, "train", "a store", "run", *TINY)
    assert run("train", "a store", "run", "--resume", "--iterations", 6).exit_code == 0  # the rest as it was
    checkpoint = load_checkpoint(Path("run/last.pt"))
    assert (checkpoint.step, checkpoint.config.train.filters) == (6, 2)
    assert "filters 2 (now 5)" in refused(3, "train", "a store", "run", "--resume", "--filters", 5)

    scans = tiny_raw / "imagesTr"
    assert run("predict", "run", scans, "out").exit_code == 0
    names = sorted(path.name for path in Path("out").glob("*.nii.gz"))
    assert names == [f"case_{n}.nii.gz" for n in range(6)]
    assert run("predict", "run", "-i", scans, "-o", "again").exit_code == 0
    assert run("predict", "run", "-i", scans, "third").exit_code == 0
    for name in names:
        same = Path("out", name).read_bytes()
        assert Path("again", name).read_bytes() == Path("third", name).read_bytes() == same
    assert run("predict", "run", scans / "case_0_0000.nii.gz", "x.nii", "--set", "predict.overlap=0.1").exit_code == 0
    settings = json.loads(Path("x.json").read_text())["settings"]
    assert settings["overlap"] == 0.1

    result = run("evaluate", "out", "a store", "--out", "s.csv", "--grid", "both")
    assert result.exit_code == 0
    assert re.search(r"liver( +[01]\.\d{4}| +infinite| +\d+\.\d \(.*\)| +\d+\.\d)+", result.stdout)
    assert "Dice, original grid" in result.stdout
    assert "HD95, mm, prepared grid" in result.stdout
    assert len(Path("s.csv").read_text().splitlines()) == 1 + 6 * 2 * (8 + 4 * 7)
    assert len(json.loads(Path("summary.json").read_text())["metric_per_case"]) == 6
    few = run(
        "evaluate", "out", "a store", "--out", "few/s.csv", "--metrics", "dice,volume_ml", "--summary", "few/n.json"
    )
    assert few.exit_code == 0
    assert {line.split(",")[3] for line in Path("few/s.csv").read_text().splitlines()[1:]} == {
        "dice",
        "volume_ml",
        "reference_volume_ml",
    }
    assert re.search(r"liver +[01]\.\d{4} +\d+\.\d +\d+\.\d", few.stdout)
    assert sorted(path.name for path in Path("few").iterdir()) == ["n.json", "s.csv"]
    assert "hd95" in refused(3, "evaluate", "out", "a store", "--metrics", "hd96")
    Path("s.csv").unlink()
    assert "summary.json: exists" in refused(3, "evaluate", "out", "a store", "--out", "s.csv")
    assert not Path("s.csv").exists()
    quiet = run("evaluate", "out", tiny_raw, "--out", "t/t.csv", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("predict", "r", "s", ""), ("prepare", " ", "s"), ("evaluate", "a", "b", "--out=")]
)
def test_an_empty_argument_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "an argument is empty" in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_one_sentence(
    tiny_raw: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scan = tiny_raw / "imagesTr" / "case_0_0000.nii.gz"
    assert "too long" in refused(3, "predict", tiny_run, scan, "n" * 300 + ".nii.gz")
    assert "ending alone" in refused(3, "predict", tiny_run, scan, ".nii.gz")
    assert "cannot be written" in refused(3, "predict", tiny_run, scan, "/proc/no such folder")
    assert "too long" in refused(3, "doctor", "n" * 300)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [[], ["--quiet"], ["--log-json"]])
def test_a_defect_of_ours_is_shown_with_its_traceback_after_the_rest_is_done(
    tiny_raw: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    def failing(path: Path) -> Volume:
        return read_volume(path if "case_2" not in path.name else path / str(1 // 0))

    monkeypatch.setattr("viscera.io.scans.read_nifti", failing)
    result = run("predict", tiny_run, tiny_raw / "imagesTr", tmp_path / "out", *option)
    assert result.exit_code == 1
    assert "1 of 6 cases were left out" in result.output
    assert "Traceback (most recent call last)" in result.output
    assert "ZeroDivisionError" in result.output
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 5


def test_quiet_prints_nothing(tiny_raw: Path, tmp_path: Path, tiny_run: Path) -> None:
    for arguments in (
        ("prepare", tiny_raw, tmp_path / "s", "--downsample", 1),
        ("train", tmp_path / "s", tmp_path / "r", *TINY),
        ("predict", tiny_run, tiny_raw / "imagesTr", tmp_path / "out"),
    ):
        result = run(*arguments, "--quiet")
        assert (result.exit_code, result.output) == (0, "")
    # errors are still said
    assert "this run exists" in refused(3, "train", tmp_path / "s", tmp_path / "r", *TINY, "--quiet")


def test_the_log_is_json_on_request(tiny_raw: Path, tmp_path: Path, tiny_run: Path) -> None:
    fine = np.zeros((30, 30, 30), dtype=np.int16)
    nib.save(nib.Nifti1Image(fine, np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "fine.nii.gz")
    for arguments, job in (
        (("prepare", tiny_raw, tmp_path / "s", "--downsample", 1), "prepare"),
        (("train", tmp_path / "s", tmp_path / "r", *TINY), "train"),
        (("predict", tiny_run, tmp_path / "fine.nii.gz", tmp_path / "out"), "predict"),
    ):
        result = run(*arguments, "--log-json")
        assert result.exit_code == 0
        assert result.stdout == ""
        lines = [json.loads(line) for line in result.stderr.splitlines()]
        (last,) = [line for line in lines if line.get("job") == job and line["done"] == line["total"]]
        assert last["total"] > 0
        assert "time" in last
        assert "note" in lines[-1]
    assert any("resampled to that instead" in line.get("note", "") for line in lines)  # the user is told of the grid


def test_warnings_are_shown_as_notes(tiny_run: Path, tmp_path: Path) -> None:
    fine = np.zeros((30, 30, 30), dtype=np.int16)
    nib.save(nib.Nifti1Image(fine, np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "fine.nii.gz")
    result = run("predict", tiny_run, tmp_path / "fine.nii.gz", tmp_path / "out")
    assert "Note: The scan would come out at 0.5×0.5×0.5 mm" in result.stderr


@pytest.mark.parametrize("options", [[], ["--log-json"]])
def test_names_that_are_not_utf8_are_printed_somehow(
    tiny_raw: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    name = os.fsdecode(b"M\xfcller")
    scan = shutil.copy(tiny_raw / "imagesTr" / "case_0_0000.nii.gz", tmp_path / f"{name}.nii.gz")
    result = run("predict", tiny_run, scan, tmp_path / name, *options)
    assert result.exit_code == 0
    assert r"M\udcfcller" in result.stderr
    assert r"M\udcfcller" in refused(3, "predict", tiny_run, tmp_path / f"{name}.missing", tmp_path / "out")
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")  # as standard output is: strict
    monkeypatch.setattr("sys.stdout", printed)
    monkeypatch.setattr(module, "app", lambda: typer.echo(f"{name} ü"))
    module.main()
    assert printed.buffer.getvalue() == "M\\udcfcller ü\n".encode()


def test_dicom_series_are_listed_and_predicted(tmp_path: Path, tiny_run: Path) -> None:
    folder, thin, thick = tmp_path / "scan", ct_series(), ct_series(STORED[:4], SeriesDescription="thick")
    save(folder / "a", thin)
    save(folder / "b", [*thick, *ct_series(STORED[:1])])

    listed = json.loads(run("series", folder, "--json").stdout)
    assert [(each["uid"], each["images"], each["chosen"]) for each in listed] == [
        (thin[0].SeriesInstanceUID, 6, True),
        (thick[0].SeriesInstanceUID, 4, False),
        (listed[2]["uid"], 1, False),
    ]
    assert listed[0]["geometry"]["shape"] == [48, 40, 6]
    assert "fewer than three images" in listed[2]["passed_over"]
    first, *_ = [line for line in run("series", folder).stdout.splitlines() if line.startswith("*")]
    assert thin[0].SeriesInstanceUID in first
    assert "0.7×0.8×2.5" in first

    result = run("predict", tiny_run, folder, tmp_path / "out")
    assert "which has most images; there are also" in result.stderr
    assert nib.load(tmp_path / "out" / "scan.nii.gz").shape == (48, 40, 6)
    uid = thick[0].SeriesInstanceUID
    assert run("predict", tiny_run, folder, tmp_path / "thick.nii.gz", "--series", uid).exit_code == 0
    assert nib.load(tmp_path / "thick.nii.gz").shape == (48, 40, 4)

    save(folder / "c", ct_series(PatientID="patient 2"))
    assert "as many images" in refused(3, "predict", tiny_run, folder, tmp_path / "out")
    assert "as many images" in run("series", folder).stdout
    assert "there is no such file" in refused(3, "series", tmp_path / "missing")


def test_check(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    result = run("check", raw, "--out", tmp_path / "check")
    assert result.exit_code == 0  # findings are no error
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2:7]] == [f"case_{n}" for n in range(5)]
    assert "2×2×2.5" in lines[2]
    assert lines[-1] == f"Pictures and tables: {tmp_path / 'check' / 'index.html'}"
    found = json.loads(run("check", raw, "--out", tmp_path / "check", "--json").stdout)
    assert [case["case"] for case in found["cases"]] == [f"case_{n}" for n in range(5)]
    assert found["cases"][0]["facts"]["orientation"] == "RAS"
    assert run("check", raw, "--out", tmp_path / "check", "--quiet").output == ""


def test_cases_that_cannot_be_read_end_a_check_with_3_after_the_others(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    (raw / "labelsTr" / "case_2.nii.gz").write_bytes(b"no NIfTI")
    result = run("check", raw, "--out", tmp_path / "check")
    assert result.exit_code == 3
    assert "case_4" in result.stdout
    assert "Not read: " in " ".join(result.stdout.split())
    assert "1 of 5 cases could not be read" in result.stderr.splitlines()[-1]
    assert (tmp_path / "check" / "index.html").exists()


def test_doctor(tiny_store: Store) -> None:
    small = ("--set", "train.patch=8", "--set", "train.filters=2", "--set", "train.levels=2")
    found = json.loads(run("doctor", tiny_store.path, "--json", *small).stdout)
    assert found["classes"] == list(CLASS_NAMES)
    assert found["voxel_counts"] == tiny_store.voxel_counts().tolist()
    assert set(found["weights"]) == {"uniform", "simple", "square"}
    assert found["weights"]["uniform"] == [1] * 8
    table = run("doctor", tiny_store.path, *small).stdout
    assert f"{found['voxel_counts'][3]:,}" in table
    assert "simple_lr0.001" in table


def test_doctor_of_a_run(tiny_run: Path) -> None:
    found = json.loads(run("doctor", tiny_run, "--json").stdout)
    assert found["step"] == 6
    assert len(found["gradient_share"]) == 8
    assert "Step 6 of 6" in run("doctor", tiny_run).stdout


def test_bad_cases_are_3_at_the_end(raw: Path, tmp_path: Path, tiny_run: Path) -> None:
    (raw / "imagesTr" / "case_1_0000.nii.gz").write_text("no scan")
    message = refused(3, "prepare", raw, tmp_path / "s")
    assert "1 of 5 cases were left out" in message
    assert "not a NIfTI file" in message
    assert Store.open(tmp_path / "s").names() == ["case_0", "case_2", "case_3", "case_4"]
    assert "1 of 5 cases were left out" in refused(3, "predict", tiny_run, raw / "imagesTr", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


def test_a_study_of_options(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def pretend(_store: Path, study: Path, config: Config, *, progress: OnProgress, **_: object) -> Path:
        seen.append(config)
        progress(Progress("uniform_lr0.1 seed 3 train", 10, 10, "loss -0.25"))
        logging.getLogger("viscera").warning("no gallbladder")
        return study / "report" / "index.html"

    monkeypatch.setattr("viscera.study.launch.run_study", pretend)
    arguments = ("study", tiny_store.path, tmp_path / "t", "--weightings", "uniform, square", "--seeds", "3,4")
    result = run(*arguments, "--learning-rates", "0.1,1e-3", "--iterations", 7)
    assert result.stdout == f"{tmp_path / 't' / 'report' / 'index.html'}\n"
    assert "Note: no gallbladder" in result.stderr
    assert "uniform_lr0.1 seed 3 train: 10/10  loss -0.25" in result.stderr
    study = seen[0].study
    assert (study.weightings, study.learning_rates, study.seeds) == (("uniform", "square"), (0.1, 0.001), (3, 4))
    assert (seen[0].train.iterations, study.fuse) == (7, False)
    assert run(*arguments, "--fuse").exit_code == 0
    assert seen[1].study.fuse
    assert run(*arguments, "--quiet").output == ""
    assert "this is no study" in refused(3, "report", tmp_path)


def test_a_fusion_without_validation_cases_is_refused(raw: Path, tmp_path: Path) -> None:
    assert run("prepare", raw, tmp_path / "s", "--downsample", 1, "--test-fraction", 0.2).exit_code == 0
    message = refused(3, "study", tmp_path / "s", tmp_path / "t", "--fuse", *TINY)
    assert "--fuse" in message
    assert "--validation-fraction" in message
    assert not (tmp_path / "t" / "arms").exists()


def test_the_installed_command(tmp_path: Path) -> None:
    """Bad input from a process of its own: exit code 3, one line on standard error, nothing else."""
    command = [str(Path(sys.executable).with_name("viscera")), "prepare", "missing", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "viscera: missing: there is no such folder.\n"
    assert list(tmp_path.iterdir()) == []


def test_yaml_keys_are_those_of_the_python_configuration() -> None:
    shown = yaml.safe_load(run("config", "show").stdout)
    assert shown == resolve_config().model_dump(mode="json")


def test_find_rate_prints_one_row_a_weighting(tiny_store: Store, tmp_path: Path) -> None:
    settings = ["train.patch=8", "train.batch_size=2", "train.filters=2", "rate_range.steps=20", *TINY[-3::2]]
    assigned = [part for each in settings for part in ("--set", each)]
    result = run("find-rate", tiny_store.path, "--out", tmp_path / "r", "--weightings=uniform,0.5", *assigned)
    lines = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("uniform", "power"))]
    assert lines == ["uniform", "power0.5"]
    assert "suggested rate" in result.stdout
    assert sorted(path.name for path in (tmp_path / "r").glob("*.json")) == ["power0.5.json", "uniform.json"]


def test_prepare_takes_a_class_file(tiny_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("classes: [liver, spleen]")
    result = run("prepare", tiny_raw, tmp_path / "s", "--downsample", 1, "--classes", tmp_path / "classes.yaml")
    assert result.exit_code == 0, result.output
    assert Store.open(tmp_path / "s").classes.names == ("background", "liver", "spleen")
    (tmp_path / "classes.yaml").write_text("organs: [liver]")
    message = refused(3, "prepare", tiny_raw, tmp_path / "t", "--classes", tmp_path / "classes.yaml")
    assert "classes.yaml: there is no key 'organs'" in message


def test_doctor_shows_how_many_cases_label_an_organ_where_not_all_do(
    tiny_store: Store, tiny_config: Callable[..., Config]
) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    assert "labelled" not in diagnosis_text(found)
    partial = dataclasses.replace(
        found, cases_labelling=(4, 4, 4, 1, 4, 4, 4, 4), cases_with_class=(4, 4, 4, 1) + (4,) * 4
    )
    (liver,) = (line for line in diagnosis_text(partial).splitlines() if line.startswith("liver"))
    assert re.search(r" 1/4 +1/1 ", liver)


def test_prepare_takes_a_data_set_that_lacks_an_organ(tmp_path: Path, make_nnunet: Callable[..., Path]) -> None:
    names = {"other" if name == "liver" else name: number for number, name in enumerate(CLASS_NAMES)}
    cases = {f"c{n}": (np.zeros((8, 8, 8), np.int16), np.full((8, 8, 8), n % 8, np.uint8)) for n in range(3)}
    data = make_nnunet(tmp_path / "raw", cases, names=names)
    assert "name no liver" in refused(3, "prepare", data, tmp_path / "s")
    assert run("prepare", data, tmp_path / "s", "--partial").exit_code == 0
    assert Store.open(tmp_path / "s").manifest.cases["c0"].unlabelled == ("liver",)
