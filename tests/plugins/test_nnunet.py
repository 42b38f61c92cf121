"""What the nnU-Net trainers are made of; tests/oracle/test_nnunet_training.py trains with nnU-Net itself."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from typer.testing import CliRunner

import viscera
from viscera.cli.app import app
from viscera.core.errors import BadInputError
from viscera.plugins.nnunet import TRAINER_NAMES, NnUNetDiceLoss, count_training_set, count_voxels, settings_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nnUNetTrainerVisceraUniform", ("uniform", "none", None)),
        ("nnUNetTrainerVisceraSimple", ("simple", "none", None)),
        ("nnUNetTrainerVisceraSquareNormalised", ("square", "sum_to_L", None)),
        ("nnUNetTrainerVisceraPower025", (0.25, "none", None)),
        ("nnUNetTrainerVisceraPower137Normalised_5epochs", (1.37, "sum_to_L", 5)),
        ("nnUNetTrainerVisceraSimple_1epoch", ("simple", "none", 1)),
    ],
)
def test_a_name_says_the_weighting(name: str, expected: tuple[object, ...]) -> None:
    settings = settings_of(name)
    assert settings is not None
    assert (settings.scheme, settings.normalise, settings.epochs) == expected


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainer",
        "nnUNetTrainerViscera",
        "nnUNetTrainerVisceraCubic",
        "nnUNetTrainerVisceraPower25",
        "nnUNetTrainerVisceraPower201",
        "nnUNetTrainerVisceraSimple_0epochs",
        "nnUNetTrainerVisceraSimpleX",
        "__path__",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert settings_of(name) is None


def test_every_listed_trainer_has_weights() -> None:
    # three weightings and the powers 0, 0.25 ... 2, each with and without normalisation
    assert len(TRAINER_NAMES) == len(set(TRAINER_NAMES)) == (3 + 9) * 2
    for name in TRAINER_NAMES:
        settings = settings_of(name)
        assert settings is not None
        weights = viscera.class_weights([900, 90, 10], settings.scheme, normalise=settings.normalise)
        assert np.isfinite(weights).all()


# one row of four voxels, as in tests/losses/test_dice.py: class 0 loses -8/11, class 1 loses -2/3
CLASS_1 = torch.tensor([0.8, 0.4, 0.2, 0.2], dtype=torch.float64)
LOGITS = torch.stack([1 - CLASS_1, CLASS_1]).log().view(1, 2, 4, 1, 1)
TARGET = torch.tensor([1, 1, 0, 0]).view(1, 1, 4, 1, 1)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int8, torch.float32])
@pytest.mark.parametrize("axes", [2, 3])
def test_the_loss_of_what_nnunet_passes(dtype: torch.dtype, axes: int) -> None:
    logits, target = (LOGITS, TARGET) if axes == 3 else (LOGITS[..., 0], TARGET[..., 0])
    loss = NnUNetDiceLoss([3.0, 1.0])(logits, target.to(dtype))
    assert loss.item() == pytest.approx((3 * -8 / 11 + -2 / 3) / 2, rel=1e-14)


def test_counts_of_a_segmentation() -> None:
    # two voxels outside of the mask (-1) count as background, beside the three labelled 0
    assert count_voxels(np.array([-1, -1, 0, 0, 0, 2], dtype=np.int8), 4, "case") == [5, 0, 1, 0]


def test_a_class_that_dataset_json_lacks() -> None:
    with pytest.raises(BadInputError, match="case_7: class 4"):
        count_voxels(np.array([0, 4], dtype=np.int16), 4, "case_7")


class Preprocessed:
    """A folder of preprocessed cases, and which of them have been read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.read: list[str] = []
        self.segmentations: dict[str, npt.NDArray[Any]] = {}

    def write(self, case: str, labels: list[int], written_ns: int) -> None:
        self.segmentations[case] = np.array(labels, dtype=np.int8)
        (self.folder / f"{case}.pkl").touch()
        os.utime(self.folder / f"{case}.pkl", ns=(written_ns, written_ns))

    def load(self, case: str) -> npt.NDArray[Any]:
        self.read.append(case)
        return self.segmentations[case]


@pytest.fixture
def preprocessed(tmp_path: Path) -> Preprocessed:
    cases = Preprocessed(tmp_path / "nnUNetPlans_3d_fullres")
    cases.write("a", [0, 0, 1], 1)
    cases.write("b", [0, 2, 2, -1], 1)
    cases.write("c", [1, 1, 1], 1)
    return cases


