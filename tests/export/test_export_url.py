"""An export to a URL is there whole, and is replaced by the next one."""

from pathlib import Path

import pytest

from tests.command_line import run
from tests.object_store import ObjectStore

pytest.importorskip("s3fs")


def test_a_run_goes_to_a_bucket_and_again(store_of_objects: ObjectStore, tiny_run: Path) -> None:
    url = f"{store_of_objects.url}/exported"
    for _ in range(2):
        result = run("export", tiny_run, url, "--to", "slicer")
        assert result.exit_code == 0, result.stderr
    names = {name.removeprefix("exported/") for name in store_of_objects.objects}
    assert {"viscera.ctbl", "viscera.term.json", "card.md", "export.json"} <= names
