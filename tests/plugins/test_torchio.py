"""Cases as TorchIO's subjects and back, with TorchIO's own transforms in between."""

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.oriented_scans import OBLIQUE, affine_of
from viscera.core.errors import BadInputError
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Volume
from viscera.plugins.torchio import case_of, subject_of

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "torchio-lightning.md"
SHAPE = (6, 5, 4)


@pytest.fixture
def case() -> Case:
    """Lies obliquely, with voxels in Fortran order, as files have them."""
    random = np.random.default_rng(0)
    geometry = Geometry(SHAPE, affine_of((1, 0, 2), (-1, 1, 1), OBLIQUE, SHAPE, (0.7, 0.9, 2.7)))
    hu = np.asfortranarray(random.integers(-1000, 1500, SHAPE).astype(np.int16))
    labels = np.asfortranarray(random.integers(0, 8, SHAPE).astype(np.uint8))
    labels[0, 0, 0] = 255
    return Case("p1", Volume(hu, geometry), LabelMap(labels, geometry), unlabelled=("artery", "pancreas"))


def torchio() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("torchio", reason="torchio is not installed")


def same(one: Case, other: Case) -> None:
    np.testing.assert_array_equal(one.volume.hu, other.volume.hu)
    np.testing.assert_array_equal(one.label_map.labels, other.label_map.labels)
    np.testing.assert_array_equal(one.volume.geometry.affine, other.volume.geometry.affine)
    assert (one.name, one.unlabelled) == (other.name, other.unlabelled)


@pytest.mark.filterwarnings("ignore")
def test_there_and_back(case: Case) -> None:
    tio = torchio()
    subject = subject_of(case)
    assert isinstance(subject, tio.Subject)
    assert isinstance(subject["labels"], tio.LabelMap)
    assert (subject["image"].data.dtype, tuple(subject["image"].data.shape)) == (torch.int16, (1, *SHAPE))
    same(case_of(subject), case)


@pytest.mark.filterwarnings("ignore")
def test_torchio_sees_the_same_grid(case: Case) -> None:
    torchio()
    image = subject_of(case)["image"]
    np.testing.assert_allclose(image.spacing, case.volume.geometry.spacing_mm, rtol=1e-6)
    assert "".join(image.orientation) == case.volume.geometry.orientation


@pytest.mark.filterwarnings("ignore")
def test_its_transforms_move_scan_and_labels_alike(case: Case) -> None:
    """Twice the same flip is none."""
    tio = torchio()
    flip = tio.Flip(axes=(0, 2))
    once = case_of(flip(subject_of(case)))
    np.testing.assert_array_equal(once.volume.hu, case.volume.hu[::-1, :, ::-1])
    np.testing.assert_array_equal(once.label_map.labels, case.label_map.labels[::-1, :, ::-1])
    same(case_of(flip(flip(subject_of(case)))), case)


@pytest.mark.filterwarnings("ignore")
def test_the_code_of_the_page_runs() -> None:
    torchio()
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the page's own code
    assert names["augmented"].volume.hu.shape == names["case"].volume.hu.shape
    assert names["batch"]["image"]["data"].shape == (2, 1, 16, 16, 16)


def plain(case: Case, **changed: Any) -> dict[str, Any]:
    """As a subject without TorchIO: what is read of one."""
    images = {"image": case.volume.hu[None], "labels": case.label_map.labels[None]} | changed
    affine = case.volume.geometry.affine
    return {key: SimpleNamespace(data=value, affine=affine) for key, value in images.items()}


def test_names_and_fractions_of_hu(case: Case) -> None:
    found = case_of(plain(case, image=case.volume.hu[None] + 0.3), "other")
    np.testing.assert_array_equal(found.volume.hu, case.volume.hu)
    assert found.name == "other"
    assert case_of(plain(case)).name == "subject"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.zeros((2, *SHAPE))}, r"'image' has shape \(2, 6, 5, 4\); \(1, I, J, K\) was expected"),
        ({"image": np.full((1, *SHAPE), np.nan)}, "'image' is not HU"),
        ({"image": np.full((1, *SHAPE), 1e5)}, "'image' is not HU"),
        ({"labels": np.full((1, *SHAPE), 0.5)}, "'labels' are not class numbers"),
        ({"labels": np.full((1, *SHAPE), -1)}, "'labels' are not class numbers"),
        ({"labels": np.zeros((1, 6, 5, 5))}, "labels are 6×5×5 but the scan is 6×5×4"),
    ],
)
def test_what_is_no_case_is_refused(case: Case, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        case_of(plain(case, **changed))


def test_another_key_is_named(case: Case) -> None:
    with pytest.raises(BadInputError, match="no image 'ct' in the subject; there are: 'image', 'labels'"):
        case_of(plain(case), image="ct")


def test_without_torchio(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchio", None)
    with pytest.raises(BadInputError, match="pip install torchio"):
        subject_of(case)
