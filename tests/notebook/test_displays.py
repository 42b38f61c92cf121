"""What notebooks show: pictures that are pictures, numbers worked by hand, names that cannot become HTML."""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

import viscera
from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, Volume
from viscera.io.runlog import RunFolder, StudyFolder
from viscera.io.store import Store
from viscera.notebook.displays import html_of

GEOMETRY = Geometry.from_spacing((20, 16, 12), (2, 2, 5))


def pictures(html: str) -> list[np.ndarray]:
    """The pictures inside, as RGB."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in found]


def test_a_scan_shows_three_planes_and_its_range() -> None:
    hu = np.full((20, 16, 12), -1000, np.int16)
    hu[5:15, 4:12, 3:9] = 60
    html = html_of(Volume(hu, GEOMETRY))
    assert "20×16×12 voxels of 2×2×5 mm, -1,000 to 60 HU" in html
    (picture,) = pictures(html)
    assert {0, 255} <= set(np.unique(picture).tolist())


def test_a_label_map_shows_volumes() -> None:
    labels = np.zeros((20, 16, 12), np.uint8)
    labels[5:15, 4:12, 3:9] = 3  # 480 voxels of 20 mm³
    html = html_of(LabelMap(labels, GEOMETRY))
    assert "liver</td><td>10 mL" in html
    assert len(pictures(html)) == 1
    labels[0, 0, 0] = 40
    assert "class 40</td><td>0 mL" in html_of(LabelMap(labels, GEOMETRY))
    assert "Volumes are of what is labelled" not in html_of(LabelMap(labels, GEOMETRY))
    labels[0] = 255
    assert "Volumes are of what is labelled" in html_of(LabelMap(labels, GEOMETRY))
    assert "<td>" not in html_of(LabelMap(np.full_like(labels, 255), GEOMETRY))  # nobody labelled it


def test_a_store_shows_cases_and_counts(tiny_store: Store) -> None:
    html = html_of(tiny_store)
    assert "4 train, 1 validation, 1 test" in html
    assert f"{tiny_store.voxel_counts()[3]:,}" in html
    assert len(pictures(html)) == 4


def test_a_run_shows_its_curve_and_how_far_it_is(tiny_run: Path) -> None:
    html = html_of(viscera.Run(tiny_run))
    assert "step 6 of 6, finished" in html
    assert len(pictures(html)) == 1
    assert "not begun" in html_of(RunFolder(tiny_run.parent / "nowhere"))


def test_what_is_no_study_is_a_sentence(tmp_path: Path) -> None:
    named = tmp_path / "<script>"
    named.mkdir()
    html = html_of(StudyFolder(named))
    assert "this is not a study" in html or "is not a study" in html
    assert "<script>" not in html


def test_paths_may_be_text(tiny_run: Path, tiny_store: Store) -> None:
    assert viscera.Run(str(tiny_run)).read_status() is not None
    assert viscera.Store.open(str(tiny_store.path)).names() == tiny_store.names()


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_a_shell_shows_them_by_itself(shell: InteractiveShell, tiny_run: Path) -> None:
    done: Any = shell.run_cell(f"import viscera\nviscera.Run({str(tiny_run)!r})")  # type: ignore[no-untyped-call]
    assert done.success
    formatter: Any = shell.display_formatter
    data, _ = formatter.format(done.result)
    assert "step 6 of 6" in data["text/html"]
