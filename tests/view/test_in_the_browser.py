"""The viewer in headless Chromium: what is drawn, what keys and buttons change, and that nothing else is asked for."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from PIL import Image

from viscera.core.config import TrainConfig
from viscera.io.store import Store
from viscera.view.open_gallery import open_gallery

pytest.importorskip("uvicorn", reason="needs starlette and uvicorn: pip install 'viscera[view]'")
pytest.importorskip("websockets", reason="needs websockets: make install")

from tests.chromium import Browser, Page
from viscera.view.view_server import ViewServer

Keep = Callable[[Page, str], None]
ELEMENT = "document.querySelector(%r)"
MINUS = "\N{MINUS SIGN}"


def box_of(page: Page, element: str) -> list[float]:
    """Left, top, width and height of an element, in CSS pixels."""
    found: list[float] = page.run(
        f"(({{x, y, width, height}}) => [x, y, width, height])({element}.getBoundingClientRect())"
    )
    return found


def pixels(page: Page, selector: str = "#panels") -> np.ndarray:
    """(rows, columns, 3) of the part of the window that an element takes."""
    frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.run(f"viewer.settled().then(() => {frame})")
    x, y, width, height = map(round, box_of(page, ELEMENT % selector))
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), dtype=np.int16)
    return picture[y : y + height, x : x + width]


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels that differ visibly."""
    return float((np.abs(before - after).max(axis=2) > 12).mean())


def click(page: Page, selector: str) -> None:
    page.run(f"{ELEMENT % selector}.click()")


