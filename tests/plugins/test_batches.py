import pytest
import torch

from viscera.core.errors import BadInputError
from viscera.plugins.batches import as_volumes, class_numbers, class_numbers_of_one_hot


class Tagged(torch.Tensor):
    """A Tensor that knows more, as MONAI's MetaTensor does."""


def test_slices_become_volumes_one_voxel_thick() -> None:
    assert as_volumes(torch.zeros(2, 3, 4, 5)).shape == (2, 3, 4, 5, 1)
    assert as_volumes(torch.zeros(2, 3, 4, 5, 6)).shape == (2, 3, 4, 5, 6)


def test_a_subclass_becomes_a_plain_tensor() -> None:
    assert type(as_volumes(torch.zeros(1, 1, 2, 2, 2).as_subclass(Tagged))) is torch.Tensor


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float32, torch.bool])
def test_class_numbers_of_any_type(dtype: torch.dtype) -> None:
    numbers = class_numbers(torch.tensor([0, 1, 1]).to(dtype))
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [0, 1, 1]


@pytest.mark.parametrize("number", [0.5, float("nan")])
def test_numbers_that_are_not_whole_are_refused(number: float) -> None:
    with pytest.raises(BadInputError, match="not whole"):
        class_numbers(torch.tensor([0.0, number]))


def test_one_hot() -> None:
    # three voxels in a row, of the classes 2, 0, 1
    one_hot = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).view(1, 3, 3, 1, 1)
    assert class_numbers_of_one_hot(one_hot).flatten().tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "voxel",
    [
        [0.25, 0.75],  # soft
        [1, 1],  # two classes
        [0, 0],  # none
        [2, -1],  # sums to 1, but is no code
    ],
)
def test_other_codes_are_refused(voxel: list[float]) -> None:
    with pytest.raises(BadInputError, match="not a one-hot code"):
        class_numbers_of_one_hot(torch.tensor(voxel).view(1, 2, 1, 1, 1))
