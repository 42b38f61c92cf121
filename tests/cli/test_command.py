"""Options, settings, exit codes: what all commands have in common."""

import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import typer
import yaml

import viscera
from tests.command_line import refused, run
from viscera.cli import app as app_module
from viscera.cli.arguments import Formats, Forms, Layout
from viscera.core.config import Config, TrainConfig
from viscera.core.errors import RunFailedError
from viscera.core.resolve import resolve_config
from viscera.export.export_stage import FORMS
from viscera.io.formats import ENDINGS
from viscera.io.layouts.layout_table import LAYOUTS
from viscera.io.runlog import RunFolder, read_config

COMMANDS = [
    "phantom",
    "check",
    "prepare",
    "doctor",
    "plan",
    "find-rate",
    "power",
    "view",
    "verify",
    "calibrate",
    "train",
    "predict",
    "series",
    "evaluate",
    "merge",
    "export",
    "study",
    "report",
    "card",
]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that `train` was called with, in place of a training."""
    configurations: list[Config] = []

    def pretend(_store: Path, run: Path, config: Config, **_: object) -> RunFolder:
        configurations.append(config)
        return RunFolder(run)

    monkeypatch.setattr("viscera.stages.train.train", pretend)
    return configurations


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["config"], ["config", "show"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    if command not in ([], ["config"]):
        for option in ("--config", "--set", "--quiet", "--log-json"):
            assert option in result.output


def test_the_help_of_layout_names_all_of_them() -> None:
    text = typing.get_args(Layout)[1]
    assert all(re.search(rf"\b{re.escape(name)}\b", text) for name in ("auto", *LAYOUTS))


def test_the_help_of_format_names_all_of_them() -> None:
    text = typing.get_args(Formats)[1].help
    assert all(re.search(rf"\b{re.escape(name)}\b", text) for name in ENDINGS)


def test_the_help_of_to_names_all_of_them() -> None:
    text = typing.get_args(Forms)[1].help
    assert all(re.search(rf"\b{re.escape(name)}\b", text) for name in FORMS)


def test_version() -> None:
    assert run("--version").output == f"viscera {viscera.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "s", "r", "--no-such-option"],
        ["no-such-command"],
        ["train", "s"],
        ["train", "s", "r", "--iterations", "many"],
        ["train", "s", "r", "--iterations", "0"],
        ["train", "s", "r", "--patch", "-1"],
        ["train", "s", "r", "--learning-rate", "nan"],
        ["train", "s", "r", "--seed", "99999999999999999999"],
        ["train", "s", ""],
        ["study", "s", "t", "--launcher", "slurm"],
        ["study", "s", "t", "--seeds", "0,-1"],
        ["study", "s", "t", "--weightings", ","],
        ["study", "s", "t", "--jobs", "-1"],
        ["find-rate", "s", "--weightings", "uniform,cubic"],
        ["evaluate", "p", "r", "--metrics", "hd96"],
        ["evaluate", "p", "r", "--grid", "fine"],
        ["prepare", "a", "b", "--test-fraction", "1.5"],
        ["phantom", "out", "--cases", "0"],
        ["phantom", "out", "--cases", "1", "--shape", "8", "0", "8"],
        ["phantom", "out", "--cases", "1", "--spacing-mm", "-1"],
        ["phantom", "out", "--cases", "1", "--spacing-mm", "nan"],
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


def test_a_fold_is_a_number_or_all() -> None:
    said = run("train", "s", "r", "--fold", "x").stderr
    assert "'x': a whole number or all was expected." in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.depth=4"], "there is no setting 'train.depth'"),
        (["--set", "train.iterations"], "write it as section.key=value"),
        (["--set", "train.iterations=0"], "train.iterations = 0: a whole number of at least 1 was expected."),
        (["--set", "train.learning_rate=nan"], "train.learning_rate"),
        (["--set", "=4"], "there is no setting"),
        (["--set", "train.weighting=cubic"], "train.weighting = 'cubic'"),
        (["--set", "train.filter=3"], "there is no setting 'train.filter'; did you mean train.filters?"),
        (["--set", "patch=32"], "there is no setting 'patch'; did you mean train.patch?"),
        (["--set", "trian.patch=32"], "did you mean train?"),
        (["--set", "train.weighting=sqaure"], "in [0, 2] was expected; did you mean square?"),
        (["--set", "train.fold=x"], "train.fold = 'x': a whole number or all was expected."),
        (["--set", "train.learning_rate=0,01"], "'0,01': a number was expected; did you mean 0.01?"),
        (["--preset", "best"], "There is no preset 'best'"),
        (["--preset", "papper"], "Did you mean paper?"),
    ],
)
def test_bad_settings_of_the_command_line_are_usage_and_named(arguments: list[str], message: str) -> None:
    assert message in refused(2, "train", "no-store", "r", *arguments)
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "missing.yaml"], "missing.yaml: there is no such file"),
        (["--config", "."], "cannot be read"),
        (["--config", "bad.yaml"], "bad.yaml: there is no setting 'train.filter'; did you mean train.filters?"),
        (["--config", "bad.yaml", "--set", "train.patch=32"], "bad.yaml: there is no setting 'train.filter'"),
        ([], "this is not a store"),
    ],
)
def test_what_stands_in_files_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("train: {filter: 3}")
    assert message in refused(3, "train", "no-store", "r", *arguments)
    assert not Path("r").exists()


def test_a_setting_that_does_not_fit_a_file_is_not_said_to_stand_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text("train: {filters: 3}")
    said = refused(2, "train", "no-store", "r", "--config", "good.yaml", "--set", "train.filter=3")
    assert "options: there is no setting 'train.filter'" in said


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--downsample", "4,4", "'4,4': a whole number from 1 on was expected, or three along R, A, S"),
        ("--downsample", "1.5", "whole numbers from 1 on were expected; for other voxel sizes give spacing_mm"),
        ("--downsample", "0", "'0': a whole number"),
        ("--spacing-mm", "fine", "'fine': a voxel size in mm was expected, or"),
    ],
)
def test_values_of_options_are_checked_as_their_fields_are(option: str, value: str, message: str) -> None:
    result = run("prepare", "no-data", "s", option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': " in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["prepare.downsample=4,4"],
            "prepare.downsample = '4,4': a whole number from 1 on was expected, or",
        ),
        (["prepare.downsample_axes=both"], "all or in_plane was expected"),
    ],
)
def test_bad_grids_are_usage_and_named(settings: list[str], message: str) -> None:
    assert message in refused(2, "prepare", "no-data", "s", *(part for each in settings for part in ("--set", each)))


@pytest.mark.parametrize("rate", ["1e-3", "1E-3", ".001", "0.001"])
def test_numbers_are_read_as_people_write_them(rate: str, seen: list[Config]) -> None:
    assert run("train", "s", "r", "--learning-rate", rate).exit_code == 0
    assert run("train", "s", "r", f"--set=train.learning_rate={rate}").exit_code == 0
    assert [config.train.learning_rate for config in seen] == [0.001, 0.001]


def test_options_have_type_help_and_default_of_their_fields() -> None:
    text = " ".join(run("train", "-h").stdout.split())
    for field in ("weighting", "learning_rate", "iterations", "patch", "batch_size", "filters", "seed", "device"):
        about = TrainConfig.model_fields[field]
        assert about.description is not None
        assert f"{about.description[1:]}. [default: {about.default}]" in text


def test_usage_lines_are_those_of_other_programs() -> None:
    assert run("study", "--help").stdout.startswith("Usage: root study [OPTIONS] STORE STUDY\n")
    assert run("predict", "-h").stdout.startswith("Usage: root predict [OPTIONS] RUN [INPUT] [OUTPUT]\n")


@pytest.mark.parametrize("columns", ["80", "100"])
def test_all_commands_are_on_one_screen_in_groups_and_none_is_cut(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = run("--help").stdout.splitlines()
    assert 24 <= len(lines) <= 40
    assert max(map(len, lines)) <= 100
    commands = [line for line in lines if re.fullmatch(r"  (?:[A-Z][a-z]+)? +[a-z-]+ +[A-Z][^…]*[^.…]\.", line)]
    assert len(commands) == len(COMMANDS) + 2  # and config, nnunet-path
    assert [line.split()[0] for line in commands if line[2] != " "] == ["Data", "Train", "Apply", "Study", "Look"]


@pytest.mark.parametrize("name", [*COMMANDS, "nnunet-path"])
def test_every_command_has_two_examples_that_it_understands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = run(name, "--help").stdout.partition("\nExamples:\n")[2]
    examples = [
        shlex.split(line.strip("$() ").partition("=$(")[2] or line, comments=True) for line in text.splitlines()
    ]
    assert len(examples) >= 2
    for program, command, *arguments in examples:
        assert (program, command) == ("viscera", name)
        typer.main.get_command(app_module.app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*COMMANDS, "nnunet-path"])
def test_every_option_with_a_value_shows_its_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = run(name, "--help").stdout.partition("\nOptions:\n")[2].partition("\n\n")[0]
    options = re.sub(r"\n {6,}", " ", text).splitlines()
    valued = [line for line in options if re.match(r"  --[a-z-]+ \S", line) and not re.match(r"  --\S+ {2,}", line)]
    silent = [line for line in valued if not re.search(r"\[default: |\bby default\b|required\]", line, re.IGNORECASE)]
    assert len(valued) >= 2  # --config and --set
    assert not silent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "s", "r", "--iteration", "3"], "train has no option --iteration. Did you mean --iterations?"),
        (
            ["study", "s", "t", "--arms", "3"],
            "study has no option --arms. Did you mean --weightings and --learning-rates?",
        ),
        (["train", "s", "r", "-q"], "train has no option -q. Did you mean --quiet?"),
        (
            ["train", "s", "r", "--levels", "3"],
            "train has no option --levels. It is a setting: --set train.levels=VALUE.",
        ),
        (["train", "s", "r", "--learning-rate", "0,01"], "'0,01': a number was expected; did you mean 0.01?"),
        (["study", "s", "t", "--learning-rates", "0,01"], "did you mean 0.01? A comma separates several values."),
        (["prepare", "a", "b", "--test-fraction", "20%"], "'20%': a number was expected; did you mean 0.2?"),
        (["evaluate", "p", "r", "--metrics", "dcie"], "ece or ace was expected; did you mean dice?"),
        (["study", "s", "t", "--launcher", "locl"], "'locl': local or ray was expected. Did you mean local?"),
        (["phantom", "out", "--cases", "ten"], "'--cases': a whole number was expected."),
        (["phantom", "out", "--cases", "0"], "'--cases': a number of at least 1 was expected."),
        (["trian", "s", "r"], "No such command 'trian'. Did you mean 'train'?"),
    ],
)
def test_a_misspelt_argument_gets_a_suggestion(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_tilde_that_the_shell_left_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my settings.yaml").write_text("train: {filters: 7}")
    assert "filters: 7" in run("config", "show", "--config=~/my settings.yaml").stdout
    assert "nobody-there" in refused(3, "config", "show", "--config=~nobody-there/c.yaml")


def test_what_this_version_lacks_is_said() -> None:
    assert "no such format" in refused(2, "predict", "r", "a", "b", "--format", "stl")


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
    assert refused(130, "prepare", "a", "b").startswith("viscera: interrupted. Cases that are done are kept; the same")
    monkeypatch.setattr("viscera.check.check_stage.check", interrupted)
    assert refused(130, "check", "a").endswith("interrupted. Nothing is kept; the same command begins again.")
    monkeypatch.setattr("viscera.doctor.diagnosis.diagnose", interrupted)
    assert refused(130, "doctor", "s") == "viscera: interrupted."


def test_a_failed_run_is_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def diverged(*_args: object, **_kwargs: object) -> None:
        raise RunFailedError("the loss is nan at step 7")

    monkeypatch.setattr("viscera.stages.train.train", diverged)
    assert refused(4, "train", "s", tmp_path / "r") == "viscera: the loss is nan at step 7"


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_the_configuration_shown_can_be_read_back(tmp_path: Path, preset: str) -> None:
    changes = ["--set", "train.loss.epsilon=1e-5", "--set", "prepare.spacing_mm=2.5"]
    shown = run("config", "show", "--preset", preset, *changes).stdout
    (tmp_path / "c.yaml").write_text(shown)
    expected = resolve_config(preset, assignments=changes[1::2])
    assert read_config(tmp_path / "c.yaml") == expected
    assert run("config", "show", "--config", tmp_path / "c.yaml").stdout == shown


def test_options_win_over_set_over_file_over_preset(tmp_path: Path, seen: list[Config]) -> None:
    (tmp_path / "c.yaml").write_text("train: {iterations: 5, filters: 6, patch: 7}\n")
    run(
        *("train", "s", tmp_path / "r", "--preset", "demo", "--config", tmp_path / "c.yaml"),
        *("--set", "train.filters=9", "--set", "train.patch=10", "--patch", "11"),
    )
    train = seen[0].train
    assert (train.levels, train.iterations, train.filters, train.patch) == (3, 5, 9, 11)


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
