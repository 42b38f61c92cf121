"""The store: what it holds, what it notices, and that no crash or full disk leaves it in between."""

import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import ClassTable
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.io import prepared_case as module
from viscera.io.files import sha256
from viscera.io.manifest import CaseRecord, Manifest
from viscera.io.prepared_case import PreparedCase
from viscera.io.store import Store
from viscera.io.stored_cases import StoredCases
from viscera.io.verifying.integrity import checks_of

COARSE = Geometry.from_spacing((2, 2, 2), (4.0, 4.0, 4.0))
FINE = Geometry.from_spacing((4, 4, 4), (2.0, 2.0, 2.0))


def case(name: str, liver_voxels: int = 1) -> PreparedCase:
    """2³ voxels of 64 mm³; the first few are liver. The original: 4³ voxels of 8 mm³, eight times as many of them."""
    labels, original = np.zeros((2, 2, 2), dtype=np.uint8), np.zeros((4, 4, 4), dtype=np.uint8)
    labels.flat[:liver_voxels] = 3
    original.flat[: 8 * liver_voxels] = 3
    volume = Volume(np.arange(8, dtype=np.int16).reshape(2, 2, 2), COARSE)
    return PreparedCase(name, volume, LabelMap(labels, COARSE), LabelMap(original, FINE), {})


def make(path: Path, *names: str) -> Store:
    store = Store.create(path, PrepareConfig(downsample=2), "two")
    for name in names:
        store.add(case(name))
    return store


def test_what_is_stored_is_read_back_by_another_process(tmp_path: Path) -> None:
    make(tmp_path / "s", "b", "a")
    store = Store.open(tmp_path / "s")
    assert store.names() == ["a", "b"]
    assert (store.image("a") == np.arange(8).reshape(2, 2, 2)).all()
    assert store.image("a").dtype == np.int16
    assert store.labels("a").dtype == np.uint8
    assert store.label_map("a").voxel_counts()[3] == 1
    assert store.original_labels("a").voxel_counts()[3] == 8
    assert store.geometry("a").same_grid(COARSE)
    assert store.original_geometry("a").same_grid(FINE)
    assert store.manifest.dataset == "two"


@pytest.mark.parametrize(("axes", "factors"), [("all", 2), ("in_plane", (2, 2, 1))])
def test_a_manifest_that_names_the_axes_of_its_factor_is_read(tmp_path: Path, axes: str, factors: object) -> None:
    make(tmp_path / "s", "a")
    path = tmp_path / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["prepare"]["downsample"] == 2
    manifest["prepare"]["downsample_axes"] = axes
    path.write_text(json.dumps(manifest))
    store = Store.open(tmp_path / "s")
    assert store.manifest.prepare.downsample == factors
    store.add(case("b"))
    assert Store.open(tmp_path / "s").manifest == store.manifest


