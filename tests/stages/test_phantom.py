import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import run
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.errors import BadInputError
from viscera.imaging.phantom import phantom_case
from viscera.io.layouts.labelled_cases import find_cases
from viscera.io.nifti import read_labels, read_volume
from viscera.stages.phantom import make_phantoms

SHAPE = (24, 18, 18)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file, by its name in the folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def test_writes_nnunet_raw_layout_that_is_read_back_as_made(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    make_phantoms(tmp_path / "set", 2, 7, SHAPE, progress=lambda at: steps.append((at.done, at.total)))
    assert sorted(files(tmp_path / "set")) == [
        "dataset.json",
        "imagesTr/phantom_000_0000.nii.gz",
        "imagesTr/phantom_001_0000.nii.gz",
        "labelsTr/phantom_000.nii.gz",
        "labelsTr/phantom_001.nii.gz",
    ]
    assert steps == [(1, 2), (2, 2)]
    expected = phantom_case(7, 1, SHAPE)
    volume = read_volume(tmp_path / "set/imagesTr/phantom_001_0000.nii.gz")
    label_map = read_labels(tmp_path / "set/labelsTr/phantom_001.nii.gz")
    assert np.array_equal(volume.hu, expected.volume.hu)
    assert np.array_equal(label_map.labels, expected.label_map.labels)
    assert volume.geometry.same_grid(expected.volume.geometry)
    assert [source.name for source in find_cases(tmp_path / "set")] == ["phantom_000", "phantom_001"]


def test_a_folder_that_holds_more_cases_says_so(tmp_path: Path) -> None:
    def said(cases: int) -> str:
        return run("phantom", tmp_path / "set", "--cases", cases, "--shape", *SHAPE, "--seed", 7).stderr.strip()

    assert said(1).endswith(f"1 phantom case in {tmp_path / 'set'}")
    assert said(2).endswith(f"2 phantom cases in {tmp_path / 'set'}")
    assert said(1).endswith(f"2 phantom cases in {tmp_path / 'set'}, more than the 1 asked for; none is removed")


def test_every_file_says_phantom(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 1, shape=SHAPE)
    table = json.loads((tmp_path / "dataset.json").read_text())
    assert "phantom" in table["name"]
    assert "phantom" in table["description"]
    assert table["channel_names"] == {"0": "CT"}
    assert table["labels"] == {name: label for label, name in enumerate(CLASS_NAMES)}
    assert table["numTraining"] == 1
    assert table["file_ending"] == ".nii.gz"
    for path in tmp_path.rglob("*.nii.gz"):
        assert b"phantom" in nib.load(path).header["descrip"].item()


def test_running_again_changes_nothing_and_more_cases_are_added(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 2, shape=SHAPE)
    before = files(tmp_path)
    make_phantoms(tmp_path, 2, shape=SHAPE)
    make_phantoms(tmp_path, 1, shape=SHAPE)
    assert files(tmp_path) == before
    make_phantoms(tmp_path, 3, shape=SHAPE, spacing_mm=16.0)  # the spacing that was chosen before, by name
    after = files(tmp_path)
    assert json.loads(after.pop("dataset.json")[0])["numTraining"] == 3
    assert {name: content for name, content in before.items() if name != "dataset.json"}.items() <= after.items()
    assert len(after) == 6


def test_a_missing_file_is_written_anew(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 2, shape=SHAPE)
    before = {name: content for name, (content, _) in files(tmp_path).items()}
    (tmp_path / "labelsTr/phantom_000.nii.gz").unlink()
    make_phantoms(tmp_path, 2, shape=SHAPE)
    assert {name: content for name, (content, _) in files(tmp_path).items()} == before


def test_processes_write_what_one_writes(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    make_phantoms(tmp_path / "one", 3, shape=SHAPE)
    make_phantoms(tmp_path / "two", 3, shape=SHAPE, jobs=2, progress=lambda at: steps.append((at.done, at.total)))
    one, two = ({name: content for name, (content, _) in files(tmp_path / n).items()} for n in ("one", "two"))
    assert one == two
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_someone_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInputError, match="not empty"):
        make_phantoms(tmp_path, 1, shape=SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(BadInputError, match="is a file"):
        make_phantoms(tmp_path / "letter.txt", 1, shape=SHAPE)


@pytest.mark.parametrize("change", [{"seed": 1}, {"shape": (25, 18, 18)}, {"spacing_mm": 15.0}])
def test_another_phantom_set_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    make_phantoms(tmp_path, 1, seed=0, shape=SHAPE)
    before = files(tmp_path)
    with pytest.raises(BadInputError, match="another phantom set"):
        make_phantoms(tmp_path, 1, **{"seed": 0, "shape": SHAPE, "spacing_mm": None} | change)  # type: ignore[arg-type]
    assert files(tmp_path) == before


def test_a_real_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    with pytest.raises(BadInputError, match="no phantom set"):
        make_phantoms(tmp_path, 1, shape=SHAPE)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cases": 0},
        {"seed": -1},
        {"shape": (0, 8, 8)},
        {"spacing_mm": 0.0},
        {"spacing_mm": float("nan")},
        {"shape": (40_000, 8, 8)},
        {"shape": (3000, 3000, 3000)},
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(BadInputError):
        make_phantoms(tmp_path / "set", **{"cases": 1, "shape": SHAPE} | arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()
