"""Mended labels: what is saved, that nothing is replaced, and that it is a data set to train on."""

import gzip
import http.client
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from viscera.core.anatomy import ABDOMEN
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.stages.prepare import prepare
from viscera.stages.verify import verify
from viscera.view.corrections import MOST_ABOUT, changes, read_upload
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

SaveScan = Callable[[Path, np.ndarray, np.ndarray], Path]
LPS = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (6, 5, 4)


def upload(labels: np.ndarray, **about: str) -> bytes:
    head = json.dumps(about).encode()
    return struct.pack("<I", len(head)) + head + labels.astype(np.uint8).tobytes(order="F")


def test_changes_are_those_of_hand() -> None:
    before = np.array([0, 3, 3, 4, 255], np.uint8).reshape(5, 1, 1)
    after = np.array([3, 3, 0, 6, 255], np.uint8).reshape(5, 1, 1)
    assert changes(before, after, ABDOMEN) == {
        "liver": {"before": 2, "after": 2, "added": 1, "removed": 1},
        "spleen": {"before": 1, "after": 0, "added": 0, "removed": 1},
        "gallbladder": {"before": 0, "after": 1, "added": 1, "removed": 0},
    }
    with pytest.raises(BadInputError, match="nothing was changed"):
        changes(before, before, ABDOMEN)
    with pytest.raises(BadInputError, match="label numbers 9 stand for no organ"):
        changes(before, np.full_like(before, 9), ABDOMEN)
    with pytest.raises(BadInputError, match="label numbers 255"):
        changes(np.zeros_like(before), np.full_like(before, 255), ABDOMEN)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\0",
        upload(np.zeros((6, 5, 3))),
        upload(np.zeros(SHAPE)) + b"\0",
        struct.pack("<I", 4) + b"{{{{" + bytes(120),
        struct.pack("<I", 2) + b"[]" + bytes(120),
        struct.pack("<I", MOST_ABOUT + 1) + bytes(MOST_ABOUT + 1 + 120),
        struct.pack("<I", 2**32 - 1) + bytes(120),
    ],
)
def test_what_is_no_label_map_of_the_grid_is_refused(content: bytes) -> None:
    with pytest.raises(BadInputError):
        read_upload(content, Geometry.from_spacing(SHAPE, (1, 1, 1)))


class Served:
    """A prediction whose axes run to the left and to the back, its scan, and a server of both."""

    def __init__(self, server: Any, folder: Path, predicted: np.ndarray) -> None:
        self.server, self.folder, self.predicted = server, folder, predicted
        self.corrections = folder / "out" / "corrections"

    def post(self, content: bytes, layer: int = 0, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        own = headers or {"Origin": f"http://127.0.0.1:{self.server.port}"}
        connection.request("POST", f"/{self.server.token}/api/cases/0/labels/{layer}/correction", content, own)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body) if body.startswith(b"{") else {}

    def asked(self, path: str) -> tuple[bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        connection.request("GET", f"/{self.server.token}/api/cases/0{path}")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200
        return body, answer.headers

    def case(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads(self.asked("")[0])
        return about

    def version(self, layer: int) -> str:
        return str(self.asked(f"/labels/{layer}")[1]["x-version"])

    def get(self, path: str) -> np.ndarray:
        return np.frombuffer(self.asked(path)[0], np.uint8).reshape(SHAPE, order="F")

    def shown(self, labels: np.ndarray) -> np.ndarray:
        """As the page has it: axes to the right, to the front and up."""
        turned: np.ndarray = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(labels, LPS)).dataobj)
        return turned

    def mended(self, voxel: tuple[int, int, int], label: int) -> tuple[np.ndarray, bytes]:
        labels = self.predicted.copy()
        labels[voxel] = label
        return labels, upload(self.shown(labels), who="Ada  \x1b\u202eLovelace\n", note="x" * 999)