def test_counts_of_the_training_set(preprocessed: Preprocessed) -> None:
    # a and b: four of background (one of them -1), one of class 1, two of class 2; c is not in the fold
    assert count_training_set(preprocessed.folder, ["a", "b"], 3, preprocessed.load) == [4, 1, 2]
    kept = json.loads((preprocessed.folder.parent / "viscera_voxel_counts_nnUNetPlans_3d_fullres.json").read_text())
    assert {case: entry["voxels"] for case, entry in kept.items()} == {"a": [2, 1, 0], "b": [2, 0, 2]}
    assert {path.suffix for path in preprocessed.folder.iterdir()} == {".pkl"}  # a foreign file would stop nnU-Net


def test_a_case_is_counted_once(preprocessed: Preprocessed) -> None:
    count_training_set(preprocessed.folder, ["a", "b"], 3, preprocessed.load)
    assert count_training_set(preprocessed.folder, ["b", "c"], 3, preprocessed.load) == [2, 3, 2]
    assert preprocessed.read == ["a", "b", "c"]


def test_a_case_preprocessed_again_is_counted_again(preprocessed: Preprocessed) -> None:
    count_training_set(preprocessed.folder, ["a", "b"], 3, preprocessed.load)
    preprocessed.write("b", [1, 1], 2)
    assert count_training_set(preprocessed.folder, ["a", "b"], 3, preprocessed.load) == [2, 3, 0]
    assert preprocessed.read == ["a", "b", "b"]


def test_other_classes_are_counted_again(preprocessed: Preprocessed) -> None:
    count_training_set(preprocessed.folder, ["a"], 3, preprocessed.load)
    assert count_training_set(preprocessed.folder, ["a"], 4, preprocessed.load) == [2, 1, 0, 0]


@pytest.mark.parametrize("kept", [[], {"a": {"written_ns": 1}}, {"a": {"written_ns": 1, "voxels": ["x", 2, 3]}}])
def test_counts_that_were_kept_and_are_none_are_refused(preprocessed: Preprocessed, kept: object) -> None:
    path = preprocessed.folder.parent / "viscera_voxel_counts_nnUNetPlans_3d_fullres.json"
    path.write_text(json.dumps(kept))
    with pytest.raises(BadInputError, match=f"{path.name}: damaged"):
        count_training_set(preprocessed.folder, ["a"], 3, preprocessed.load)


@pytest.mark.parametrize(("cases", "message"), [([], "is empty"), (["d"], r"d\.pkl.*nnUNetv2_preprocess")])
def test_a_training_set_that_is_not_there(preprocessed: Preprocessed, cases: list[str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        count_training_set(preprocessed.folder, cases, 3, preprocessed.load)


def test_the_command_prints_the_folder_and_nothing_else() -> None:
    result = CliRunner().invoke(app, ["nnunet-path"])
    assert result.exit_code == 0
    folder = Path(result.stdout.removesuffix("\n"))
    assert folder.is_absolute()
    modules = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("[!_]*.py")}
    assert list(modules) == ["viscera_trainers"]
    # nnU-Net looks the class up with hasattr, which this answers
    assert "__getattr__" in {
        node.name for node in modules["viscera_trainers"].body if isinstance(node, ast.FunctionDef)
    }


def test_importing_viscera_imports_no_plugin_and_no_framework() -> None:
    script = (
        "import sys, viscera, viscera.losses.dice, viscera.cli.app\n"
        "print([name for name in sys.modules if name.startswith(('monai', 'nnunetv2', 'viscera.plugins'))])\n"
        "import viscera.plugins.monai, viscera.plugins.nnunet\n"
        "print([name for name in sys.modules if name.startswith(('monai', 'nnunetv2'))])\n"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == ["[]", "[]"]


def test_the_page_in_plain_pytorch(losses_page: Callable[[str], list[str]]) -> None:
    names: dict[str, Any] = {}
    exec(losses_page("python")[0], names)  # noqa: S102 - the page's own code
    labels = np.concatenate([case.label_map.labels.ravel() for case in names["cases"]])
    counts = np.array([np.count_nonzero(labels == label) for label in range(8)])
    assert names["weights"] == pytest.approx(labels.size / (8 * counts + 1))  # Eq. 4
    assert -names["weights"].mean() < names["value"].item() < 0