@pytest.fixture(autouse=True)
def _no_complaints(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, the console stays empty."""
    yield
    if "page" in request.fixturenames:
        assert request.getfixturevalue("page").heard() == []


def test_scan_labels_and_surfaces_are_drawn(page: Page, keep_screenshot: Keep) -> None:
    page.wait("viewer.panels[0].nv.meshes.length")
    seen = pixels(page)
    grey = (np.ptp(seen, axis=2) < 3) & (seen[..., 0] > 40)
    coloured = np.ptp(seen, axis=2) > 60
    assert grey.mean() > 0.03
    assert coloured.mean() > 0.03
    solid = seen[seen.shape[0] // 2 :, seen.shape[1] // 2 :]
    assert (np.ptp(solid, axis=2) > 60).mean() > 0.03  # the organs in 3D
    assert page.run("document.title") == "phantom_001 – viscera view"
    keep_screenshot(page, "view")


def test_every_plane_names_its_four_edges_and_cursor_lines_do_not_cross_the_letters(page: Page) -> None:
    page.run(
        """(() => {
          const nv = viewer.panels[0].nv, draw = nv.drawText;
          globalThis.drawn = [];
          nv.drawText = (place, text, ...more) => {
            drawn.push([text, ...place]);
            draw.call(nv, place, text, ...more);
          };
        })()"""
    )
    expected = {"a": ("axial", "APRL"), "c": ("coronal", "SIRL"), "s": ("sagittal", "SIPA")}  # as radiologists look
    for key, (view, letters) in expected.items():
        page.press(key)
        page.wait(f"viewer.state.view === '{view}'")
        page.run("drawn.length = 0")
        with_lines = pixels(page)
        page.press("x")
        without = pixels(page)
        page.press("x")
        drawn = {text: (x, y) for text, x, y in page.run("drawn")}
        top, bottom, left, right = tuple(letters)
        assert set(drawn) == set(letters), view
        assert drawn[left][0] < drawn[top][0] < drawn[right][0]
        assert drawn[top][1] < drawn[left][1] < drawn[bottom][1]
        assert changed(with_lines, without) > 0.0005
        middle_row, middle_column = (n // 2 for n in with_lines.shape[:2])
        across, down = np.s_[middle_column - 6 : middle_column + 6], np.s_[middle_row - 6 : middle_row + 6]
        for part in (np.s_[:12, across], np.s_[-12:, across], np.s_[down, :12], np.s_[down, -12:]):
            assert np.ptp(with_lines[part]) > 150  # light on dark
            assert changed(with_lines[part], without[part]) == 0
    page.run("delete viewer.panels[0].nv.drawText")
    page.press("m")
    page.wait("viewer.state.view === 'all'")


def test_the_table_has_volumes_dice_and_flags_with_their_reasons(page: Page) -> None:
    page.wait("document.querySelectorAll('#organs tr.organ').length === 7")
    texts = page.run("[...document.querySelectorAll('#organs tbody tr')].map((row) => row.textContent)")
    assert any(text.startswith("spleen") and "1.00" in text for text in texts)
    assert any(text.startswith("gallbladder") and "0.00" in text and "⚑" in text for text in texts)
    assert "not found" in texts
    assert page.run("document.querySelector('#case-list .badge').textContent") == "⚑ 1"


def test_hiding_an_organ_takes_its_colour_away_and_showing_it_brings_it_back(page: Page) -> None:
    before = pixels(page)
    click(page, "tr[data-label='3'] .eye")
    hidden = pixels(page)
    assert changed(before, hidden) > 0.01
    click(page, "tr[data-label='3'] .eye")
    assert changed(before, pixels(page)) == 0


def test_hiding_takes_a_frame(page: Page) -> None:
    took_ms = page.run(
        """(async () => {
          const times = [];
          for (let at = 0; at < 30; at++) {
            const began = performance.now();
            document.querySelector(`tr[data-label='${1 + at % 7}'] .eye`).click();
            times.push(performance.now() - began);
          }
          for (const each of document.querySelectorAll(".eye[aria-pressed='false']")) each.click();
          return times.sort((a, b) => a - b)[15];
        })()"""
    )
    assert took_ms < 100
    page.run("viewer.state.hidden.size && document.querySelector('#organs th button').click()")


def test_a_click_on_an_organ_goes_there(page: Page) -> None:
    for label in (4, 7):
        click(page, f"tr[data-label='{label}'] .jump")
        page.wait(f"viewer.panels[0].here.label === {label}")
    assert page.run("document.querySelector('#organ-here').textContent") == "pancreas"
    click(page, "tr[data-label='6'] .jump")  # which the prediction lacks, and the reference has
    page.wait("viewer.state.bitmaps.size === 2 && viewer.state.selected === 6")
    page.wait(
        "(([x, y, z], [i, j]) => viewer.state.bitmaps.get(1)[x + i * (y + j * z)] === 6)"
        "(viewer.panels[0].voxel, viewer.state.scan.shape)"
    )
    click(page, "tr[data-label='6'] .jump")


def test_hu_under_the_cursor_are_those_of_the_file(page: Page, phantoms: Path) -> None:
    image = nib.as_closest_canonical(nib.load(phantoms / "imagesTr" / "phantom_001_0000.nii.gz"))
    hu = np.asarray(image.dataobj)
    for voxel in ((20, 21, 15), (30, 12, 8), (1, 2, 3)):
        page.run(f"viewer.panels[0].moveTo({list(voxel)})")
        assert page.run("viewer.panels[0].here.hu") == hu[voxel]
        assert page.run("document.querySelector('#hu').textContent") == str(hu[voxel]).replace("-", MINUS)
        x, y, z = apply_affine(image.affine, voxel)
        place = page.run("document.querySelector('#place').textContent")
        assert place.startswith(f"R {x:.1f}  A {y:.1f}  S {z:.1f} mm")


def test_the_mouse_moves_the_cursor(page: Page) -> None:
    page.press("a")
    page.wait("viewer.state.view === 'axial'")
    page.run("viewer.panels[0].moveTo([2, 3, 16])")
    page.run("viewer.settled()")
    box = box_of(page, "document.querySelector('canvas')")
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    page.drag((x, y), (x + 60, y + 30))
    moved = page.run("viewer.panels[0].voxel")
    i, j, _ = page.run("viewer.state.scan.shape")
    assert 2 < moved[0] < i / 2 - 1  # the patient's left is on the right of the picture; R runs the other way
    assert 3 < moved[1] < j / 2 - 1
    assert moved[2] == 16
    page.press("m")
    page.wait("viewer.state.view === 'all'")


def test_keys_move_slices_and_change_views_windows_and_opacity(page: Page) -> None:
    i, j, k = (n // 2 for n in page.run("viewer.state.scan.shape"))
    page.run(f"viewer.panels[0].moveTo([{i}, {j}, {k}])")
    for key, expected in (("ArrowUp", k + 1), ("PageUp", k + 11), ("ArrowDown", k + 10), ("PageDown", k)):
        page.press(key)
        assert page.run("viewer.panels[0].voxel[2]") == expected, key
    before = pixels(page)
    for key, view in (("c", "coronal"), ("s", "sagittal"), ("r", "solid"), ("m", "all")):
        page.press(key)
        page.wait(f"document.querySelector('[data-view={view}]').getAttribute('aria-checked') === 'true'")
    assert changed(before, pixels(page)) == 0
    page.press("6")
    assert page.run("viewer.state.window.join()") == "-500,1300"
    assert page.run("document.querySelector('#window').textContent") == "L 400  W 1800"
    assert changed(before, pixels(page)) > 0.05
    page.press("1")
    for key in "lox":
        page.press(key)
        assert changed(before, pixels(page)) > 0.002, key
        page.press(key)
    page.press("]")
    assert page.run("document.querySelector('#opacity').value") == "55"
    page.press("[")
    assert changed(before, pixels(page)) < 0.001


def test_help_names_the_keys(page: Page) -> None:
    page.press("?")
    assert page.run("document.querySelector('#help').open") is True
    page.press("ArrowUp")  # is not for the pictures behind
    page.run("document.querySelector('#help form button').click()")
    assert page.run("document.querySelector('#help').open") is False


def test_prediction_and_reference_stand_side_by_side_with_one_cursor(page: Page, keep_screenshot: Keep) -> None:
    page.press("a")
    page.press("t")
    page.wait("viewer.panels.length === 2 && viewer.panels[1].labels && viewer.panels[1].view === 'axial'")
    page.wait("document.querySelectorAll('.caption .numbers').length === 1")
    page.run("viewer.panels[0].moveTo([22, 18, 14])")
    page.press("ArrowUp")
    page.wait("viewer.panels.map((panel) => panel.voxel.join()).join(' ') === '22,18,15 22,18,15'")
    second = box_of(page, "document.querySelectorAll('canvas')[1]")
    x, y = second[0] + second[2] * 0.4, second[1] + second[3] * 0.45
    page.drag((x, y), (x + 8, y + 8))
    page.wait("new Set(viewer.panels.map((panel) => panel.voxel.join())).size === 1")
    assert page.run("viewer.panels[0].voxel.join()") != "22,18,15"
    page.run("viewer.lead().moveTo(viewer.state.scan.shape.map((n) => Math.floor(n / 2)))")
    page.wait("new Set(viewer.panels.map((panel) => panel.voxel.join())).size === 1")
    before = pixels(page)
    page.press("d")
    page.wait("viewer.panels[0].isDifference && !document.querySelector('#legend').hidden")
    page.wait("document.querySelector('.caption').textContent.includes('difference')")
    assert changed(before, pixels(page)) > 0.005
    keep_screenshot(page, "view_difference")
    page.press("d")
    page.wait("document.querySelector('#legend').hidden")
    page.press("t")
    page.press("m")
    page.wait("viewer.panels.length === 1 && viewer.panels[0].view === 'all'")


def test_the_next_case_is_shown_and_the_first_again(page: Page) -> None:
    page.press("n")
    page.wait("viewer.state.ready && document.title.startsWith('phantom_000')")
    assert page.run("document.querySelector('[aria-current=true] .name').textContent") == "phantom_000"
    page.press("p")
    page.wait("viewer.state.ready && document.title.startsWith('phantom_001')")


def test_the_page_asks_nobody_else(page: Page, server: ViewServer) -> None:
    elsewhere = [url[:60] for url in page.requests if not url.startswith((server.url, "data:", "blob:", "about:"))]
    assert elsewhere == []


def test_a_store_shows_where_its_patches_fall(
    chromium: Browser, window: tuple[int, int], tiny_store: Store, keep_screenshot: Keep
) -> None:
    train = TrainConfig(patch=8, batch_size=2, iterations=50)
    with ViewServer(open_gallery(tiny_store.path), train=train).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready && document.querySelector('#patches li')")
        click(page, "#patches .link")
        page.wait(
            "viewer.state.ready && viewer.state.about.name === document.querySelector('#patches .link').textContent"
        )
        yellow = np.array([255, 214, 77])
        page.wait("document.querySelectorAll('#patches li').length === 2")
        frame = (np.abs(pixels(page) - yellow).max(axis=2) < 40).sum()
        assert frame > 300
        click(page, "#patches .row:last-child button")
        page.wait("viewer.state.heat && viewer.panels[0].labels === viewer.state.heat.bitmap")
        keep_screenshot(page, "view_store")
        assert page.heard() == []


def test_a_study_shows_a_case_through_all_arms(
    chromium: Browser, window: tuple[int, int], study: Path, keep_screenshot: Keep
) -> None:
    with ViewServer(open_gallery(study)).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready && viewer.panels.length === 4")
        page.wait("document.querySelectorAll('.caption .numbers').length === 3")
        arms = page.run("[...document.querySelectorAll('.caption')].map((each) => each.firstChild.textContent)")
        assert arms == ["reference", *(f"{each}, rate 0.001" for each in ("uniform", "simple", "square"))]
        click(page, "tr[data-label='4'] .jump")  # the spleen, which the second arm lacks
        page.wait("document.querySelector('.caption .numbers').textContent.startsWith('spleen')")
        dice = page.run("[...document.querySelectorAll('.caption .numbers')].map((each) => each.textContent)")
        assert dice == ["spleen 1.00", "spleen 0.00", "spleen 1.00"]
        page.wait("new Set(viewer.panels.map((panel) => panel.voxel.join())).size === 1")
        assert page.run("viewer.panels.map((panel) => panel.here.label)") == [4, 4, 0, 4]
        keep_screenshot(page, "view_study")
        assert page.heard() == []


def test_a_browser_without_webgl2_is_told_so(chromium: Browser, server: ViewServer) -> None:
    with chromium.page() as page:
        none = "HTMLCanvasElement.prototype.getContext = function () { return null; }"
        page.call("Page.addScriptToEvaluateOnNewDocument", source=none)
        page.open(server.url, "!document.querySelector('#message').hidden")
        assert "no WebGL2" in page.run("document.querySelector('#message').textContent")
        assert page.heard() == []


def test_what_cannot_be_read_is_a_sentence_on_the_page(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    with ViewServer(open_gallery(tmp_path)).running() as server, chromium.page() as page:
        page.open(server.url, "!document.querySelector('#message').hidden")
        assert "broken.nii.gz" in page.run("document.querySelector('#message').textContent")


def test_an_organ_that_a_large_scan_lacks_is_not_looked_for_slice_by_slice(page: Page) -> None:
    """The page stood still for the square of the slices: for 21 s of this scan."""
    milliseconds, place = page.run(
        "import(new URL('viewer.js', document.baseURI)).then(({ placeOf }) => {"
        " const labels = new Uint8Array(512 * 512 * 400), began = performance.now();"
        " placeOf(labels, [512, 512, 400], 1);"
        " labels.fill(2, 512 * 512 * 7 + 512 * 3, 512 * 512 * 7 + 512 * 3 + 5);"
        " return [performance.now() - began, placeOf(labels, [512, 512, 400], 2)]; })"
    )
    assert milliseconds < 3000
    assert place == [2, 3, 7]
