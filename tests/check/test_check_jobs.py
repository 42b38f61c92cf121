"""A check in several processes, and in parts: the same tables and the same page as in one."""

import shutil
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from viscera.check import check_page
from viscera.check import check_stage as stage
from viscera.check.check_parts import part_path
from viscera.check.check_stage import check, refuse_unread
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.shard import Shard
from viscera.stages.phantom import make_phantoms

MOST = 2  # pictures: fewer than there are places
FILES = ["check.csv", "findings.csv", "index.html"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five phantoms whose labels are mirrored, one of them twice, and one cut short."""
    folder = tmp_path_factory.mktemp("coarse") / "raw"
    make_phantoms(folder, 5, seed=3, shape=(48, 36, 36))
    for path in (folder / "labelsTr").iterdir():
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)
    for kind, name in (("imagesTr", "phantom_00{}_0000.nii.gz"), ("labelsTr", "phantom_00{}.nii.gz")):
        (folder / kind / name.format(3)).write_bytes((folder / kind / name.format(0)).read_bytes())
    broken = folder / "imagesTr" / "phantom_002_0000.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-40])
    return folder


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """With sketches."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "MOST_PICTURES", MOST)
        sketch(patch)
        check(raw, out)
    assert "more places are not shown" in (out / "index.html").read_text(encoding="utf-8")
    return contents(out)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MOST_PICTURES", MOST)


def sketch(patch: pytest.MonkeyPatch) -> None:
    """In place of a picture, which takes longer than all else, what it is to show."""
    patch.setattr(check_page, "plane_figure", lambda case, plane, *rest: f"{case.name} {plane.title} {rest}")
    patch.setattr(check_page, "to_bytes", lambda figure, _format: figure.encode())


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch(monkeypatch)


def contents(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


def test_two_processes_find_and_draw_the_same(raw: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    check(raw, tmp_path / "one")
    check(raw, tmp_path / "two", jobs=2, progress=seen.append)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert [(at.done, at.total) for at in seen if at.job == "check"] == [(n, 5) for n in range(6)]


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("order", list(permutations((1, 2, 3)))[::3])
def test_parts_in_any_order_make_the_same_page(
    order: tuple[int, ...], raw: Path, whole: list[bytes], tmp_path: Path
) -> None:
    for done, number in enumerate(order, start=1):
        found = check(raw, tmp_path, shard=Shard(number, 3))
        assert found.parts_missing == 3 - done
        assert (tmp_path / "index.html").exists() == (done == 3)
    assert contents(tmp_path) == whole
    check(raw, tmp_path, shard=Shard(1, 3))  # again
    assert contents(tmp_path) == whole
    check(raw, tmp_path)
    assert contents(tmp_path) == whole
    assert not (tmp_path / "parts").exists()


@pytest.mark.usefixtures("sketched")
def test_a_part_that_is_checked_again_after_the_join_makes_room_for_pictures_of_others(
    raw: Path, tmp_path: Path
) -> None:
    """One of its cases was mended meanwhile: the page is that of one call, which draws more places of later cases."""
    mended, parts, alone = (tmp_path / name for name in ("raw", "parts", "alone"))
    shutil.copytree(raw, mended)
    for number in (1, 2, 3):
        check(mended, parts, shard=Shard(number, 3))
    before = [(parts / name).read_bytes() for name in FILES]
    labels = mended / "labelsTr" / "phantom_000.nii.gz"
    image = nib.load(labels)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), labels)  # as it was written
    check(mended, parts, shard=Shard(1, 3))
    check(mended, alone)
    assert contents(parts) == contents(alone) != before
    text = (alone / "index.html").read_text(encoding="utf-8")
    assert text.count("<img") == 3 * MOST


@pytest.mark.usefixtures("sketched")
def test_a_part_refuses_its_own_cases_alone(raw: Path, tmp_path: Path) -> None:
    first = check(raw, tmp_path, shard=Shard(1, 2))  # 0, 2 and 4
    with pytest.raises(BadInputError, match=r"1 of 3 cases .*check\.csv once all parts are done\).*phantom_002"):
        refuse_unread(first, tmp_path, Shard(1, 2))
    refuse_unread(check(raw, tmp_path, shard=Shard(2, 2)), tmp_path, Shard(2, 2))


@pytest.mark.usefixtures("sketched")
def test_parts_of_another_data_set_do_not_count(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "other"
    make_phantoms(other, 2, seed=3, shape=(32, 24, 24))
    check(other, tmp_path / "out", shard=Shard(1, 2))
    assert check(raw, tmp_path / "out", shard=Shard(2, 2)).parts_missing == 1
    assert "out: parts 1 of 2 were made of other cases, labels or classes than are there now" in caplog.text


@pytest.mark.usefixtures("sketched")
def test_a_part_that_was_killed_while_it_was_written_is_no_foreign_folder(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / ".0123abcd-1-of-2.json").write_text("{")
    assert check(raw, tmp_path, shard=Shard(2, 2)).parts_missing == 1


@pytest.mark.usefixtures("sketched")
def test_a_damaged_part_is_named(raw: Path, tmp_path: Path) -> None:
    check(raw, tmp_path, shard=Shard(1, 2))
    part_path(tmp_path, Shard(1, 2)).write_text('{"cases": 3}')
    with pytest.raises(BadInputError, match=r"1-of-2\.json: damaged .*Check this part again"):
        check(raw, tmp_path, shard=Shard(2, 2))
    assert check(raw, tmp_path, shard=Shard(1, 2)).parts_missing == 0
