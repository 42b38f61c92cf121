"""The page as Chromium shows it from disk: it sorts, folds, reads off, turns, and complains of nothing."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import rgb_to_hsv
from matplotlib.image import imread

pytest.importorskip("websockets", reason="speaks to Chromium")
from tests.chromium import CHROMIUM, Page, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's `chromium` on PATH: apt-get install chromium")
COLUMN = "[...document.querySelectorAll('#table1 tbody:first-of-type tr')].map(row => row.cells[{}].dataset.value)"
SUMMARY = "[...document.querySelectorAll('#table1 tbody:last-of-type th')].map(head => head.innerText.slice(0, 3))"


@pytest.fixture(scope="module")
def shown(hostile_page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text(hostile_page, encoding="utf-8")
    with browser(folder / "profile") as started, started.page() as page:
        page.size(1280, 900)
        page.open((folder / "index.html").as_uri())
        page.run("document.documentElement.style.scrollBehavior = 'auto'")  # a test waits for no motion
        yield page
        assert page.heard() == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


def column(page: Page, number: int) -> list[str]:
    found: list[str] = page.run(COLUMN.replace("{}", str(number)))
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(shown: Page, width: int) -> None:
    shown.size(width, 900)
    assert shown.run("document.documentElement.scrollWidth") <= width
    assert shown.run("Math.min(...[...document.querySelectorAll('main img')].map(image => image.naturalWidth))") > 0
    assert shown.run("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    shown.size(1280, 900)


def test_pictures_and_headline_are_on_the_first_screen(shown: Page) -> None:
    bottoms = "[...document.querySelectorAll('.gallery:not(.stills) img')].map(i => i.getBoundingClientRect().bottom)"
    assert max(shown.run(bottoms)) < 900


def test_a_click_sorts_the_classes_and_leaves_the_summary_below(shown: Page) -> None:
    before = column(shown, 1)
    assert before == ["99.9", "80.4", "78.6", "96.5", "94.7", "96.3", "77.3", "82.7"]  # the paper's
    click = "document.querySelectorAll('#table1 thead th')[1].querySelector('button').click()"
    shown.run(click)
    assert column(shown, 1) == sorted(before, key=float, reverse=True)
    assert shown.run("document.querySelectorAll('#table1 thead th')[1].getAttribute('aria-sort')") == "descending"
    assert shown.run(SUMMARY) == ["AVG", "MAX", "MIN", "For"]
    shown.run(click)
    assert column(shown, 1) == sorted(before, key=float)
    shown.run(click)
    assert column(shown, 1) == before


def test_a_link_opens_the_folded_section_that_it_leads_to(shown: Page) -> None:
    assert not shown.run("document.querySelector('#cost').open")
    shown.run("location.hash = '#cost'")
    shown.wait("document.querySelector('#cost').open")
    assert shown.run("document.querySelector('#cost').getBoundingClientRect().top") < 900


def test_printing_opens_all_and_closes_it_again(shown: Page) -> None:
    shut = "document.querySelectorAll('details:not([open])').length"
    before = shown.run(shut)
    assert before > 5
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert shown.run(shut) == 0
    shown.run("dispatchEvent(new Event('afterprint'))")
    assert shown.run(shut) == before


def test_a_chart_tells_the_values_under_the_cursor(shown: Page) -> None:
    """The curve of the tests: Dice rises by 0.3, loss falls by 0.2 in 100 steps; on the test cases the paper's mean."""
    shown.run("document.querySelector('.chart').scrollIntoView({block: 'center'})")
    x, y, wide = shown.run(
        "(() => { const r = document.querySelector('.chart').getBoundingClientRect(); return [r.x, r.y, r.width]; })()"
    )
    shown.mouse("mouseMoved", x + 0.95 * wide, y + 60, buttons=0)
    shown.wait("document.querySelector('.chart .read')")
    said = shown.run("document.querySelector('.chart .read').innerText").replace("\N{MINUS SIGN}", "-").split()
    assert said == ["step", "300", "training", "patches", "0.900", "test", "cases", "0.866", "loss", "-0.6"]
    shown.mouse("mouseMoved", 5, 5, buttons=0)
    shown.wait("!document.querySelector('.chart .read')")
    shown.run("document.querySelector('.chart').focus()")
    shown.press("ArrowRight")
    shown.press("ArrowRight")
    assert shown.run("document.querySelector('.chart .read b').innerText") == "step 100"
    shown.press("Escape")
    assert not shown.run("document.querySelector('.chart .read')")


