"""Labels mended with the pen in headless Chromium: drawn, saved, prepared, trained on."""

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import TINY, run
from viscera.io.store import Store
from viscera.view.given_beside import Beside
from viscera.view.open_gallery import open_gallery

pytest.importorskip("uvicorn", reason="needs starlette and uvicorn: pip install 'viscera[view]'")
pytest.importorskip("websockets", reason="needs websockets: make install")

from tests.chromium import Page
from viscera.view.view_server import ViewServer

GALLBLADDER = 6


def count(page: Page, label: int) -> int:
    number: int = page.run(f"viewer.panels[0].labels.reduce((n, each) => n + (each === {label}), 0)")
    return number


def stroke(page: Page, *points: tuple[float, float]) -> None:
    """A line over the axial slice; points are shares of the canvas."""
    left, top, width, height = page.run(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('canvas').getBoundingClientRect())"
    )
    page.drag(*((left + x * width, top + y * height) for x, y in points))


def press(page: Page, text: str) -> None:
    page.run(f"[...document.querySelectorAll('#pen button')].find((each) => each.textContent === {text!r}).click()")


def begin(page: Page) -> None:
    """The pen, with the organ that the prediction lacks, on an axial slice."""
    page.run("viewer.setView('axial')")
    page.wait("viewer.panels[0].view === 'axial'")
    press(page, "Mend labels")
    page.wait("viewer.panels[0].nv.opts.drawingEnabled")
    page.run(
        f"(() => {{ const organ = document.querySelector('#pen select'); organ.value = {GALLBLADDER}; "
        "organ.dispatchEvent(new Event('change')); })()"
    )


