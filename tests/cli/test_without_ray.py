"""Where Ray is not installed, its options say so before anything is done."""

import sys
from pathlib import Path

import pytest

from tests.command_line import refused
from viscera.io.store import Store


@pytest.mark.parametrize("command", ["study", "predict", "prepare", "check"])
def test_without_ray_there_is_a_sentence(
    tiny_store: Store, tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    store = tiny_store.path
    artifacts: dict[str, list[object]] = {
        "study": [store, "s"],
        "predict": ["run", "scans", "s"],
        "prepare": [tiny_raw, "s"],
        "check": [tiny_raw, "--out", "s"],
    }
    message = refused(3, command, *artifacts[command], "--launcher", "ray")
    assert "Ray is not installed: pip install 'viscera[ray]', on all nodes." in message
    assert not (tmp_path / "s").exists()