def test_dark_and_light_follow_the_system_and_the_button(shown: Page) -> None:
    page_colour = "getComputedStyle(document.body).backgroundColor"
    for scheme, colour in (("dark", "rgb(17, 21, 27)"), ("light", "rgb(246, 247, 249)")):
        shown.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert shown.run(page_colour) == colour
    shown.run("document.querySelector('.theme').click()")
    assert shown.run(page_colour) == "rgb(17, 21, 27)"
    shown.call("Emulation.setEmulatedMedia", media="print")
    assert shown.run("getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 36, 48)"  # ink on paper
    shown.call("Emulation.setEmulatedMedia", media="")
    shown.run("document.querySelector('.theme').click()")
    assert shown.run(page_colour) == "rgb(246, 247, 249)"


def test_a_picture_is_enlarged_and_the_arrows_go_through_the_arms(shown: Page) -> None:
    shown.run("document.querySelector('.enlarge').click()")
    caption = "document.querySelector('dialog.enlarged[open] span').textContent"
    assert shown.run(caption) == "ground truth"
    shown.press("ArrowRight")
    assert shown.run(caption).startswith("uniform, rate 0.001")
    shown.press("Escape")
    shown.wait("!document.querySelector('dialog[open]')")


Pixels = npt.NDArray[np.float32]


def canvas_of(page: Page) -> Pixels:
    """What the canvas of the surfaces shows, without the ring of the focus; RGB, 0 to 1."""
    x, y, width, height = page.run(
        "(() => { const r = document.querySelector('.turn canvas').getBoundingClientRect();"
        "return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })()"
    )
    frame = {"x": x + 4, "y": y + 4, "width": width - 8, "height": height - 8, "scale": 1}
    png = base64.b64decode(page.call("Page.captureScreenshot", format="png", clip=frame)["data"])
    pixels: Pixels = imread(io.BytesIO(png))[..., :3]
    return pixels


def until(page: Page, holds: Callable[[Pixels], bool]) -> Pixels:
    """The canvas as soon as it shows what is awaited: a browser draws when it has time."""
    deadline = time.monotonic() + 10
    while not holds(shown := canvas_of(page)):
        assert time.monotonic() < deadline
    return shown


def colours_of(pixels: Pixels) -> tuple[set[int], set[int]]:
    """Hues, in steps of 30 degrees, of the saturated pixels in the left and the right half."""
    hsv = rgb_to_hsv(pixels)
    strong = (hsv[..., 1] > 0.4) & (hsv[..., 2] > 0.3)
    hue, middle = (hsv[..., 0] * 12).astype(int), pixels.shape[1] // 2
    return set(hue[:, :middle][strong[:, :middle]].tolist()), set(hue[:, middle:][strong[:, middle:]].tolist())


def test_surfaces_turn_and_organs_go_on_and_off(shown: Page) -> None:
    """Ground truth on the left, the arm of highest Dice on the right; the last arm predicts nothing."""
    shown.run("document.querySelector('#segmentations').scrollIntoView()")
    shown.run("document.querySelector('.turn canvas').focus()")
    assert not shown.run("document.querySelector('[data-stills]').open")
    # artery, veins, liver, spleen, stomach, gallbladder and pancreas; the arm on the right is perfect
    front = until(shown, lambda now: len(colours_of(now)[0]) >= 4 and len(set(map(frozenset, colours_of(now)))) == 1)

    def moved(now: Pixels) -> float:
        return float(np.abs(now - front).mean())

    shown.press("ArrowRight")
    until(shown, lambda now: moved(now) > 0.005)
    shown.press("0")
    until(shown, lambda now: moved(now) < 0.0005)
    x, y = shown.run(
        "(() => { const r = document.querySelector('.turn canvas').getBoundingClientRect(); return [r.x, r.y]; })()"
    )
    shown.drag((x + 300, y + 100), (x + 360, y + 100), (x + 400, y + 120))
    until(shown, lambda now: moved(now) > 0.005)
    each = "document.querySelectorAll('[data-organ]').forEach(button => button.click())"
    shown.run(each)
    until(shown, lambda now: colours_of(now) == (set(), set()))
    shown.run(each)
    choose = "arm => { arm.value = 5; arm.dispatchEvent(new Event('change')); }"
    shown.run(f"({choose})(document.querySelector('.turn select'))")
    until(shown, lambda now: len(colours_of(now)[0]) >= 4 and not colours_of(now)[1])


def test_without_webgl_the_still_pictures_stay(hostile_page: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(hostile_page, encoding="utf-8")
    with browser(tmp_path / "profile", "--disable-3d-apis") as started, started.page() as page:
        page.size(1280, 900)
        page.open((tmp_path / "index.html").as_uri())
        page.run("document.querySelector('#segmentations').scrollIntoView({behavior: 'instant'})")
        page.run("new Promise(done => setTimeout(done, 300))")
        assert page.run("document.querySelector('.turn').hidden")
        assert page.run("document.querySelector('[data-stills]').open")


def test_the_browser_test_sees_what_is_broken(tmp_path: Path) -> None:
    broken = '<img src="none.png"><div style="width:500px">wide</div><script>console.error("oh")</script>'
    (tmp_path / "index.html").write_text(f"<!doctype html><body>{broken}</body>", encoding="utf-8")
    with browser(tmp_path / "profile") as started, started.page() as page:
        page.size(390, 900)
        page.open((tmp_path / "index.html").as_uri())
        assert page.run("document.documentElement.scrollWidth") > 390
        heard = " ".join(page.heard())
        assert "oh" in heard
        assert "none.png" in heard