@pytest.fixture
def served(tmp_path: Path, save_scan: SaveScan) -> Iterator[Served]:
    module = pytest.importorskip("viscera.view.view_server", reason="needs starlette: pip install 'viscera[view]'")
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 8, SHAPE).astype(np.uint8)
    predicted[0, 0, 0], predicted[1:4, 1, 1], predicted[5, 4, 3] = 3, 0, 0
    save_scan(tmp_path / "scans" / "p_0000.nii.gz", rng.integers(-1000, 1000, SHAPE).astype(np.int16), LPS)
    save_scan(tmp_path / "out" / "p.nii.gz", predicted, LPS)
    save_scan(tmp_path / "truth" / "p.nii.gz", predicted, LPS)
    gallery = open_gallery(tmp_path / "out", Beside(scans=tmp_path / "scans", references=tmp_path / "truth"))
    with module.ViewServer(gallery).running() as server:
        yield Served(server, tmp_path, predicted)


def test_a_correction_is_saved_in_the_order_of_the_file_with_who_when_and_what(served: Served) -> None:
    before = (served.folder / "out" / "p.nii.gz").read_bytes()
    labels, content = served.mended((0, 0, 0), 0)
    status, told = served.post(content)
    assert (status, told["number"]) == (200, 1)
    saved = nib.load(served.corrections / "labelsTr" / "p.nii.gz")
    np.testing.assert_array_equal(np.asarray(saved.dataobj), labels)
    np.testing.assert_allclose(saved.affine, LPS)
    record = json.loads((served.corrections / "history" / "p.1.json").read_text())
    assert record["who"] == "Ada Lovelace"
    assert len(record["note"]) == 200
    assert record["when"].endswith("+00:00")
    assert record["made_from"] == "p.nii.gz"
    assert "liver" in record["organs"]
    assert str(served.folder) not in json.dumps(record)
    assert (served.folder / "out" / "p.nii.gz").read_bytes() == before


def test_the_scan_is_kept_without_what_its_header_says(served: Served) -> None:
    path = served.folder / "scans" / "p_0000.nii.gz"
    image = nib.load(path)
    hu = np.asarray(image.dataobj).copy()
    image.header["descrip"], image.header["aux_file"] = b"Q-Hans", b"Q-Hans.txt"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Q-Hans"))
    nib.save(nib.Nifti1Image(hu, image.affine, image.header), path)
    assert b"Q-Hans" in gzip.decompress(path.read_bytes())
    assert served.post(served.mended((0, 0, 0), 0)[1])[0] == 200
    kept = served.corrections / "imagesTr" / "p_0000.nii.gz"
    assert b"Q-Hans" not in gzip.decompress(kept.read_bytes())
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj), hu)
    np.testing.assert_allclose(nib.load(kept).affine, LPS)


@pytest.mark.parametrize("link", ["", "history", "labelsTr", "imagesTr"])
def test_nothing_is_written_through_a_link(served: Served, link: str) -> None:
    """A folder of predictions that somebody sent may have one in it."""
    elsewhere = served.folder / "elsewhere"
    elsewhere.mkdir()
    (served.corrections / link).parent.mkdir(parents=True, exist_ok=True)
    (served.corrections / link).symlink_to(elsewhere)
    status, told = served.post(served.mended((0, 0, 0), 0)[1])
    assert status == 422
    assert "this is a link to another place" in told["error"]
    assert list(elsewhere.iterdir()) == []


