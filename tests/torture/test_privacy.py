"""Nothing that a header says of a patient, and under pseudonyms no name of a file or folder, comes out again."""

import base64
import gzip
import io
import random
import zipfile
from pathlib import Path

import pytest

from torture.privacy import AGE, DATE, WORD, one_round, said_in


def test_markers_are_found_wherever_they_are() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.gz", gzip.compress(f"of {DATE}".encode()))
        archive.writestr("b", WORD.lower().encode("utf-16-le"))
    assert said_in(packed.getvalue()) == {WORD, DATE}
    assert said_in(b"<img src='data:x;base64," + base64.b64encode(f"..{AGE}".encode()) + b"'>") == {AGE}
    assert said_in(b"<img src='data:x;base64,xx" + AGE.encode() + b"xx'>") == set()
    assert said_in(gzip.compress(b"nothing")) == set()


@pytest.mark.parametrize("has_pseudonyms", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_marker_comes_out_again(tmp_path: Path, has_pseudonyms: bool) -> None:
    seed = random.Random(0)  # noqa: S311 - what is tried, no secret
    count, found = one_round(tmp_path, seed, has_pseudonyms=has_pseudonyms, whole=False)
    assert count > 100
    assert found == []
