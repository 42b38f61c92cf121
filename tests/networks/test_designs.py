"""Networks that differ from the paper's: what each setting does, from its definition or from PyTorch's modules."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import viscera
from tests.network_designs import DESIGNS
from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.networks.unet3d import ResidualBlock, UNet3D


def network_of(**settings: Any) -> UNet3D:
    """Of seed 0, with scales and shifts of normalisation unlike those that it begins with."""
    torch.manual_seed(0)
    network = UNet3D(1, 3, 4, 3, design=NetworkConfig(**settings))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d | nn.InstanceNorm3d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return network


def windows(number: int = 2) -> Tensor:
    return torch.rand(number, 1, 8, 12, 8, generator=torch.Generator().manual_seed(1))


def test_the_papers_network_has_the_names_and_the_weights_that_it_had() -> None:
    """In the words of the modules alone: two convolutions a level, each normalised, as checkpoints have them."""
    torch.manual_seed(0)
    names = list(UNet3D(1, 3, 2, 2).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    block = ["0.weight", "0.bias", *(f"1.{n}" for n in norm), "3.weight", "3.bias", *(f"4.{n}" for n in norm)]
    blocks = {prefix: [f"{prefix}.{name}" for name in block] for prefix in ("down.0", "down.1", "merge.0")}
    assert names == [
        *(*blocks["down.0"], *blocks["down.1"], "up.0.weight"),
        *(*blocks["merge.0"], "head.weight", "head.bias"),
    ]


@torch.no_grad()
def test_instance_normalisation_is_over_the_voxels_of_each_window_and_channel() -> None:
    block = network_of(normalisation="instance").down[1]
    convolution, norm = block[0], block[1]  # type: ignore[index]
    x = convolution(torch.rand(2, 8, 4, 6, 4))
    mean, variance = x.mean(dim=(2, 3, 4), keepdim=True), x.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
    scale, shift = (each.view(-1, 1, 1, 1) for each in (norm.weight, norm.bias))
    assert torch.allclose(norm(x), (x - mean) / (variance + 1e-5).sqrt() * scale + shift, atol=1e-5)


@pytest.mark.parametrize("name", ["instance", "group", "residual instance"])
@torch.no_grad()
def test_without_batch_normalisation_a_window_does_not_see_its_neighbours_and_is_applied_as_trained(name: str) -> None:
    network, x = network_of(**DESIGNS[name]).train(), windows()
    trained = network(x)
    assert torch.allclose(network(x[1:])[0], trained[1], atol=1e-5)
    assert torch.equal(network.eval()(x), trained)
    assert not list(network.buffers())
    batch = network_of().train()
    assert not torch.allclose(batch(x[1:])[0], batch(x)[1], atol=1e-2)


@torch.no_grad()
def test_as_many_groups_as_channels_are_instances_and_one_group_is_a_layer() -> None:
    """Wu and He, ECCV 2018, section 3.1: of one convolution's output, with the same scale and shift."""
    x = torch.rand(2, 4, 5, 6, 7)
    instance = network_of(normalisation="instance").down[0][1]  # type: ignore[index]
    groups = {number: network_of(normalisation="group", groups=number).down[0][1] for number in (1, 4)}  # type: ignore[index]
    for group in groups.values():
        group.load_state_dict(instance.state_dict())
    assert torch.allclose(groups[4](x), instance(x), atol=1e-5)
    layer = nn.functional.layer_norm(x, x.shape[1:])
    shaped = (each.view(-1, 1, 1, 1) for each in (instance.weight, instance.bias))
    scale, shift = shaped
    assert torch.allclose(groups[1](x), layer * scale + shift, atol=1e-5)


def test_all_normalisations_have_as_many_parameters() -> None:
    counts = {name: sum(p.numel() for p in network_of(**DESIGNS[name]).parameters()) for name in ("instance", "group")}
    assert set(counts.values()) == {sum(p.numel() for p in network_of().parameters())}


def test_keras_constants_are_those_of_every_normalisation() -> None:
    for name in ("instance", "group"):
        network = UNet3D(1, 3, 4, 2, "keras", design=NetworkConfig(**DESIGNS[name]))
        norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm3d | nn.GroupNorm)]
        assert {norm.eps for norm in norms} == {1e-3}
        assert len(norms) == 6