def test_the_manifest_is_plain_json_with_counts_on_both_grids(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    store.add(case("a", liver_voxels=3))
    record = json.loads((tmp_path / "s" / "manifest.json").read_text())["cases"]["a"]
    assert record["prepared"]["shape"] == [2, 2, 2]
    assert record["voxel_counts_prepared"] == [5, 0, 0, 3, 0, 0, 0, 0]
    assert record["voxel_counts_original"] == [40, 0, 0, 24, 0, 0, 0, 0]
    # 3 voxels of 64 mm³ are 24 of 8 mm³; absent organs have no change
    assert record["volume_change"] == [pytest.approx(0), None, None, pytest.approx(0), None, None, None, None]
    assert record["sha256"]["image.npy"] == sha256(tmp_path / "s" / "cases" / "a" / "image.npy")


def test_class_counts_are_those_of_the_training_cases(tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    for name, liver in (("a", 1), ("b", 2), ("c", 4)):
        store.add(case(name, liver))
    store.assign({"a": "train", "b": "train", "c": "test"})
    assert store.voxel_counts().tolist() == [13, 0, 0, 3, 0, 0, 0, 0]
    assert store.voxel_counts("original").tolist() == [104, 0, 0, 24, 0, 0, 0, 0]
    assert store.names("test") == ["c"]
    assert Store.open(tmp_path / "s").voxel_counts().dtype == np.int64


def test_without_a_training_case_all_counts_are_0(tmp_path: Path) -> None:
    assert make(tmp_path / "s").voxel_counts().tolist() == [0] * 8


def test_a_case_that_is_stored_again_keeps_its_split(tmp_path: Path) -> None:
    store = make(tmp_path / "s", "a", "b")
    store.assign({"a": "test", "b": "train"})
    shutil.rmtree(tmp_path / "s" / "cases" / "a")
    store.add(case("a", liver_voxels=2))
    assert Store.open(tmp_path / "s").names("test") == ["a"]


def test_a_case_that_is_being_replaced_is_used_by_nobody_and_called_unfinished(tmp_path: Path) -> None:
    """Killed between the new case and the manifest, which says nothing of it yet."""
    store = make(tmp_path / "s", "a", "b")
    before = Store.open(store.path)
    store.expect(["a"])
    module.write_case(store.path, case("a", liver_voxels=2), store.classes, store.manifest.cases["a"])
    now = Store.open(store.path)
    now.verify(["b"])
    with pytest.raises(BadInputError, match=r"cases/a: `viscera prepare` replaces this case, or was stopped"):
        now.verify(["a"])
    states = {check.path.parent.name: check.run().state for check in checks_of(store.path)}
    assert (states["a"], states["b"]) == ("unfinished", "sound")
    now.add(case("a", liver_voxels=2))
    Store.open(store.path).verify(["a", "b"])
    now.expect(["a"])
    now.expect(["a"], replaced=False)
    assert Store.open(store.path).manifest == now.manifest
    assert "awaited" not in (store.path / "manifest.json").read_text()
    assert before.fingerprint != now.fingerprint


def test_a_fingerprint_is_made_once_and_anew_where_the_store_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 10,000 cases it takes a third of a second, and each of a thousand tasks asks for it."""
    store, times = make(tmp_path / "s", "a", "b"), 0
    really_text = Manifest.text

    def counted(manifest: Manifest) -> str:
        nonlocal times
        times += 1
        return really_text(manifest)

    monkeypatch.setattr(Manifest, "text", counted)
    first = store.fingerprint
    assert (store.fingerprint, times) == (first, 1)
    store.assign({"a": "test"})
    assert store.fingerprint == Store.open(store.path).fingerprint != first


@pytest.mark.parametrize("file", ["image.npy", "labels.npy", "labels_original.nii.gz"])
def test_a_flipped_byte_is_noticed_and_the_file_named(tmp_path: Path, file: str) -> None:
    store = make(tmp_path / "s", "a", "b")
    path = tmp_path / "s" / "cases" / "b" / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    store.verify(["a"])
    with pytest.raises(BadInputError, match=rf"cases/b/{file}: changed since it was written"):
        store.verify(["a", "b"])
    path.unlink()
    with pytest.raises(BadInputError, match=rf"cases/b/{file}: missing"):
        store.verify(["b"])


def test_a_truncated_or_missing_array_is_bad_input(tmp_path: Path) -> None:
    store = make(tmp_path / "s", "a", "b")
    path = tmp_path / "s" / "cases" / "a" / "image.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadInputError, match=r"a/image\.npy: missing or damaged"):
        store.image("a")
    (tmp_path / "s" / "cases" / "b" / "labels.npy").unlink()
    with pytest.raises(BadInputError, match=r"b/labels\.npy: missing or damaged"):
        store.labels("b")


@pytest.mark.parametrize("kept_writes", range(5))
def test_killed_at_any_write_the_store_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_writes: int
) -> None:
    store = make(tmp_path / "s", "a")
    manifest = (tmp_path / "s" / "manifest.json").read_bytes()
    calls = []

    def dying_fsync(_path: Path) -> None:
        calls.append(1)
        if len(calls) > kept_writes:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("viscera.io.files.fsync", dying_fsync)
        with pytest.raises(KeyboardInterrupt):
            store.add(case("b"))
    assert (tmp_path / "s" / "manifest.json").read_bytes() == manifest
    again = Store.open(tmp_path / "s")
    assert again.names() == ["a"]
    again.add(case("b"))
    again.verify(["a", "b"])


def test_the_manifest_is_not_written_for_each_of_many_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write and a case take 1 s each: after one write the next is due when 1 s is 3 % of the time, past 33 s."""
    store = make(tmp_path / "s")
    now, written = [0.0], []
    keep = Store._keep

    def slow(self: Store, records: dict[str, CaseRecord]) -> None:
        now[0] += 1
        written.append(sorted(records))
        keep(self, records)

    monkeypatch.setattr(Store, "_keep", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    names = [f"case_{n:02d}" for n in range(40)]
    with store.adding() as tell:
        for name in names:
            record = module.write_case(store.path, case(name), store.classes, None)
            now[0] += 1
            tell(name, record)
    assert written == [names[:1], names[1:33], names[33:]]  # the last at the end, at 42 s
    again = Store.open(tmp_path / "s")
    again.verify(names)
    assert again.names() == names


def test_what_was_added_before_an_interruption_is_in_the_manifest(tmp_path: Path) -> None:
    store = make(tmp_path / "s")

    def interrupted() -> None:
        with store.adding() as tell:
            for name in ("a", "b", "c"):
                tell(name, module.write_case(store.path, case(name), store.classes, None))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Store.open(tmp_path / "s").names() == ["a", "b", "c"]


def test_cases_stand_in_order_one_a_line_and_say_what_they_said_when_indented(tmp_path: Path) -> None:
    store = make(tmp_path / "s", "b", "a")
    path = tmp_path / "s" / "manifest.json"
    lines = path.read_text().splitlines()
    assert [line[:5] for line in lines if '"voxel_counts_prepared": [' in line] == ['  "a"', '  "b"']
    value = json.loads(path.read_text())
    said = store.manifest.model_dump(mode="json")
    left_out = {"fold": None, "ignored_prepared": 0, "ignored_original": 0, "awaited": False}
    for name, value_left_out in left_out.items():
        assert [case.pop(name) for case in said["cases"].values()] == [value_left_out] * 2
    assert (said.pop("licence"), said.pop("pseudonyms")) == ("", "")
    assert value.pop("checksum").startswith("sha256:")
    assert value == said
    path.write_text(json.dumps(value, indent=1))  # as earlier versions wrote it
    assert Store.open(tmp_path / "s").manifest == store.manifest


@pytest.mark.parametrize("kilobytes", [1, 200])
def test_a_full_disk_is_one_sentence_and_leaves_the_store_as_it_was(tmp_path: Path, kilobytes: int) -> None:
    store = make(tmp_path / "s", "a")
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    noise = np.random.default_rng(0)
    hu = noise.integers(-1000, 1000, (50, 50, 60)).astype(np.int16)  # 300 kB, labels 150 kB
    labels = noise.integers(0, 8, hu.shape).astype(np.uint8)
    geometry = Geometry.from_spacing((50, 50, 60), (1.0, 1.0, 1.0))
    big = PreparedCase("big", Volume(hu, geometry), LabelMap(labels, geometry), LabelMap(labels, geometry), {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, limits[1]))
    try:
        with pytest.raises(BadInputError, match=r"cases/big: the disk is full .*Free some space"):
            store.add(big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()} == before
    store.add(big)
    store.verify(["a", "big"])


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    store = make(tmp_path / "s", "a")
    (tmp_path / "s" / "cases" / ".0a1b2c3d-b").mkdir()
    (tmp_path / "s" / "cases" / ".0a1b2c3d-b" / "image.npy").write_bytes(b"half")
    store.remove_leftovers()
    assert [path.name for path in (tmp_path / "s" / "cases").iterdir()] == ["a"]


def test_a_store_that_another_process_changes_while_it_is_used(tmp_path: Path) -> None:
    cases = StoredCases(make(tmp_path / "s", "a", "b"), ["a", "b"])
    assert cases[0][0].shape == (2, 2, 2)
    np.save(tmp_path / "s" / "cases" / "b" / "image.npy", np.zeros((3, 2, 2), np.int16))
    with pytest.raises(BadInputError, match=r"s: b has 3×2×2 voxels, and had 2×2×2 when the store was opened"):
        cases[1]


def test_more_cases_than_the_system_lets_open_are_read(tmp_path: Path) -> None:
    """Two files a case stay open for a quarter of the limit's cases, here 32 of 80; Python alone holds a few."""
    store = make(tmp_path / "s", "case_0", "case_1")
    record = store.manifest.cases["case_0"]
    for n in range(2, 80):
        (tmp_path / "s" / "cases" / f"case_{n}").symlink_to(tmp_path / "s" / "cases" / f"case_{n % 2}")
        store.manifest.cases[f"case_{n}"] = record
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        cases = StoredCases(store, store.names())
        for _ in range(2):
            assert sum(int(image.sum()) for image, _ in cases) == 80 * 28
            assert sum(int(labels.sum()) for _, labels in cases) == 80 * 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(cases) == 80
    assert cases.shapes == [(2, 2, 2)] * 80
    assert cases[-1][0].shape == (2, 2, 2)
    assert len(cases[78:]) == 2
    with pytest.raises(IndexError):
        cases[80]


def test_no_store_is_made_in_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="exists and is not a store"):
        Store.create(tmp_path, PrepareConfig(), "")
    with pytest.raises(BadInputError, match="exists and is not a store"):
        Store.create(tmp_path / "notes.txt", PrepareConfig(), "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "format version None, expected 1"),
        ('{"format_version": 0}', "format version 0, expected 1 or 2 or 3. Prepare the store again"),
        ('{"format_version": 4}', "format version 4, expected 3 or earlier: a newer viscera"),
        ('{"format_version": 1, "cases": {"a": {}}}', "damaged"),
        ('{"format_version": 1, "colour": "red"}', "damaged"),
        ("{", "not valid JSON"),
    ],
)
def test_a_manifest_of_another_make_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BadInputError, match=rf"manifest\.json: .*{message}"):
        Store.open(tmp_path)


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="this is not a store"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(BadInputError, match=r"manifest\.json: cannot be read"):
        Store.open(tmp_path)


