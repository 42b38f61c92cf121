"""The most probable class: worked by hand, and against PyTorch's own answer."""

import pytest
import torch

from viscera.core.anatomy import MOST_CLASSES
from viscera.imaging.most_probable import most_probable


def test_worked_by_hand_a_tie_is_of_the_first() -> None:
    scores = torch.tensor([[0.25, 0.1, 0.5], [0.5, 0.1, 0.5], [0.25, 0.8, 0.0]])
    found = most_probable(scores)
    assert found.score.tolist() == [0.5, pytest.approx(0.8), 0.5]
    assert found.label.tolist() == [1, 2, 0]
    assert found.label.dtype == torch.uint8


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # of the latter many are equal
def test_it_says_what_max_says(dim: int, dtype: torch.dtype) -> None:
    scores = torch.randn((8, 9, 10), generator=torch.Generator().manual_seed(0)).to(dtype)
    found, expected = most_probable(scores, dim), scores.max(dim)
    assert torch.equal(found.score, expected.values)
    for label, at in zip(
        found.label.flatten(),
        (scores == expected.values.unsqueeze(dim)).movedim(dim, -1).reshape(-1, scores.shape[dim]),
        strict=True,
    ):
        assert label == at.nonzero()[0, 0]


def test_as_many_classes_as_a_label_map_holds() -> None:
    assert most_probable(torch.eye(MOST_CLASSES)).label.tolist() == list(range(MOST_CLASSES))


def test_a_label_is_one_of_the_classes_also_where_scores_are_no_numbers() -> None:
    found = most_probable(torch.tensor([[float("nan")], [1.0]]))
    assert found.score.isnan().all()
    assert found.label.item() < 2