def test_nothing_is_ever_replaced(served: Served) -> None:
    for number, label in enumerate((1, 2, 4), start=1):
        voxel = (number, 1, 1)
        assert served.post(served.mended(voxel, label)[1])[1]["number"] == number
    history = {path.name: nib.load(path).get_fdata() for path in (served.corrections / "history").glob("*.nii.gz")}
    assert sorted(history) == ["p.1.nii.gz", "p.2.nii.gz", "p.3.nii.gz"]
    assert [history[f"p.{n}.nii.gz"][n, 1, 1] for n in (1, 2, 3)] == [1, 2, 4]
    current = served.corrections / "labelsTr" / "p.nii.gz"
    assert current.read_bytes() == (served.corrections / "history" / "p.3.nii.gz").read_bytes()
    edited = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), LPS)
    nib.save(edited, current)
    status, told = served.post(served.mended((5, 4, 3), 5)[1])
    assert status == 422
    assert "was edited by another program" in told["error"]
    assert nib.load(current).get_fdata().max() == 0


def test_corrections_are_verified(served: Served) -> None:
    """Nobody can make them again."""
    for label in (1, 2):
        assert served.post(served.mended((1, 1, 1), label)[1])[0] == 200
    history, newest = served.corrections / "history", served.corrections / "labelsTr" / "p.nii.gz"
    files = [*history.iterdir(), newest]
    assert {each.path: each.state for each in verify(served.folder / "out") if each.path in files} == dict.fromkeys(
        files, "sound"
    )
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        (found,) = (each for each in verify(served.folder / "out") if each.state not in {"sound", "no checksum"})
        assert (found.path, found.state) == (path, "edited" if path == newest else "damaged")
        assert "predict" not in found.what_to_do
        assert "elete" not in found.what_to_do
        path.write_bytes(content)
    (history / "p.1.nii.gz").unlink()
    (found,) = (each for each in verify(served.folder / "out") if each.state == "missing")
    assert found.path == history / "p.1.nii.gz"


@pytest.mark.parametrize("content", ["[]", "3", "{"])
def test_a_data_set_of_another_kind_is_not_written_over(served: Served, content: str) -> None:
    served.corrections.mkdir()
    (served.corrections / "dataset.json").write_text(content)
    status, answer = served.post(served.mended((1, 1, 1), 5)[1])
    assert status == 422
    assert "dataset.json" in str(answer)
    assert (served.corrections / "dataset.json").read_text() == content


def test_the_next_correction_can_begin_with_the_last(served: Served) -> None:
    labels, content = served.mended((0, 0, 0), 5)
    assert served.post(content)[0] == 200
    again = labels.copy()
    again[1, 0, 0] = (labels[1, 0, 0] + 1) % 8
    status, told = served.post(upload(served.shown(again)), layer=1)  # where the correction is now
    assert (status, told["number"]) == (200, 2)
    record = json.loads((served.corrections / "history" / "p.2.json").read_text())
    assert sum(each["added"] + each["removed"] for each in record["organs"].values()) in {1, 2}
    reopened = open_gallery(served.folder / "out", Beside(scans=served.folder / "scans"))
    assert [layer.title for layer in reopened.cases[0].layers] == ["prediction", "correction"]


def test_what_was_drawn_on_an_older_state_is_not_saved_without_a_word(served: Served) -> None:
    """Two windows, or two people with a viewer each, mend one case: neither undoes the other's work unseen."""
    first = served.version(0)
    assert served.version(0) == first
    assert served.post(served.mended((1, 1, 1), 1)[1])[0] == 200
    labels = served.predicted.copy()
    labels[2, 1, 1] = 2
    status, told = served.post(upload(served.shown(labels), of=first))
    assert status == 409
    assert "another window or program has changed" in told["error"]
    assert served.post(upload(served.shown(labels), of=served.version(0)))[1]["number"] == 2
    second = served.version(1)
    other = open_gallery(served.folder / "out", Beside(scans=served.folder / "scans"))
    with type(served.server)(other).running() as server:
        elsewhere = Served(server, served.folder, served.predicted)
        labels[3, 1, 1] = 4
        assert elsewhere.post(upload(elsewhere.shown(labels), of=elsewhere.version(1)), layer=1)[1]["number"] == 3
    assert served.version(1) != second
    np.testing.assert_array_equal(served.get("/labels/1"), served.shown(labels))
    record = json.loads((served.corrections / "history" / "p.3.json").read_text())
    assert sum(each["added"] for each in record["organs"].values()) == 1


