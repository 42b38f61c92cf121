"""What the scores are timed on: predictions as a network makes them, and values that must agree."""

import numpy as np
import pytest

from benchmarks.bench_surface import refuse_other_values
from benchmarks.predicted_organs import predicted_organs, with_lost_pieces, with_specks
from viscera.metrics.scoring import score


def test_a_prediction_is_about_as_good_as_a_networks() -> None:
    prediction, truth = predicted_organs((96, 96, 64))
    dice = {each.organ: each.value for each in score(prediction, truth)}
    assert all(0.5 < (value or 0) < 1 for value in dice.values()), dice
    assert (dice["liver"] or 0) > 0.9
    worse = {each.organ: each.value for each in score(with_lost_pieces(prediction), truth)}
    assert (worse["liver"] or 0) < (dice["liver"] or 0)
    changed = np.mean(with_specks(prediction).labels != prediction.labels)
    assert 0.01 < changed < 0.02  # two in a hundred, of which one in eight has the label that it had


def test_other_values_are_refused() -> None:
    assert refuse_other_values([1.0, 2.0], [1.0, 2.0 + 5e-7], "peer") == pytest.approx(5e-7)
    for other in ([1.0, 2.1], [1.0, np.inf]):
        with pytest.raises(ValueError, match="peer: values differ"):
            refuse_other_values([1.0, 2.0], other, "peer")