@pytest.mark.parametrize(("name", "settings"), DESIGNS.items())
def test_any_size_comes_out_as_it_went_in(name: str, settings: dict[str, Any]) -> None:
    del name
    with torch.no_grad():
        assert network_of(**settings)(torch.rand(2, 1, 9, 13, 10)).shape == (2, 3, 9, 13, 10)


def test_a_library_user_finds_it_by_name() -> None:
    network = viscera.UNet3D(1, 8, 2, 2, design=viscera.NetworkConfig(normalisation="instance"))
    assert any(isinstance(module, nn.InstanceNorm3d) for module in network.modules())


def test_a_design_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInputError, match="design: 8 groups of channels do not divide 4 filters"):
        network_of(normalisation="group", groups=8)


@torch.no_grad()
def test_without_reach_along_an_axis_its_planes_are_apart() -> None:
    """A law: kernels and strides of 1 along K make a network of planes, each as if it were alone."""
    network = network_of(strides=((2, 2, 1),) * 2, kernels=((3, 3, 1),) * 3).eval()
    x = windows()
    together = network(x)
    assert torch.allclose(torch.cat([network(x[..., k : k + 1]) for k in range(8)], dim=-1), together, atol=1e-5)
    across = network_of().eval()
    assert not torch.allclose(across(x[..., :1])[..., 0], across(x)[..., 0], atol=1e-3)


def test_convolutions_have_the_parameters_of_their_kernels() -> None:
    """Channels 1, 4, 8 | 8, 16 | 16, 32 down; raised 32 and 16; merged 32 + 16 to 16, 16 + 8 to 8: by hand."""
    network = network_of(**DESIGNS["anisotropic"])
    top, middle, lowest = 3 * 3 * 1, 5 * 3 * 3, 3 * 3 * 3
    down = (1 * 4 + 4 * 8) * top + (8 * 8 + 8 * 16) * middle + (16 * 16 + 16 * 32) * lowest
    raised = 16 * 16 * (2 * 2 * 1) + 32 * 32 * (2 * 1 * 2)
    merged = (24 * 8 + 8 * 8) * top + (48 * 16 + 16 * 16) * middle
    weights = [p for name, p in network.named_parameters() if name.endswith("weight") and p.ndim == 5]
    assert sum(p.numel() for p in weights) == down + raised + merged + 8 * 3


@torch.no_grad()
def test_levels_have_the_voxels_of_their_strides_and_inputs_are_padded_to_them() -> None:
    """9×13×10 to multiples of 4, 2 and 2: 12×14×10; by strides of 2×2×1 and 2×1×2."""
    network = network_of(**DESIGNS["anisotropic"])
    seen: list[tuple[int, ...]] = []
    for block in network.down:
        block.register_forward_hook(lambda _block, _inputs, found: seen.append(tuple(found.shape[2:])))
    assert network(torch.rand(1, 1, 9, 13, 10)).shape == (1, 3, 9, 13, 10)
    assert seen == [(12, 14, 10), (6, 7, 10), (3, 7, 5)]


def test_the_papers_strides_and_kernels_may_be_written_out() -> None:
    explicit = network_of(strides=((2, 2, 2),) * 2, kernels=((3, 3, 3),) * 3)
    plain = network_of()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in explicit.state_dict().items())
    assert torch.equal(explicit(windows()), plain(windows()))


