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
        ({}, {"normalisation": "layer"}, "'batch', 'instance' or 'group'"),
        ({}, {"groups": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_built_is_refused(train: dict[str, Any], network: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        resolve_config(file_values={"train": {**train, "network": network}})


def test_what_can_be_built_is_taken() -> None:
    for train, network in (
        ({"patch": 5, "batch_size": 1, "levels": 3}, {"normalisation": "instance"}),
        ({"patch": 4, "batch_size": 1, "levels": 3}, {"normalisation": "group"}),  # of several channels each
        ({"filters": 12}, {"groups": 8}),  # which says nothing of batch normalisation
    ):
        resolve_config(file_values={"train": {**train, "network": network}})


def test_the_default_is_the_papers_network() -> None:
    assert resolve_config().train.network == NetworkConfig()
    assert NetworkConfig().normalises_batches
