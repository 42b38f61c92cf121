"""The rule of nnU-Net's planner for strides and kernels: by hand, and against nnU-Net where it is installed."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from viscera.core.network_config import NetworkConfig
from viscera.networks.anisotropy import proposed_topology
from viscera.networks.unet3d import UNet3D

ROOT = Path(__file__).parents[2]


def test_thick_slices_are_left_alone_until_the_others_are_as_coarse() -> None:
    """Voxels of 1×1×5 mm, window 64×64×16: 1 and 2 mm are more than twice as fine as 5, 4 is not.

    The voxels of the levels are 1×1×5, 2×2×5, 4×4×5, 8×8×10, 16×16×20 mm, and the last has 4×4×4 of them.
    """
    found = proposed_topology((1, 1, 5), (64, 64, 16), 6)
    assert found.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert found.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert found.levels == 5


def test_twice_as_coarse_is_not_alike_and_an_axis_goes_on_alone_while_it_has_twelve_voxels() -> None:
    """1.5×1.5×3 mm, 48³: then 3×3×3 with 24×24×48 voxels, 12×12×24, 6×6×12; K alone is halved, to 6."""
    found = proposed_topology((1.5, 1.5, 3), (48, 48, 48), 9)
    assert found.strides == ((2, 2, 1), (2, 2, 2), (2, 2, 2), (1, 1, 2))
    assert found.kernels[:2] == ((3, 3, 1), (3, 3, 3))
    assert proposed_topology((1, 4, 4), (8, 64, 64), 9).levels == 1  # I alone, with 8


def test_cubes_are_the_papers_network() -> None:
    found = proposed_topology((3, 3, 3), (64, 64, 64), 4)
    assert found.strides == NetworkConfig().strides_of(4)
    assert found.kernels == NetworkConfig().kernels_of(4)
    assert proposed_topology((3, 3, 3), (64, 64, 64), 9).levels == 5  # 4 voxels are left


def test_what_is_proposed_can_be_built() -> None:
    found = proposed_topology((0.8, 0.8, 5), (32, 32, 16), 3)
    UNet3D(1, 3, 2, found.levels, design=NetworkConfig(strides=found.strides, kernels=found.kernels))


def test_it_is_what_nnunet_proposes() -> None:
    theirs = next(ROOT.glob(".venv-bench/lib/python*/site-packages/nnunetv2/**/network_topology.py"), None)
    if theirs is None:
        pytest.skip("nnU-Net is not installed: make install-bench")
    get_pool_and_conv_props = runpy.run_path(str(theirs))["get_pool_and_conv_props"]
    random = np.random.default_rng(0)
    for _ in range(300):
        spacing_mm = random.choice([0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 8], 3).tolist()
        window = random.integers(4, 200, 3).tolist()
        _, strides, kernels, _, _ = get_pool_and_conv_props(spacing_mm, window, 4, 99)
        found = proposed_topology(spacing_mm, window, 99)
        assert (found.strides, list(found.kernels)) == (strides[1:], list(kernels))