@pytest.mark.parametrize("name", ["case.1", "case 1", "Müller-7", "a[b]c"])
def test_any_file_name_is_a_case_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("a store"), name)
    store = Store.open(tmp_path / "a store")
    store.verify([name])
    assert store.names() == [name]
    assert store.original_labels(name).voxel_counts()[3] == 8


def test_a_moved_store_and_one_behind_a_link_work(tmp_path: Path) -> None:
    make(tmp_path / "s", "a")
    (tmp_path / "s").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    store = Store.open(tmp_path / "link")
    store.verify(store.names())
    assert store.image("a")[1, 1, 1] == 7


def test_a_store_of_other_classes(tmp_path: Path) -> None:
    table = ClassTable.of_names(["background", *(f"organ_{n}" for n in range(11))])
    labels = np.full((2, 2, 2), 11, dtype=np.uint8)
    label_map = LabelMap(labels, COARSE)
    store = Store.create(tmp_path / "s", PrepareConfig(), "twelve", table)
    store.add(PreparedCase("a", Volume(labels.astype(np.int16), COARSE), label_map, label_map, {}))
    store.assign({"a": "train"})
    store = Store.open(tmp_path / "s")
    assert store.classes == table
    assert store.voxel_counts().tolist() == [0] * 11 + [8]
    assert store.original_labels("a").labels.max() == 11


def test_a_manifest_with_a_class_twice_is_damaged(tmp_path: Path) -> None:
    make(tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    path.write_text(path.read_text().replace('"spleen"', '"liver"'))
    with pytest.raises(BadInputError, match="damaged"):
        Store.open(tmp_path / "s")
