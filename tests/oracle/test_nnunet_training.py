"""nnU-Net v2 itself trains with our trainers: planned, preprocessed and trained as the page on losses says.

nnU-Net has an environment of its own, `.venv-bench`, which `make install-bench` builds; without it these tests are
skipped.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

import viscera
from tests.bench_environment import BENCH, ROOT

BASH = shutil.which("bash") or "bash"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BENCH / "nnUNetv2_train").exists(), reason=f"no nnU-Net in {BENCH}: make install-bench"),
]

CLASSES = ["background", "artery", "portal_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas"]


def run(script: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [BASH, "-euo", "pipefail", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def python(script: str, argument: Path, environment: dict[str, str]) -> str:
    return run(f"python - {shlex.quote(str(argument))} <<'END'\n{script}\nEND", environment)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, losses_page: Callable[[str], list[str]]) -> dict[str, str]:
    """nnU-Net's folders, with the page's data set in them, planned and preprocessed; the plan made very small."""
    folder = tmp_path_factory.mktemp("nnunet")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet_", "PYTHONPATH"))}
    here = outside | {
        "PATH": f"{BENCH}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
    }
    run(losses_page("bash")[0], here)
    shrink(folder / "preprocessed/Dataset900_Phantom/nnUNetPlans.json")
    return here


def shrink(path: Path) -> None:
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["patch_size"] = [16, 16, 16]
    for configuration in plans["configurations"].values():
        configuration["batch_size"] = 2
        configuration["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 16]
    path.write_text(json.dumps(plans))


def labels_of(folder: Path, case: str) -> npt.NDArray[Any]:
    return np.asanyarray(nib.load(folder / f"{case}.nii.gz").dataobj)


READ_CHECKPOINT = """
import json, sys, torch
checkpoint = torch.load(sys.argv[1], weights_only=False)
finite = all(bool(values.isfinite().all()) for values in checkpoint["network_weights"].values())
losses = [float(loss) for loss in checkpoint["logging"]["train_losses"]]
print(json.dumps([checkpoint["trainer_name"], checkpoint["current_epoch"], losses, finite]))
"""

# Writes the weights and the depths' shares of every trainer on the list, the shares of nnU-Net's own Dice trainer, and
# what regions and an ignore label meet with.
INSPECT_TRAINERS = """
import copy, json, os, pickle, sys, torch
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceLoss
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from viscera.core.errors import BadInputError
from viscera.plugins.nnunet import TRAINER_NAMES
from viscera.plugins.nnunet_trainers import viscera_trainers

folder = os.path.join(os.environ["nnUNet_preprocessed"], "Dataset900_Phantom")
plans, dataset = (json.load(open(os.path.join(folder, name))) for name in ("nnUNetPlans.json", "dataset.json"))

def loss_of(trainer, configuration, labels=None, **more):
    described = dataset | {"labels": labels or dataset["labels"], **more}
    plans_here = copy.deepcopy(plans) | {"continue_training": False}
    made = trainer(plans_here, configuration, 1, described, torch.device("cpu"))
    made.initialize()
    return made.loss

found = {}
for name in TRAINER_NAMES:
    trainer = recursive_find_trainer_class_by_name(name)
    assert trainer.__name__ == name
    loss = loss_of(trainer, "3d_fullres")
    found[name] = [loss.loss.class_weights.tolist(), loss.weight_factors, loss.loss.sums]
own = loss_of(nnUNetTrainerDiceLoss, "3d_fullres").weight_factors
simple = recursive_find_trainer_class_by_name("nnUNetTrainerVisceraSimple")
refusals = []
for labels, more in [
    ({"background": 0, "all": [1, 2, 3, 4, 5, 6, 7], "artery": 1}, {"regions_class_order": [2, 1]}),
    (dataset["labels"] | {"ignore": 8}, {}),
]:
    try:
        loss_of(simple, "3d_fullres", labels, **more)
    except BadInputError as error:
        refusals.append(str(error))
