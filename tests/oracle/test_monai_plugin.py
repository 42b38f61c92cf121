"""The MONAI adapter against MONAI's own losses, and in a training loop of MONAI's parts."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import viscera
from viscera.imaging.phantom import phantom_case
from viscera.plugins.monai import MonaiDiceLoss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    monai = pytest.importorskip("monai", reason="MONAI is not installed: pip install 'viscera[oracle]'")
    from monai.data import DataLoader, Dataset, MetaTensor
    from monai.losses import DiceLoss, GeneralizedDiceLoss
    from monai.networks.nets import UNet
    from monai.networks.utils import one_hot
    from monai.transforms import Compose, EnsureChannelFirstd, RandCropByPosNegLabeld, ScaleIntensityRanged
    from monai.utils import LossReduction, set_determinism

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's, of the libraries it uses

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = torch.randn(3, 8, 6, 5, 4, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.randint(0, 8, (3, 1, 6, 5, 4), generator=GENERATOR)
WEIGHTS = torch.linspace(0.5, 4, 8, dtype=torch.float64)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 1e-5])
@pytest.mark.parametrize("include_background", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_monais_minus_the_weights(
    batch: bool, smoothing: float, include_background: bool, reduction: str
) -> None:
    arguments: dict[str, Any] = {
        "include_background": include_background,
        "to_onehot_y": True,
        "softmax": True,
        "reduction": reduction,
        "smooth_nr": smoothing,
        "smooth_dr": smoothing,
        "batch": batch,
    }
    used = WEIGHTS if include_background else WEIGHTS[1:]
    constant = used.mean() if reduction == "mean" else used.sum() * (1 if batch else 3)
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    our_loss = MonaiDiceLoss(WEIGHTS, **arguments)(ours, LABELS)
    their_loss = DiceLoss(weight=used, **arguments)(theirs, LABELS)
    our_loss.backward()
    their_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item() - constant.item(), rel=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_the_defaults_are_monais() -> None:
    probabilities, target = LOGITS.softmax(dim=1), one_hot(LABELS, 8)
    ours = MonaiDiceLoss(torch.ones(8))(probabilities, target)
    assert ours.item() == pytest.approx(DiceLoss()(probabilities, target).item() - 1, rel=1e-12)


def test_metatensors_slices_and_the_enumeration() -> None:
    logits, labels = MetaTensor(LOGITS[..., 0]), MetaTensor(LABELS[..., 0].float())
    arguments: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "reduction": LossReduction.SUM}
    ours = MonaiDiceLoss(torch.ones(8), **arguments)(logits, labels)
    assert type(ours) is torch.Tensor
    theirs = DiceLoss(**arguments)(LOGITS[..., 0], LABELS[..., 0])
    assert ours.item() == pytest.approx(theirs.item() - 3 * 8, rel=1e-12)


@pytest.mark.parametrize("w_type", ["uniform", "simple", "square"])
def test_generalised_dice_agrees_where_all_classes_are_alike(w_type: str) -> None:
    # Classes of one size n; each voxel has probability 0.7 in its class and 0.1 in the three others. Every class has
    # Dice 2 * 0.7 n / (n + n) = 0.7, so that a ratio of weighted sums (MONAI) and a mean of ratios (Eq. 6) agree.
    labels = torch.arange(4).repeat_interleave(16).view(1, 1, 4, 4, 4)
    probabilities = torch.full((1, 4, 4, 4, 4), 0.1, dtype=torch.float64).scatter_(1, labels, 0.7)
    theirs = GeneralizedDiceLoss(to_onehot_y=True, w_type=w_type, smooth_nr=0, smooth_dr=0)(probabilities, labels)
    ours = MonaiDiceLoss(torch.ones(4), to_onehot_y=True, smooth_nr=0, smooth_dr=0)(probabilities, labels)
    assert ours.item() == pytest.approx(-0.7)
    assert theirs.item() == pytest.approx(1 + ours.item())


@pytest.fixture
def repeatable() -> Iterator[None]:
    set_determinism(0)
    yield
    set_determinism(None)


def dice(net: Any, image_BCIJK: torch.Tensor, labels_IJK: torch.Tensor) -> float:
    """Mean Dice of the organs."""
    with torch.no_grad():
        found = net(image_BCIJK).argmax(dim=1)[0]
    pairs = [(found == label, labels_IJK == label) for label in range(1, 8)]
    return float(np.mean([2 * int((a & b).sum()) / max(1, int(a.sum() + b.sum())) for a, b in pairs]))


@pytest.mark.usefixtures("repeatable")
def test_a_training_loop_of_monais_parts() -> None:
    both = ["image", "label"]
    cases = [phantom_case(0, number, (32, 24, 24)) for number in range(5)]
    items = [{"image": case.volume.hu.astype(np.float32), "label": case.label_map.labels} for case in cases]
    prepare = [
        EnsureChannelFirstd(both, channel_dim="no_channel"),
        ScaleIntensityRanged("image", a_min=-200, a_max=300, b_min=0, b_max=1, clip=True),
    ]
    crop = RandCropByPosNegLabeld(both, label_key="label", spatial_size=(16, 16, 16), num_samples=2)
    loader = DataLoader(Dataset(items[:4], Compose([*prepare, crop])), batch_size=2, shuffle=True)
    unseen = Compose(prepare)(items[4])
    counts = np.bincount(np.concatenate([case.label_map.labels.ravel() for case in cases[:4]]), minlength=8)

    net = UNet(spatial_dims=3, in_channels=1, out_channels=8, channels=(8, 16, 32), strides=(2, 2))
    weights = viscera.class_weights(counts, "simple")
    loss = MonaiDiceLoss(weights, to_onehot_y=True, softmax=True, batch=True, smooth_nr=0, smooth_dr=0)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    image, labels = unseen["image"][None].as_tensor(), unseen["label"][0].as_tensor()
    untrained = dice(net, image, labels)
    losses = []
    for _ in range(50):
        for batch in loader:
            optimiser.zero_grad()
            value = loss(net(batch["image"]), batch["label"])
            value.backward()
            optimiser.step()
            losses.append(value.item())

    assert len(losses) == 100
    assert np.mean(losses[-10:]) < 2 * np.mean(losses[:10]) < 0
    assert dice(net, image, labels) > untrained + 0.1


def test_the_page_in_monai(losses_page: Callable[[str], list[str]]) -> None:
    blocks = losses_page("python")
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 - the page's own code
    assert type(names["loss"]) is MonaiDiceLoss
    assert -names["weights"].mean() < names["value"].item() < 0
    assert names["label_map"].labels.shape == names["cases"][0].volume.hu.shape


@pytest.mark.parametrize("ignored", ["a few voxels", "a whole sub-volume", "everything"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("include_background", [True, False])
def test_ignored_voxels_are_ignored_as_monai_does(
    ignored: str, batch: bool, reduction: str, include_background: bool
) -> None:
    labels = LABELS.clone()
    if ignored == "everything":
        labels[:] = 255
    labels[0, :, :3] = 255
    if ignored == "a whole sub-volume":
        labels[1] = 255
    arguments: dict[str, Any] = {"to_onehot_y": True, "softmax": True, "reduction": reduction, "batch": batch}
    arguments |= {"ignore_index": 255, "include_background": include_background}
    used = WEIGHTS if include_background else WEIGHTS[1:]
    constant = used.mean() if reduction == "mean" else used.sum() * (1 if batch else 3)
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    our_loss = MonaiDiceLoss(WEIGHTS, **arguments)(ours, labels)
    their_loss = DiceLoss(weight=used, **arguments)(theirs, labels)
    our_loss.backward()
    their_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item() - constant.item(), rel=1e-10)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_metatensors_go_through_network_and_loss() -> None:
    torch.manual_seed(0)
    net, x = (
        viscera.UNet3D(1, 8, 2, 2, design=viscera.NetworkConfig(normalisation="instance")),
        torch.rand(3, 1, 6, 5, 4),
    )
    loss = viscera.WeightedDiceLoss(WEIGHTS)
    value = loss(net(MetaTensor(x)), MetaTensor(LABELS))
    value.backward()
    assert type(value) is torch.Tensor
    assert value.item() == loss(net(x), LABELS).item()
    assert all(each.grad is not None for each in net.parameters())
