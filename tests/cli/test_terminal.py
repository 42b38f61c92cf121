"""What is printed where, also where nothing can be printed; and signals."""

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer

from tests.command_line import TINY, refused, run
from viscera.cli import app as module
from viscera.cli.terminal import Display, Lines, LossyFile, open_streams, stop_on_signal
from viscera.core.progress import Progress
from viscera.core.scan import Volume
from viscera.io.checkpoint import load_checkpoint
from viscera.io.nifti import read_volume
from viscera.io.store import Store


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("command", [["predict", "run", "a.zip", "out"], ["series", "a.zip"]])
def test_an_ended_command_leaves_no_unpacked_patient(
    tmp_path: Path, command: list[str], number: signal.Signals, code: int
) -> None:
    """128 and the signal's number, as shells have it; a second signal does not cut the cleaning up short."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("image", "of a patient")
    script = f"""
import os, shutil, signal, sys, time, types
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
import viscera.stages  # whose `predict`, and choosing threads, would load PyTorch
viscera.stages.predict = types.SimpleNamespace(predict=slow)
sys.modules["viscera.engine.hardware"] = types.SimpleNamespace(choose_threads=lambda before, **how: None)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_training_that_is_told_to_end_or_whose_terminal_is_closed_keeps_a_checkpoint(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def update(_display: Display, progress: Progress) -> None:
        if progress.done == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Display, "update", update)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        result = run("train", tiny_store.path, tmp_path / "run", *TINY, "--set", "train.log_every=1")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.exit_code == 130, result.output
    assert "a checkpoint will be written" in result.stderr
    assert load_checkpoint(tmp_path / "run" / "last.pt").step == 2


def test_a_closed_terminal_does_not_end_what_runs_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("option", [[], ["--quiet"], ["--log-json"]])
def test_a_defect_of_ours_is_shown_with_its_traceback_after_the_rest_is_done(
    tiny_raw: Path, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    def failing(path: Path, *, warn: bool) -> Volume:
        return read_volume(path if "case_2" not in path.name else path / str(1 // 0), warn=warn)

    monkeypatch.setattr("viscera.io.scans.read_nifti", failing)
    result = run("predict", tiny_run, tiny_raw / "imagesTr", tmp_path / "out", *option)
    assert result.exit_code == 1
    assert "1 of 6 cases was left out" in result.output
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
    monkeypatch.setattr(module, "app", lambda **_: typer.echo(f"{name} ü"))
    module.main()
    assert printed.buffer.getvalue() == "M\\udcfcller ü\n".encode()


# ------------------------------------------------------------------------------------------ nobody listens

COMMAND = f"{shlex.quote(sys.executable)} -m viscera.cli"
WORK = """
import sys, types
from viscera.cli import main
from viscera.core.progress import Progress

def make_phantoms(out, cases, *, progress, **options):
    for done in range(cases + 1):
        progress(Progress("phantom", done, cases))
    out.mkdir()
    return cases

sys.modules["viscera.stages.phantom"] = types.SimpleNamespace(make_phantoms=make_phantoms)  # which would load SciPy
main()
"""
PHANTOM = f"{shlex.quote(sys.executable)} -c {shlex.quote(WORK)} phantom raw --cases 1"


def shell(command: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>&-", "2> >(exec true)", "<&- --log-json 2>/dev/full"])
def test_a_log_that_cannot_be_written_does_not_end_the_work(where: str, tmp_path: Path) -> None:
    done = shell(f"{PHANTOM} {where}", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "raw").is_dir()


def test_a_terminal_that_was_closed_does_not_end_the_work(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "viscera.cli", "phantom", "raw", "--cases", "1", "--shape", "8", "8", "8"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=theirs) as process:
        os.close(theirs)
        os.close(ours)  # each write of theirs is EIO from here on
        assert process.wait(timeout=60) == 0
    assert len(list((tmp_path / "raw" / "labelsTr").iterdir())) == 1


def test_a_reader_that_has_enough_is_no_error_and_a_result_that_is_lost_is_one(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} config show | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# [machine]")
    done = shell(f"{COMMAND} config show >/dev/full", tmp_path)
    assert done.returncode == 3
    assert done.stderr == (
        "viscera: Standard output cannot be written to (No space left on device). Send it somewhere else.\n"
    )


def test_any_locale_and_any_terminal_will_do(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict", "TERM": "dumb", "COLUMNS": "1"}
    done = shell(f"{COMMAND} study --help && {COMMAND} config show", tmp_path, **plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "initialisation: he" in done.stdout  # and a comment that holds an epsilon


def test_in_a_locale_that_is_not_utf_8_names_of_files_are_all_the_same(tmp_path: Path) -> None:
    said = "import sys; from viscera.cli import app; app.app = lambda **_: print(*map(ascii, sys.argv[1:])); app.main()"
    other = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as ISO-8859-1 is, where it is installed
    done = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(said)} störe", tmp_path, **other)
    assert (done.returncode, done.stdout, done.stderr) == (0, r"'st\xf6re'" + "\n", "")


def test_streams_that_somebody_put_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of text alone, as a notebook's."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    put = sys.stdout, sys.stderr
    open_streams()
    assert (sys.stdout, sys.stderr) == put


def test_a_stream_drops_what_nobody_reads_and_says_why() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with LossyFile(writer, "w") as stream:
        assert stream.write(bytes(10)) == 10
        assert isinstance(stream.failure, BrokenPipeError)


class Broken(Display):
    """Fails whatever it is to show."""

    def _update(self, _progress: Progress) -> None:
        raise OSError("the terminal is gone")

    def _write(self, text: str) -> None:
        raise UnicodeError if text == "half-way" else BlockingIOError


def test_a_display_that_fails_disturbs_nobody() -> None:
    display = Broken()
    display.update(Progress("train", 1, 2))
    display.note("half-way")
    display.error("wrong")
    display.close()


def test_a_folder_that_was_deleted_is_a_sentence(tmp_path: Path) -> None:
    done = shell(f"mkdir gone && cd gone && rmdir ../gone && {COMMAND} config show", tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("viscera: the current folder is not available any more (No such file or directory).")


ODD = "\x1b[31mred\x1b]0;title\x07\u202e"


def test_no_name_of_a_file_tells_the_terminal_anything(tmp_path: Path) -> None:
    """ANSI escapes in names would colour, hide or retitle; a line break would make a line of its own."""
    name = f"{ODD}\nviscera: all is well.nii.gz"
    (tmp_path / name).write_bytes(b"no scan")
    said = refused(3, "series", tmp_path / name)
    assert r"\x1b[31mred\x1b]0;title\x07\u202e\nviscera: all is well" in said
    assert not set("\x1b\x07\u202e") & set(said)


def test_no_name_in_a_result_note_or_bar_does(capsys: pytest.CaptureFixture[str]) -> None:
    display = Lines()
    display.note(f"Note: {ODD}")
    display.update(Progress(f"job {ODD}", 1, 1, f"case\n{ODD}"))
    display.error(ODD)
    shown = capsys.readouterr().err
    assert not set("\x1b\x07\u202e") & set(shown)
    assert len(shown.splitlines()) == 3
    assert display.named("a\tb\nc – 3×3") == "a\tb\nc – 3×3"
