"""Pseudonyms: stable under one key file, nothing to anyone without it; and no message says whose they are."""

import hashlib
import hmac
import json
import logging
import os
import stat
import sys
from base64 import b32encode
from pathlib import Path

import pytest

from viscera.core.errors import BadInputError
from viscera.core.hidden_names import HiddenNames
from viscera.io.disk.folder_lock import alone_with
from viscera.io.pseudonyms import Pseudonyms, pseudonymous


def test_a_pseudonym_is_a_keyed_digest_of_the_name(tmp_path: Path) -> None:
    keys = Pseudonyms.open(tmp_path / "keys.json")
    secret = bytes.fromhex(json.loads((tmp_path / "keys.json").read_text())["secret"])
    digest = hmac.new(secret, b"case\0Hans", hashlib.sha256).digest()
    assert keys.of("Hans") == f"p_{b32encode(digest).decode()[:10].lower()}"
    assert len(secret) == 32


def test_the_same_key_file_gives_the_same_pseudonyms_and_another_gives_others(tmp_path: Path) -> None:
    first = Pseudonyms.open(tmp_path / "keys.json")
    first.remember(["Hans", "Ada"])
    again = Pseudonyms.open(tmp_path / "keys.json")
    assert [again.of(name) for name in ("Hans", "Ada", "new")] == [first.of(name) for name in ("Hans", "Ada", "new")]
    assert again.of(first.of("Hans")) == first.of("Hans")  # is one already
    assert again.key_id == first.key_id
    other = Pseudonyms.open(tmp_path / "other.json")
    assert other.of("Hans") != first.of("Hans")
    assert other.key_id != first.key_id
    assert json.loads((tmp_path / "keys.json").read_text())["cases"] == {first.of(n): n for n in ("Ada", "Hans")}


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = os.umask(0)
    try:
        Pseudonyms.open(path).remember(["Hans"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(BadInputError, match=r"others can read this key file \(mode 0640\)"):
        Pseudonyms.open(path)


def test_it_lies_in_no_artifact_not_by_a_link_either(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "link").symlink_to(store)
    for path in (store / "keys.json", tmp_path / "link" / "deep" / "keys.json", store):
        with pytest.raises(BadInputError, match=r"the key file lies in .*store, and would travel with it"):
            Pseudonyms.open(path, [store])
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("content", ["{}", '{"labels": {"liver": 1}}', "[]"])
def test_another_file_is_no_key_file_and_stays(tmp_path: Path, content: str) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(content)
    path.chmod(0o644)  # what it is comes before who can read it
    with pytest.raises(BadInputError, match=r"dataset\.json: this is not a key file of pseudonyms"):
        Pseudonyms.open(path)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_that_one_is_made_is_said_and_no_folder_is_made_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        Pseudonyms.open(tmp_path / "keys.json")
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path / 'keys.json'} is a new key file; keep a copy of it: ")
    with pytest.raises(BadInputError, match=r"key\.json: there is no folder .*kyes\. Make it, or correct the path"):
        Pseudonyms.open(tmp_path / "kyes" / "key.json")
    assert not (tmp_path / "kyes").exists()


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    Pseudonyms.open(path).remember(["Hans"])
    path.write_text(path.read_text().replace('"secret": "', '"secret": "0', 1))
    with pytest.raises(BadInputError, match=r"keys\.json"):
        Pseudonyms.open(path)


def test_the_key_that_an_artifact_has_is_asked_for(tmp_path: Path) -> None:
    key_id = Pseudonyms.open(tmp_path / "keys.json").key_id
    with pytest.raises(BadInputError, match=f"there is no such key file; the one with the key {key_id} was expected"):
        Pseudonyms.open(tmp_path / "lost.json", key_id=key_id)
    assert not (tmp_path / "lost.json").exists()
    Pseudonyms.open(tmp_path / "other.json")
    with pytest.raises(BadInputError, match=f"the one with the key {key_id} was expected"):
        Pseudonyms.open(tmp_path / "other.json", key_id=key_id)


def test_messages_and_errors_do_not_have_the_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "Hans Meier" / "CT of Hans"
    source.mkdir(parents=True)
    (source / "Meier, Hans_0000.nii.gz").touch()
    keys = Pseudonyms.open(tmp_path / "keys.json")
    keys.remember(["Meier, Hans"])
    caplog.clear()
    scan = source / "Meier, Hans_0000.nii.gz"

    def read() -> None:
        logging.getLogger("viscera.x").warning("%s: damaged. %d of %s", scan, 3, "Meier, Hans")
        try:
            raise OSError(5, "broken", str(scan))  # noqa: TRY301 - what a reader raises
        except OSError as error:
            raise BadInputError(f"{scan}: cannot be read, Meier, Hans.nii.gz neither") from error

    with pytest.raises(BadInputError) as refused, pseudonymous(keys, source):
        read()
    pseudonym = keys.of("Meier, Hans")
    assert caplog.messages == [f"SOURCE/…: damaged. 3 of {pseudonym}"]
    assert str(refused.value) == f"SOURCE/…: cannot be read, {pseudonym}.nii.gz neither"
    assert refused.value.__cause__ is None
    assert "Hans" not in "".join(map(str, refused.value.args))


def test_handlers_of_a_program_that_uses_the_library_do_not_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    names = HiddenNames()
    names.add_names({"Hans": "case_a"})
    own, logger = logging.StreamHandler(sys.stdout), logging.getLogger("viscera")
    logger.addHandler(own)
    try:
        with names.hidden():
            logging.getLogger("viscera.io").warning("of %s", "Hans")
        logging.getLogger("viscera.io").warning("of %s", "Ada")
    finally:
        logger.removeHandler(own)
    assert capsys.readouterr().out == "of case_a\nof Ada\n"
    assert own.filters == []


def test_a_defect_does_not_say_them_either(tmp_path: Path) -> None:
    names = HiddenNames()
    names.add_names({"Hans": "case_a"})
    names.add_place(tmp_path / "Hans", "SOURCE")

    def fail() -> None:
        try:
            raise OSError(2, "gone", str(tmp_path / "Hans" / "x"))  # noqa: TRY301
        except OSError as error:
            raise RuntimeError("of Hans") from error

    with pytest.raises(RuntimeError) as raised, names.hidden():
        fail()
    assert str(raised.value) == "of case_a"
    assert str(raised.value.__cause__) == "[Errno 2] gone: 'SOURCE/x'"


def test_words_and_numbers_of_a_sentence_stay() -> None:
    names = HiddenNames()
    names.add_names({"3": "case_a", "12": "case_b", "Li": "case_c", "1234567": "case_d"})
    assert names.told("3 of 12 cases; Li and 1234567 in Lisbon") == "3 of 12 cases; case_c and case_d in Lisbon"


def test_what_a_killed_process_left_of_a_key_file_is_deleted_with_the_secret_in_it(tmp_path: Path) -> None:
    (tmp_path / ".0123abcd-keys.json").write_text('{"secret": "…"}')
    (tmp_path / "link.json").symlink_to(tmp_path / "keys.json")
    for _ in range(2):
        Pseudonyms.open(tmp_path / "link.json").remember(["Hans"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "link.json"]


def test_a_key_file_is_held_by_whichever_link_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what two commands add at once would be lost, and with it whose cases these are."""
    keys = Pseudonyms.open(tmp_path / "keys.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "keys.json")
    other = Pseudonyms.open(tmp_path / "link.json")
    monkeypatch.setattr("viscera.io.pseudonyms.TURN_S", 0)
    with alone_with(tmp_path / "keys.json"), pytest.raises(BadInputError, match="another process"):
        other.remember(["Hans"])
    other.remember(["Hans"])
    keys.remember(["Ada"])
    assert set(json.loads((tmp_path / "keys.json").read_text())["cases"].values()) == {"Hans", "Ada"}