square = viscera_trainers.nnUNetTrainerVisceraSquare
kept = pickle.loads(pickle.dumps(square)) is square
json.dump({"found": found, "own": own, "refusals": refusals, "kept": kept}, open(sys.argv[1], "w"))
"""


def test_a_training_as_the_page_has_it(environment: dict[str, str], losses_page: Callable[[str], list[str]]) -> None:
    log = run(losses_page("bash")[1], environment)
    name = "nnUNetTrainerVisceraSimpleNormalised_1epoch__nnUNetPlans__3d_fullres"
    folder = Path(environment["nnUNet_results"]) / "Dataset900_Phantom" / name / "fold_0"

    # The weights are Eq. 4 on voxels counted here, from the raw labels of the training cases. The phantom is isotropic
    # and its air is at -1000 HU, not at 0, so that nnU-Net neither resamples nor crops it.
    record = json.loads((folder / "viscera_weights.json").read_text())
    preprocessed = Path(environment["nnUNet_preprocessed"]) / "Dataset900_Phantom"
    training = json.loads((preprocessed / "splits_final.json").read_text())[0]["train"]
    assert record["training_cases"] == sorted(training)
    assert len(training) == 4
    raw = Path(environment["nnUNet_raw"]) / "Dataset900_Phantom/labelsTr"
    labels = np.concatenate([labels_of(raw, case).ravel() for case in training])
    counts = [int(np.count_nonzero(labels == label)) for label in range(8)]
    assert record["classes"] == CLASSES
    assert record["voxel_counts"] == counts
    assert record["class_weights"] == pytest.approx(viscera.class_weights(counts, "simple", normalise="sum_to_L"))
    assert sum(record["class_weights"]) == pytest.approx(8)

    # It trained: with this loss (nnU-Net's own debug file names it), one epoch, to a checkpoint of this trainer; the
    # validation case, which nnU-Net predicts at the end, lies on its scan's grid.
    debug = json.loads((folder / "debug.json").read_text())
    assert "NnUNetDiceLoss" in debug["loss"]
    assert "DeepSupervisionWrapper" in debug["loss"]
    assert "Epoch 0" in log
    assert "Epoch 1" not in log
    checkpoint = python(READ_CHECKPOINT, folder / "checkpoint_final.pth", environment)
    trainer, epoch, (train_loss,), finite = json.loads(checkpoint)
    assert trainer == "nnUNetTrainerVisceraSimpleNormalised_1epoch"
    assert epoch == 1
    assert -1 <= train_loss < 0  # the weights' mean is 1, and so is the sum of the depths' shares
    assert finite
    (case,) = {path.name.removesuffix(".nii.gz") for path in raw.iterdir()} - set(training)
    predicted = labels_of(folder / "validation", case)
    assert predicted.shape == labels_of(raw, case).shape
    assert predicted.max() <= 7


def test_every_trainer_has_its_weights(environment: dict[str, str], tmp_path: Path) -> None:
    environment = environment | {"nnUNet_extTrainer": run("viscera nnunet-path", environment).strip()}
    python(INSPECT_TRAINERS, tmp_path / "found.json", environment)
    seen = json.loads((tmp_path / "found.json").read_text())
    raw = Path(environment["nnUNet_raw"]) / "Dataset900_Phantom/labelsTr"
    splits = Path(environment["nnUNet_preprocessed"]) / "Dataset900_Phantom/splits_final.json"
    training = json.loads(splits.read_text())[1]["train"]
    labels = np.concatenate([labels_of(raw, case).ravel() for case in training])
    counts = np.bincount(labels, minlength=8)
    schemes: dict[str, str | float] = {"Uniform": "uniform", "Simple": "simple", "Square": "square"}
    schemes |= {f"Power{25 * quarters:03d}": quarters / 4 for quarters in range(9)}
    assert len(seen["found"]) == 2 * len(schemes)
    for scheme, value in schemes.items():
        for normalise, suffix in (("none", ""), ("sum_to_L", "Normalised")):
            weights, shares, sums = seen["found"][f"nnUNetTrainerViscera{scheme}{suffix}"]
            expected = viscera.class_weights(counts, value, normalise=normalise)  # type: ignore[arg-type]
            assert weights == pytest.approx(expected, rel=1e-14)
            assert shares == seen["own"]
            assert sums == "sub_volume"  # the plans say batch_dice: false
    assert len(seen["refusals"]) == 2
    assert "regions overlap" in seen["refusals"][0]
    assert "ignore label" in seen["refusals"][1]
    assert seen["kept"]


def test_slices_and_any_power(environment: dict[str, str]) -> None:
    run("nnUNetv2_preprocess -d 900 -c 2d -np 1", environment)
    run(
        'export nnUNet_extTrainer="$(viscera nnunet-path)"\n'
        "nnUNetv2_train 900 2d 0 -tr nnUNetTrainerVisceraPower037Normalised_1epoch -device cpu",
        environment,
    )
    name = "nnUNetTrainerVisceraPower037Normalised_1epoch__nnUNetPlans__2d"
    folder = Path(environment["nnUNet_results"]) / "Dataset900_Phantom" / name / "fold_0"
    record = json.loads((folder / "viscera_weights.json").read_text())
    assert len(record["training_cases"]) == 4
    assert record["sums"] == "batch"  # the plans of 2d say batch_dice: true
    expected = viscera.class_weights(record["voxel_counts"], 0.37, normalise="sum_to_L")
    assert record["class_weights"] == pytest.approx(expected)
    assert (folder / "checkpoint_final.pth").exists()
