import contextlib
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from viscera.core.errors import BadInputError
from viscera.io.files import sha256
from viscera.io.records import read_csv, read_json, read_yaml, write_csv, write_record, write_yaml
from viscera.io.runlog import RunFolder
from viscera.io.seals import Seal, json_seal, line_seal, sealed_line, sum_path, table_seal, yaml_seal

VALUE = {"a": 1, "b": [1.5, None], "c": "ü\n"}


def test_a_record_reads_as_it_was_written_and_its_checksum_is_that_of_the_text_without_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, VALUE)
    assert read_json(path) == VALUE
    *lines, seal, end = path.read_text().splitlines()
    plain = "\n".join(lines).removesuffix(",") + f"\n{end}\n"
    assert seal == f' "checksum": "sha256:{hashlib.sha256(plain.encode()).hexdigest()}"'
    assert json.loads(plain) == VALUE


def test_the_first_line_of_yaml_is_the_sum_of_all_below(tmp_path: Path) -> None:
    path = tmp_path / "record.yaml"
    write_yaml(path, VALUE)
    first, _, rest = path.read_bytes().partition(b"\n")
    assert first.decode() == f"# sha256 of all lines below: {hashlib.sha256(rest).hexdigest()}"
    assert read_yaml(path, ours=True) == yaml.safe_load(path.read_text()) == VALUE


@pytest.mark.parametrize("flip", [1, 0x20, 0xFF])
def test_no_byte_of_a_record_can_be_flipped_unnoticed(tmp_path: Path, flip: int) -> None:
    write_record(tmp_path / "r.json", VALUE)
    write_yaml(tmp_path / "r.yaml", VALUE)
    contents = [(json_seal, (tmp_path / "r.json").read_bytes()), (yaml_seal, (tmp_path / "r.yaml").read_bytes())]
    for seal, content in contents:
        assert seal(content) is Seal.FITS
        for at, byte in enumerate(content):
            assert seal(content[:at] + bytes([byte ^ flip]) + content[at + 1 :]) is Seal.BROKEN, (seal, at)
    line = sealed_line({"step": 1, "loss": -0.5})
    assert line_seal(line) is Seal.FITS
    for at, letter in enumerate(line):
        assert line_seal(line[:at] + chr(ord(letter) ^ flip) + line[at + 1 :]) is Seal.BROKEN, at


def test_a_changed_record_is_refused_by_name_and_one_written_anew_by_others_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, VALUE)
    path.write_text(path.read_text().replace("1.5", "1.6"))
    with pytest.raises(BadInputError, match=r"record\.json: damaged, or edited.*delete its key `checksum`"):
        read_json(path)
    write_record(path, VALUE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "a": 2}))
    assert read_json(path) == {**VALUE, "a": 2}


def test_changed_yaml_of_ours_is_refused_and_a_copy_for_config_is_not(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_yaml(path, {"a": 1})
    path.write_text(path.read_text().replace("a: 1", "a: 2"))
    assert read_yaml(path) == {"a": 2}
    with pytest.raises(BadInputError, match=r"config\.yaml: damaged, or edited.*delete its first line"):
        read_yaml(path, ours=True)


@pytest.mark.parametrize("text", ["", "{}\n", '{\n "a": 1\n}\n', "a: 1\n", "# a comment longer than a seal\n" * 9])
def test_what_others_write_has_no_seal(text: str) -> None:
    assert json_seal(text.encode()) is yaml_seal(text.encode()) is line_seal(text) is Seal.NONE


def test_a_line_of_a_curve_that_changed_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append_curve({"step": step, "loss": -0.25})
    folder.curve_path.write_text(folder.curve_path.read_text().replace('2, "loss": -0.25', '2, "loss": -0.75'))
    for read in (folder.read_curve, lambda: folder.keep_curve_until(3)):
        with pytest.raises(BadInputError, match=r"curve\.jsonl: damaged, line 2 .*Delete that line"):
            read()


def test_curves_of_before_without_checksums_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.curve_path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert folder.read_curve() == [{"step": 1}, {"step": 2}]


def test_the_sum_beside_a_table_is_one_that_sha256sum_checks(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    for value in (1, 2):
        write_csv(path, ("case", "value"), [("a", value)], checksum=True)
        assert table_seal(path) == (Seal.FITS, path)
        subprocess.run(["sha256sum", "-c", "--strict", "scores.csv.sha256"], cwd=tmp_path, check=True)  # noqa: S607


def killed_after(writes: int) -> Callable[[Path, str], None]:
    """In place of `write_text`: writes so often, then ends as a process that is killed."""
    left = [writes]

    def write(to: Path, text: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        to.write_text(text)

    return write


@pytest.mark.parametrize("writes", range(4))
def test_whenever_writing_a_table_ends_early_what_is_there_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    path = tmp_path / "scores.csv"
    write_csv(path, ("case",), [("before",)], checksum=True)
    monkeypatch.setattr("viscera.io.seals.write_text", killed_after(writes))
    try:
        write_csv(path, ("case",), [("after",)], checksum=True)
    except KeyboardInterrupt:
        assert writes < 3
    assert table_seal(path) == (Seal.FITS, path)
    monkeypatch.undo()
    write_csv(path, ("case",), [("after",)], checksum=True)
    assert sum_path(path).read_text().count("\n") == 1


def test_a_table_that_is_written_anew_while_its_checksum_is_compared_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really_hashed = tmp_path / "scores.csv", sha256
    write_csv(path, ("case",), [("before",)], checksum=True)

    def hashed(at: Path) -> str:
        found = really_hashed(at)
        monkeypatch.undo()
        write_csv(path, ("case",), [("after",)], checksum=True)
        return found

    monkeypatch.setattr("viscera.io.seals.sha256", hashed)
    assert table_seal(path) == (Seal.FITS, path)


@pytest.mark.parametrize("what", ["gone", "edited"])
@pytest.mark.parametrize("writes", range(3))
def test_nor_does_the_sum_of_a_table_that_people_deleted_or_edited_stay_beside_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, writes: int
) -> None:
    path = tmp_path / "scores.csv"
    write_csv(path, ("case",), [("before",)], checksum=True)
    path.unlink() if what == "gone" else path.write_text("case\nmine\n")

    monkeypatch.setattr("viscera.io.seals.write_text", killed_after(writes))
    with contextlib.suppress(KeyboardInterrupt):
        write_csv(path, ("case",), [("after",)], checksum=True)
    assert not sum_path(path).exists() or table_seal(path) == (Seal.FITS, path)


def test_a_changed_table_is_warned_of_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scores.csv"
    write_csv(path, ("case",), [("a",)], checksum=True)
    path.write_text("case\nb\n")
    assert read_csv(path) == [{"case": "b"}]
    assert "scores.csv: damaged, or edited: scores.csv.sha256 does not fit" in caplog.text
    assert "delete scores.csv.sha256" in caplog.text


def test_where_the_sum_itself_is_damaged_it_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_csv(path, ("case",), [("a",)], checksum=True)
    content = sum_path(path).read_bytes()
    for at in range(len(content)):
        sum_path(path).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert table_seal(path) == (Seal.BROKEN, sum_path(path)), at