def test_a_correction_of_another_viewer_is_shown_when_the_case_is_opened(served: Served) -> None:
    gallery = open_gallery(served.folder / "out", Beside(scans=served.folder / "scans"))
    with type(served.server)(gallery).running() as server:
        assert Served(server, served.folder, served.predicted).post(served.mended((0, 0, 0), 5)[1])[0] == 200
    assert [each["role"] for each in served.case()["layers"]] == ["prediction", "correction", "reference"]


def test_the_scan_kept_with_the_newest_correction_is_the_one_it_was_drawn_on(
    served: Served, save_scan: SaveScan
) -> None:
    """Another scan of that name was predicted in the meantime."""
    assert served.post(served.mended((0, 0, 0), 0)[1])[0] == 200
    kept = served.corrections / "imagesTr" / "p_0000.nii.gz"
    before = kept.stat().st_mtime_ns
    assert served.post(served.mended((0, 0, 0), 1)[1])[0] == 200
    assert kept.stat().st_mtime_ns == before
    hu = np.full(SHAPE, 77, np.int16)
    save_scan(served.folder / "scans" / "p_0000.nii.gz", hu, LPS)
    gallery = open_gallery(served.folder / "out", Beside(scans=served.folder / "scans"))
    with type(served.server)(gallery).running() as server:
        assert Served(server, served.folder, served.predicted).post(served.mended((0, 0, 0), 2)[1])[0] == 200
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj), hu)


def test_what_may_not_be_saved_is_refused_and_leaves_nothing(served: Served) -> None:
    good = served.mended((0, 0, 0), 5)[1]
    assert served.post(upload(served.shown(served.predicted)))[0] == 422  # nothing changed
    assert served.post(good[:-1])[0] == 422
    assert served.post(good + bytes(10_000))[0] == 413
    assert served.post(good, layer=7)[0] == 422
    assert served.post(good, layer=1)[0] == 422  # the reference
    assert served.post(good, Origin="https://evil.example")[0] == 403
    assert served.post(good, Referer="x")[0] == 403  # without an origin
    assert not (served.corrections / "labelsTr").exists()


def test_without_a_scan_nothing_is_mended(tmp_path: Path, save_scan: SaveScan) -> None:
    module = pytest.importorskip("viscera.view.view_server", reason="needs starlette: pip install 'viscera[view]'")
    save_scan(tmp_path / "out" / "p.nii.gz", np.zeros(SHAPE, np.uint8), LPS)
    with module.ViewServer(open_gallery(tmp_path / "out")).running() as server:
        status, told = Served(server, tmp_path, np.zeros(SHAPE, np.uint8)).post(upload(np.ones(SHAPE)))
    assert status == 422
    assert "Give it with --scans" in told["error"]


def test_prepare_takes_corrections_as_training_cases(phantoms: Path, predicted: Path, tmp_path: Path) -> None:
    module = pytest.importorskip("viscera.view.view_server", reason="needs starlette: pip install 'viscera[view]'")
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    with module.ViewServer(open_gallery(out, Beside(references=phantoms))).running() as server:
        labels = nib.load(out / "phantom_001.nii.gz").get_fdata().astype(np.uint8)
        served = Served(server, tmp_path, labels)
        mended = np.asarray(nib.as_closest_canonical(nib.load(out / "phantom_001.nii.gz")).dataobj).copy()
        mended[10:14, 10:14, 10:14] = 6
        assert served.post(upload(mended))[0] == 200
    store = prepare(out / "corrections", tmp_path / "store", PrepareConfig(downsample=1, test_fraction=0))
    assert store.names("train") == ["phantom_001"]
    assert (store.label_map("phantom_001").labels == 6).sum() == 64