def test_drawn_saved_prepared_and_trained_on(
    chromium: Any, window: tuple[int, int], phantoms: Path, predicted: Path, tmp_path: Path, tiny_run: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    drawn: dict[str, int] = {}
    with ViewServer(open_gallery(out, Beside(references=phantoms))).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready")
        for name in ("phantom_001", "phantom_000"):
            page.wait(f"viewer.state.ready && viewer.state.about.name === '{name}'")
            begin(page)
            assert count(page, GALLBLADDER) == 0
            stroke(page, (0.4, 0.5), (0.45, 0.5), (0.5, 0.52))
            line = count(page, GALLBLADDER)
            assert line > 3
            press(page, "Undo")
            assert count(page, GALLBLADDER) == 0
            press(page, "Fill an outline")
            stroke(page, (0.4, 0.45), (0.55, 0.45), (0.55, 0.6), (0.4, 0.6), (0.4, 0.45))
            drawn[name] = count(page, GALLBLADDER)
            assert drawn[name] > 2 * line
            page.press("t")  # other label maps wait until it is saved
            press(page, "Save")
            page.wait("document.querySelector('#pen p').textContent.startsWith('Saved as correction 1')")
            told = page.run("document.querySelector('#pen p').textContent")
            assert f"gallbladder {drawn[name]} voxels more" in told
            assert page.run("viewer.state.about.layers.map((layer) => layer.role).join()") == (
                "prediction,correction,reference"
            )
            page.press("n")
        assert page.heard() == []
    for name, voxels in drawn.items():
        saved = np.asarray(nib.load(out / "corrections" / "labelsTr" / f"{name}.nii.gz").dataobj)
        before = np.asarray(nib.load(out / f"{name}.nii.gz").dataobj)
        assert (saved == GALLBLADDER).sum() == voxels
        np.testing.assert_array_equal(saved[saved != GALLBLADDER], before[saved != GALLBLADDER])
    store, trained = tmp_path / "store", tmp_path / "trained"
    prepared = ["--test-fraction", 0, "--downsample", 1, "--quiet"]
    assert run("prepare", out / "corrections", store, *prepared).exit_code == 0
    assert Store.open(store).names("train") == ["phantom_000", "phantom_001"]
    learnt = run("train", store, trained, *TINY, "--init-from", tiny_run, "--quiet")
    assert learnt.exit_code == 0, learnt.output
    assert (trained / "last.pt").exists()


def test_what_is_drawn_is_what_is_saved_whatever_is_pressed(
    chromium: Any, window: tuple[int, int], phantoms: Path, predicted: Path, tmp_path: Path
) -> None:
    """Keys that show other label maps wait, and so do the pen and the next case until there is an answer."""
    out, current = tmp_path / "out", tmp_path / "out" / "corrections" / "labelsTr" / "phantom_001.nii.gz"
    shutil.copytree(predicted, out)
    with ViewServer(open_gallery(out, Beside(references=phantoms))).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready")
        for number in (1, 2):  # the second begins with the first, which is not the first label map
            begin(page)
            stroke(page, (0.4, 0.4 + 0.1 * number), (0.45, 0.4 + 0.1 * number), (0.5, 0.42 + 0.1 * number))
            drawn = count(page, GALLBLADDER)
            for key in "td":
                page.press(key)
            page.run("viewer.settled()")
            assert page.run("[viewer.panels.length, viewer.panels[0].isDifference]") == [1, False]
            page.run("globalThis.asked ??= globalThis.fetch")
            page.run(  # a server that takes its time
                "globalThis.fetch = (...all) => new Promise((come) => { globalThis.go = () => come(asked(...all)); })"
            )
            press(page, "Save")
            page.wait("document.querySelector('#pen p').textContent === 'Saving …'")
            stroke(page, (0.3, 0.3), (0.35, 0.3))
            for key in "nue":
                page.press(key)
            assert page.run("viewer.state.about.name") == "phantom_001"
            assert count(page, GALLBLADDER) == drawn
            page.run("(() => { globalThis.fetch = asked; globalThis.go(); })()")
            page.wait(f"document.querySelector('#pen p').textContent.startsWith('Saved as correction {number}')")
            assert (np.asarray(nib.load(current).dataobj) == GALLBLADDER).sum() == drawn
        assert page.heard() == []


def test_labels_that_come_late_stay_with_their_case(
    chromium: Any, window: tuple[int, int], phantoms: Path, predicted: Path
) -> None:
    """Both cases are on one grid: the labels of the one would lie over the scan of the other, unseen."""
    hold = (
        "(() => { globalThis.asked = globalThis.fetch; globalThis.fetch = (path) => path.endsWith('cases/0/labels/1')"
        " ? new Promise((come) => { globalThis.go = () => come(asked(path)); }) : asked(path); })()"
    )
    own = (
        "fetch('api/cases/1/labels/1').then((each) => each.arrayBuffer()).then((each) => {"
        " const own = new Uint8Array(each); return own.every((label, at) => label === viewer.panels[1].labels[at]); })"
    )
    with ViewServer(open_gallery(predicted, Beside(references=phantoms))).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready")
        page.run(hold)
        page.press("t")
        page.wait("globalThis.go")
        page.press("n")
        page.wait("viewer.state.about.name === 'phantom_000'")
        page.run("globalThis.go()")
        page.wait("viewer.state.ready && viewer.panels.length === 2")
        assert page.run(own)
        assert page.heard() == []


def test_nothing_is_mended_while_another_case_is_on_its_way_or_cannot_be_shown(
    chromium: Any, window: tuple[int, int], phantoms: Path, predicted: Path, tmp_path: Path
) -> None:
    """The picture is still that of the case before, and would be saved as a correction of the next."""
    out = tmp_path / "out"
    shutil.copytree(predicted, out)
    fail = (
        "(() => { const asked = globalThis.fetch; globalThis.fetch = (path, ...more) => "
        "path.endsWith('cases/1/scan') ? Promise.reject(new Error('gone')) : asked(path, ...more); "
        "globalThis.confirm = () => true; })()"
    )
    with ViewServer(open_gallery(out, Beside(references=phantoms))).running() as server, chromium.page() as page:
        page.size(*window)
        page.open(server.url, "window.viewer && viewer.state.ready")
        page.run(fail)
        begin(page)
        stroke(page, (0.4, 0.5), (0.5, 0.52))
        page.press("n")
        page.wait("document.querySelector('#message').textContent === 'gone'")
        press(page, "Save")
        press(page, "Mend labels")
        assert not page.run("viewer.panels[0].nv.opts.drawingEnabled")
        assert not (out / "corrections").exists()