@torch.no_grad()
def test_a_residual_block_by_the_functions_of_pytorch() -> None:
    """Stride in the first convolution and, as a mean over 2×2×1 voxels, before the 1³ convolution of the shortcut."""
    torch.manual_seed(0)
    block, x = ResidualBlock(NetworkConfig(), (3, 5), (2, 2, 1), (3, 3, 1)).eval(), torch.randn(2, 3, 8, 6, 5)
    weights = block.state_dict()

    def normalised(y: Tensor, name: str) -> Tensor:
        nn.init.uniform_(weights[f"{name}.running_var"], 0.5, 2)
        return F.batch_norm(
            y, *(weights[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
        )

    first = F.conv3d(x, weights["first.0.weight"], weights["first.0.bias"], stride=(2, 2, 1), padding=(1, 1, 0))
    first = F.relu(normalised(first, "first.1"))
    second = F.conv3d(first, weights["second.0.weight"], weights["second.0.bias"], padding=(1, 1, 0))
    means = x.view(2, 3, 4, 2, 3, 2, 5).mean(dim=(3, 5))
    shortcut = F.conv3d(means, weights["shortcut.0.weight"])
    expected = F.relu(normalised(second, "second.1") + normalised(shortcut, "shortcut.1"))
    assert torch.allclose(block(x), expected, atol=1e-5)


@torch.no_grad()
def test_a_residual_block_whose_convolutions_say_nothing_is_its_input() -> None:
    block, x = ResidualBlock(NetworkConfig(), (4, 4), (1, 1, 1), (3, 3, 3)), torch.randn(2, 4, 5, 6, 7)
    nn.init.zeros_(block.second[1].weight)  # type: ignore[arg-type]
    before = x.clone()
    assert torch.equal(block(x), before.clamp(min=0))
    assert torch.equal(x, before)
    assert not list(block.shortcut)


def test_a_residual_encoder_has_the_parameters_of_its_blocks() -> None:
    """Stem 1 to 4; blocks 4-8 | 8-16, 16-16 | 16-32, 32-32, 32-32; 27 elements, shortcuts of 1: by hand."""
    network = network_of(**DESIGNS["residual"])
    stem = 1 * 4 * 27
    blocks = (4 * 8 + 8 * 8) + (8 * 16 + 3 * 16 * 16) + (16 * 32 + 5 * 32 * 32)
    shortcuts = 4 * 8 + 8 * 16 + 16 * 32
    weights = [p for name, p in network.down.named_parameters() if name.endswith("weight") and p.ndim == 5]
    assert sum(p.numel() for p in weights) == stem + 27 * blocks + shortcuts
    assert [len(list(level)) for level in network.down] == [1 + 1, 2, 3]  # type: ignore[call-overload]
    plain = network_of()
    assert {k: v.shape for k, v in network.merge.state_dict().items()} == {
        k: v.shape for k, v in plain.merge.state_dict().items()
    }


@torch.no_grad()
def test_deep_supervision_changes_no_weight_and_no_logit_but_adds_some() -> None:
    torch.manual_seed(0)
    plain = UNet3D(1, 3, 4, 4)
    torch.manual_seed(0)
    deep = UNet3D(1, 3, 4, 4, design=NetworkConfig(deep_supervision=True))
    ours, theirs = deep.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    below = {f"lower_heads.{n}.{each}" for n in range(2) for each in ("weight", "bias")}  # of levels 1 and 2
    assert ours.keys() - theirs.keys() == below
    x = torch.rand(2, 1, 17, 8, 10)
    assert torch.equal(deep.eval()(x), plain.eval()(x))
    assert [tuple(each.shape) for each in deep.logits_of_levels(x)] == [
        *((2, 3, 17, 8, 10), (2, 3, 9, 4, 5), (2, 3, 5, 2, 3))
    ]
    assert torch.equal(deep.logits_of_levels(x)[0], plain(x))
    assert len(plain.logits_of_levels(x)) == 1


@torch.no_grad()
def test_lower_logits_are_a_convolution_of_what_is_merged_there() -> None:
    network, merged = network_of(deep_supervision=True).eval(), []
    network.merge[1].register_forward_hook(lambda _module, _inputs, found: merged.append(found))
    _, lower = network.logits_of_levels(windows())
    head = network.lower_heads[0]
    assert torch.allclose(lower, F.conv3d(merged[0], head.weight, head.bias), atol=1e-6)  # type: ignore[arg-type]


@torch.no_grad()
def test_channels_that_are_left_out_say_nothing_and_the_others_more() -> None:
    """As if the lowest level's channels had been multiplied by hand; None leaves them as they are."""
    network, x = network_of().eval(), windows()
    kept = torch.tensor([[0.0, 2.0] * 16, [2.0, 0.0] * 16])
    with_dropout, plain = network(x, kept), network(x)
    assert torch.equal(network(x, torch.ones(2, 32)), plain)
    network.down[2].register_forward_hook(lambda _module, _inputs, found: found * kept.view(2, 32, 1, 1, 1))
    assert torch.equal(network(x), with_dropout)
    assert not torch.allclose(with_dropout, plain, atol=1e-3)
