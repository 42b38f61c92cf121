"""Which networks are refused, in which words."""

from typing import Any

import pytest

from viscera.core.errors import BadInputError
from viscera.core.network_config import NetworkConfig
from viscera.core.resolve import resolve_config


@pytest.mark.parametrize(
    ("train", "network", "message"),
    [
        ({"patch": 4, "batch_size": 9, "levels": 3}, {"normalisation": "instance"}, "4 voxels has one voxel left"),
        ({"patch": 4, "batch_size": 9, "levels": 3}, {"normalisation": "instance"}, "instance normalisation needs two"),
        ({"filters": 12}, {"normalisation": "group"}, "8 groups of channels do not divide 12 filters"),
        ({}, {"normalisation": "layer"}, "one of batch, instance or group was expected"),
        ({}, {"groups": 0}, "a whole number of at least 1 was expected"),
        ({"levels": 3}, {"strides": [[2, 2, 2]]}, "strides: 1 found, 2 expected, one from each of 3 levels"),
        ({"levels": 3}, {"kernels": [[3, 3, 3]] * 4}, "kernels: 4 found, 3 expected, one for each of 3"),
        ({"levels": 2}, {"strides": [[2, 2, 3]]}, "train.network.strides.0.2 = 3: 1 or 2 was expected"),
        ({"levels": 2}, {"strides": [[2, 2]]}, "strides = .*: .*three numbers for each level were expected"),
        ({"levels": 2}, {"kernels": "thick"}, "kernels = 'thick': .*three numbers for each level were expected"),
        ({"levels": 2}, {"kernels": [[3, 3, 2], [3, 3, 3]]}, "kernels.0.2 = 2: one of 1, 3, 5 or 7 was expected"),
        ({"patch": 4, "batch_size": 1, "levels": 3}, {"strides": [[2, 2, 2], [2, 2, 2]]}, "one voxel left"),
        ({"levels": 2}, {"deep_supervision": True}, "deep_supervision needs at least three levels; there are 2"),
        ({}, {"dropout": 1.0}, "a number below 1 was expected"),
        (
            {"levels": 4},
            {"encoder": "residual", "blocks": [1, 3, 4]},
            "blocks: 3 found, 4 expected, one for each level",
        ),
        ({"levels": 2}, {"encoder": "residual", "blocks": [1, 0]}, "blocks.1 = 0"),
    ],
)
def test_what_cannot_be_built_is_refused(train: dict[str, Any], network: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        resolve_config(file_values={"train": {**train, "network": network}})


def test_what_can_be_built_is_taken() -> None:
    for train, network in (
        ({"patch": 5, "batch_size": 1, "levels": 3}, {"normalisation": "instance"}),
        ({"patch": 4, "batch_size": 1, "levels": 3}, {"normalisation": "group"}),  # of several channels each
        ({"patch": 4, "batch_size": 1, "levels": 3}, {"strides": [[2, 2, 2], [2, 2, 1]]}),  # two along S
        ({"levels": 6}, {"encoder": "residual"}),
        ({"levels": 6}, {"blocks": [1]}),  # of the plain encoder
        ({"filters": 12}, {"groups": 8}),  # which says nothing of batch normalisation
    ):
        resolve_config(file_values={"train": {**train, "network": network}})


def test_the_default_is_the_papers_network() -> None:
    assert resolve_config().train.network == NetworkConfig()
    assert NetworkConfig().normalises_batches


def test_strides_and_kernels_are_the_papers_where_none_are_given() -> None:
    network = NetworkConfig()
    assert network.strides_of(3) == ((2, 2, 2), (2, 2, 2))
    assert network.kernels_of(2) == ((3, 3, 3), (3, 3, 3))
    assert [network.scale_of(level, 4) for level in range(4)] == [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8)]


def test_a_level_has_voxels_of_the_strides_above_it() -> None:
    network = NetworkConfig(strides=((2, 2, 1), (2, 1, 2)))
    assert [network.scale_of(level, 3) for level in range(3)] == [(1, 1, 1), (2, 2, 1), (4, 2, 2)]


def test_memory_is_that_of_the_level_that_needs_most() -> None:
    """In maps of the top level, of which the paper's needs three when folded, others four: by hand."""
    assert NetworkConfig().most_maps(4, 3) == 3  # below: 1 kept and 3 quarters
    assert NetworkConfig().most_maps(4, 6) == 6  # 1 kept and 6 quarters
    # half as many voxels with twice the channels: as large as that above; 1 kept and 4, then 2 kept and 4
    assert NetworkConfig(strides=((2, 1, 1), (1, 1, 2))).most_maps(3, 3) == 6
    assert NetworkConfig(strides=((2, 2, 1), (2, 2, 2))).most_maps(3, 6) == 8  # below: 1 kept and 8 halves
    assert NetworkConfig(encoder="residual").most_maps(4, 3) == 4
