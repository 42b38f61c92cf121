"""The small files of a Run and of a Study."""

from pathlib import Path

import pytest

from viscera.core.arms import Arm
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config
from viscera.io.records import write_yaml
from viscera.io.runlog import RunFolder, RunStatus, StudyFolder, StudyRecord, read_config


def test_a_status_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_status() is None
    status = RunStatus(state="failed", step=3, iterations=9, message="diverged", versions={"torch": "2"})
    folder.write_status(status)
    assert folder.read_status() == status
    (tmp_path / "run.json").write_text('{"state": "asleep"}')
    with pytest.raises(BadInputError, match=r"run\.json: damaged"):
        folder.read_status()


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_curve() == []
    for step in (2, 4, 6):
        folder.append_curve({"step": step, "loss": -0.5})
    with folder.curve_path.open("a") as file:
        file.write('{"step": 8, "lo')
    assert [line["step"] for line in folder.read_curve()] == [2, 4, 6]


def test_the_curve_is_cut_at_the_step_to_go_on_from(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep_curve_until(3)
    for step in (2, 4, 6):
        folder.append_curve({"step": step})
    with folder.curve_path.open("a") as file:
        file.write('{"step": 8')
    folder.keep_curve_until(4)
    folder.append_curve({"step": 6})
    assert folder.read_curve() == [{"step": 2}, {"step": 4}, {"step": 6}]


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"null\n", b"{}\n"])
def test_a_curve_that_is_none_is_bad_input(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    folder.curve_path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"curve\.jsonl: damaged"):
        folder.keep_curve_until(4)


def test_a_full_disk_while_logging_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(BadInputError, match=r"curve\.jsonl: the disk is full"):
        RunFolder(tmp_path).append_curve({"step": 1})


def test_infinity_never_gets_into_the_curve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        RunFolder(tmp_path).append_curve({"loss": float("inf")})


def test_a_study_is_read_back(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    with pytest.raises(BadInputError, match="this is not a study"):
        folder.read_record()
    record = StudyRecord(version="1", store="/s", dataset="é", config=resolve_config("demo"))
    folder.write_record(record)
    assert folder.read_record() == record
    assert folder.run(Arm("simple", 0.01), 3).path == tmp_path / "arms" / "simple_lr0.01" / "seed_3"
    folder.record_path.write_text("version: 1\n")
    with pytest.raises(BadInputError, match=r"study\.yaml: damaged"):
        folder.read_record()


def test_a_configuration_is_read_back(tmp_path: Path) -> None:
    config = resolve_config("demo", assignments=("train.learning_rate=1e-7",))
    write_yaml(tmp_path / "c.yaml", config.model_dump(mode="json"))
    assert read_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "a mapping of settings"),
        ("a: [\n", "not valid YAML"),
        ("train: {depth: 4}\n", "there is no setting"),
        ("train: 5\n", "train = 5"),
        ("1: 2\n", ""),
    ],
)
def test_other_yaml_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(BadInputError, match=rf"c\.yaml: .*{message}"):
        read_config(tmp_path / "c.yaml")
