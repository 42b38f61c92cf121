"""Temperature and entropy of class probabilities, by hand and as laws."""

import math

import pytest
import torch

from viscera.imaging.probabilities import entropy, tempered


def test_a_temperature_divides_the_logits() -> None:
    logits = 4 * torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 1.0, 2.5):
        found = tempered(torch.softmax(logits, dim=0), temperature)
        torch.testing.assert_close(found, torch.softmax(logits / temperature, dim=0), rtol=1e-4, atol=1e-6)
        assert (found.argmax(dim=0) == logits.argmax(dim=0)).all()
    given = torch.softmax(logits, dim=0)
    before = given.clone()
    tempered(given, 3.0)
    assert torch.equal(given, before)


def test_a_class_without_any_probability_stays_the_least() -> None:
    found = tempered(torch.tensor([0.0, 0.25, 0.75]), 2.0)
    assert found.tolist() == pytest.approx([0, 1 / (1 + math.sqrt(3)), math.sqrt(3) / (1 + math.sqrt(3))], abs=1e-6)


def test_entropy_by_hand() -> None:
    # one class has all; all are equal; two of four are: log 2 / log 4
    probabilities = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]]).T
    assert entropy(probabilities).tolist() == pytest.approx([0, 1, 0.5])
