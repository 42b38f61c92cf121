"""The arithmetic of the page `why-weights-fail`: gaps and epsilon over scale, by hand."""

import numpy as np
import pytest

from benchmarks.measured import Measured, epsilon_over_scale, gap, repeated
from viscera.core.arms import Arm
from viscera.core.resolve import resolve_config
from viscera.io.runlog import StudyRecord
from viscera.study.results import SplitSizes, StudyResult


def arm(value: float, seeds: int = 2, organ: int | None = None) -> Measured:
    values = np.full((5, seeds, 8), value)
    if organ is not None:
        values[:, :, organ] = 0.0
    return Measured(Arm(2.0, 0.001), values, None, None)


def test_a_gap_is_in_points_and_counts_when_nothing_varies() -> None:
    found = gap([arm(0.3), arm(0.5, seeds=3)], [arm(0.6)])
    assert (found.points, found.low, found.high) == pytest.approx((-20, -20, -20))
    assert found.counts
    assert str(found) == "-20.0 (-20.0 to -20.0)"
    assert not gap([arm(0.3)], [arm(0.3)]).counts


def test_background_is_no_organ_and_a_missing_organ_is_dead() -> None:
    one = arm(0.7, organ=4)
    assert one.dead == {"spleen"}
    assert one.foreground == pytest.approx(0.6)
    assert arm(0.7, organ=0).foreground == pytest.approx(0.7)


def test_seeds_that_agree_foretell_each_other_and_one_that_differs_is_missed() -> None:
    assert repeated([arm(0.7, organ=4), arm(0.7)]) == (1, 1)
    values = np.full((5, 3, 8), 0.7)
    values[:, 0, 4] = 0.0  # seen from another seed, (0 + 0.7) / 2 is fine
    assert repeated([Measured(Arm(2.0, 0.001), values, None, None)]) == (1, 0)


def test_readings_on_the_scale_of_weights_that_sum_to_l() -> None:
    variants: dict[str, dict[str, object]] = {
        "": {},
        "volumes": {"train.loss.numerator": "volumes"},
        "pytorch": {"train.adam.epsilon_place": "pytorch"},
        "even": {"train.loss.normalise": "sum_to_L"},
    }
    options = {"study.variants": variants, "train.loss.epsilon": 0, "train.iterations": 300}
    record = StudyRecord(
        version="1", store="/s", dataset="", config=resolve_config(options=options), training_voxel_counts=(1000,) * 8
    )
    study = StudyResult(record, (), SplitSizes(40, 0, 1))
    at = {name: epsilon_over_scale(study, Arm("square", 0.001, name)) for name in variants}
    # 8000 voxels over 8 * 1000^2 is 1e-3; 40 volumes instead of 8000 voxels 1/200 of it
    assert at[""] == pytest.approx(1e-8 / 1e-3)
    assert at["volumes"] == pytest.approx(1e-8 / 1e-3 * 200)
    assert at["pytorch"] == pytest.approx(1e-8 / 1e-3 * (1 - 0.999**150) ** 0.5)
    assert at["even"] == pytest.approx(1e-8)
