"""Means over patients and seeds: by hand, by scipy's t, by the analysis of variance, and on simulated studies."""

import numpy as np
import pytest
from scipy import stats

from viscera.metrics.crossed import Array, Components, components, crossed_means, joined_columns

NAN = float("nan")


def drawn(variances: Components, shape: tuple[int, int, int], mean: float = 0.0, seed: int = 0) -> Array:
    """(P, S, C) values of the crossed model."""
    generator = np.random.default_rng(seed)
    patients, seeds, columns = shape
    parts = [(patients, 1, columns), (1, seeds, columns), shape]
    draws = (np.sqrt(v) * generator.standard_normal(part) for v, part in zip(variances, parts, strict=True))
    return mean + sum(draws, np.zeros(shape))


def test_two_patients_and_two_seeds_by_hand() -> None:
    # patients' means 2 and 6, seeds' means 3 and 5, mean 4, residuals ±1
    found = crossed_means(np.array([[[2.0], [2.0]], [[4.0], [8.0]]]))
    assert found.mean[0] == 4
    assert found.by_patients[0] == pytest.approx(8 / 2)  # ((2-4)² + (6-4)²) / 1 / 2
    assert found.by_seeds[0] == pytest.approx(2 / 2)
    assert found.residual[0] == pytest.approx(4)
    assert found.error[0] == pytest.approx(np.sqrt(5))
    # with 1 degree of freedom on both sides the critical value is Student's, whatever the weights
    low, high = found.interval()
    assert (high[0] - low[0]) / 2 == pytest.approx(stats.t.isf(0.025, 1) * np.sqrt(5))


def test_variances_are_those_of_the_analysis_of_variance() -> None:
    """Snedecor and Cochran's formulas written out again: mean squares, then what they expect."""
    values_PS = drawn(Components(4, 9, 2), (6, 5, 1))[:, :, 0]
    rows, columns, mean = values_PS.mean(axis=1), values_PS.mean(axis=0), values_PS.mean()
    of_rows, of_columns = 5 * ((rows - mean) ** 2).sum() / 5, 6 * ((columns - mean) ** 2).sum() / 4
    rest = ((values_PS - rows[:, None] - columns + mean) ** 2).sum() / 20
    assert components(values_PS) == pytest.approx(((of_rows - rest) / 5, (of_columns - rest) / 6, rest))
    assert components(values_PS[:, :1]) is None
    assert components(values_PS[:1]) is None


def test_components_come_out_on_average() -> None:
    found = np.mean([components(drawn(Components(4, 9, 2), (12, 6, 1), seed=n)[:, :, 0]) or () for n in range(400)], 0)
    assert found == pytest.approx([4, 9, 2], rel=0.15)


def test_one_seed_is_students_t_over_patients() -> None:
    values = np.random.default_rng(1).standard_normal((9, 1, 2)) + 0.7
    found = crossed_means(values)
    for column, (above, below) in enumerate(zip(*found.test(0.2), strict=True)):
        assert above == pytest.approx(stats.ttest_1samp(values[:, 0, column], 0.2, alternative="greater").pvalue)
        assert below == pytest.approx(stats.ttest_1samp(values[:, 0, column], 0.2, alternative="less").pvalue)
    expected = stats.ttest_1samp(values[:, 0, 0], 0).confidence_interval(0.9)
    assert [bound[0] for bound in found.interval(0.9)] == pytest.approx(list(expected))


def test_patients_alike_leave_students_t_over_seeds() -> None:
    """Nothing but the luck of training: five seeds are five values, however many patients."""
    of_seeds = np.array([1.0, 3.0, 2.0, 5.0, 4.0])
    found = crossed_means(np.broadcast_to(of_seeds[:, None], (37, 5, 1)))
    assert found.test().two_sided[0] == pytest.approx(stats.ttest_1samp(of_seeds, 0).pvalue)


def test_the_interval_is_where_the_test_stops_rejecting() -> None:
    found = crossed_means(drawn(Components(4, 4, 4), (8, 5, 1), mean=3))
    for confidence in (0.9, 0.95, 0.9995):
        low, high = found.interval(confidence)
        for bound in (float(low[0]), float(high[0])):
            assert found.test(bound).two_sided[0] == pytest.approx(1 - confidence)


def test_no_spread_at_all_is_certain_and_nothing_at_all_is_no_difference() -> None:
    found = crossed_means(np.stack([np.full((4, 5), 0.1 + 0.2), np.zeros((4, 5)), np.full((4, 5), NAN)], axis=2))
    assert found.test().two_sided.tolist() == [0, 1, 1]
    assert crossed_means(np.ones((1, 5, 1))).test().two_sided[0] == 1  # one patient
    assert crossed_means(np.empty((0, 0, 2))).test().two_sided.tolist() == [1, 1]


def test_what_is_missing() -> None:
    values = drawn(Components(4, 4, 4), (6, 5, 1), mean=2)
    wider = np.full((7, 6, 1), NAN)
    wider[:6, :5] = values  # a patient and a seed that nobody has
    assert np.array(crossed_means(wider).interval()) == pytest.approx(np.array(crossed_means(values).interval()))
    assert (crossed_means(wider).patients[0], crossed_means(wider).seeds[0]) == (6, 5)


def test_a_missing_value_is_what_its_patient_and_its_seed_add_by_hand() -> None:
    # the second seed gives 2 more, so the second patient's missing value is 5 + 2: means 2 and 6, and 3 and 5
    found = crossed_means(np.array([[[1.0], [3.0]], [[5.0], [NAN]]]))
    assert found.mean[0] == pytest.approx(4)
    assert found.of_patients[:, 0] == pytest.approx([2, 6])
    assert (found.by_patients[0], found.by_seeds[0]) == pytest.approx((8 / 2, 2 / 2))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_missing_values_of_patients_and_seeds_that_add_change_nothing(share: float) -> None:
    """Without a residual each missing value is known: the same mean and errors as of complete data."""
    values = drawn(Components(4, 9, 0), (12, 5, 3), mean=2)
    holes = values.copy()
    holes[:, 1:][np.random.default_rng(1).random((12, 4, 3)) < share] = NAN
    whole, found = crossed_means(values), crossed_means(holes)
    assert found.mean == pytest.approx(whole.mean)
    assert found.error == pytest.approx(whole.error)
    joined = [crossed_means(joined_columns(of)[:, :, None]) for of in (values, holes)]
    assert joined[1].mean == pytest.approx(joined[0].mean)
    assert joined[1].error == pytest.approx(joined[0].error)


def test_means_of_incomplete_data_are_those_of_least_squares() -> None:
    """The fit written out with a column for each patient and seed, solved by numpy."""
    values_PS = drawn(Components(4, 9, 2), (7, 5, 1), mean=2)[:, :, 0]
    values_PS[np.random.default_rng(2).random(values_PS.shape) < 0.4] = NAN
    patients, seeds = np.nonzero(~np.isnan(values_PS))
    design = np.hstack([np.eye(7)[patients], np.eye(5)[seeds]])
    observed = values_PS[patients, seeds]
    solution, _, rank, _ = np.linalg.lstsq(design, observed)
    fitted_PS = solution[:7, None] + solution[None, 7:]
    residual = ((observed - design @ solution) ** 2).sum() / (len(observed) - rank)
    found = crossed_means(values_PS[:, :, None])
    assert found.residual[0] == pytest.approx(residual)
    assert found.mean[0] == pytest.approx(np.where(np.isnan(values_PS), fitted_PS, values_PS).mean())


def test_seeds_with_patients_of_their_own_have_no_error() -> None:
    """How the trainings differ cannot be told from how the patients differ."""
    values_PS = np.full((6, 3), NAN)
    for seed in range(3):
        values_PS[2 * seed : 2 * seed + 2, seed] = [1.0 + seed, 1.5 + seed]
    found = crossed_means(values_PS[:, :, None])
    assert found.mean[0] == pytest.approx(2.25)
    assert np.isnan(found.error[0])
    assert found.test().two_sided[0] == 1
    assert components(values_PS) is None
    # of two groups of two seeds, two differences of trainings are known, not three
    values_PS = np.full((4, 4), NAN)
    values_PS[:2, :2] = values_PS[2:, 2:] = [[0, 2], [0, 2]]
    found = crossed_means(values_PS[:, :, None])
    assert found.groups[0] == 2
    assert found.by_seeds[0] == pytest.approx(4 / (4 * 2))  # each seed 1 from the mean, two degrees of freedom
    _, high = found.interval()
    assert high[0] == pytest.approx(1 + stats.t.isf(0.025, 2) * np.sqrt(0.5))


@pytest.mark.parametrize("kind", ["a fifth at random", "half at random", "three seeds with a third of the patients"])
def test_missing_values_make_no_false_positives(kind: str) -> None:
    """2,000 studies of 37 patients and 5 seeds at 0.05 and 0.005, as with complete data."""
    values = drawn(Components(9, 9, 9), (37, 5, 2000), seed=3)
    if kind.startswith("three"):
        values[12:, 2:] = NAN
    else:
        values[np.random.default_rng(4).random(values.shape) < (0.2 if "fifth" in kind else 0.5)] = NAN
    p = crossed_means(values).test().two_sided
    assert (p <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 2000)
    assert (p <= 0.005).mean() <= 0.005 * 1.25 + 4 * np.sqrt(0.005 / 2000)
    assert (p <= 0.05).mean() > 0.01


def test_components_of_incomplete_data_come_out_on_average() -> None:
    found = []
    for n in range(400):
        values_PS = drawn(Components(4, 9, 2), (12, 6, 1), seed=n)[:, :, 0]
        values_PS[np.random.default_rng(n).random(values_PS.shape) < 0.3] = NAN
        found.append(components(values_PS) or ())
    assert np.mean(found, 0) == pytest.approx([4, 9, 2], rel=0.15)


def test_joined_columns_have_the_mean_of_means() -> None:
    values = drawn(Components(4, 4, 4), (6, 3, 2), mean=2)
    assert joined_columns(values) == pytest.approx(values.mean(axis=2))
    values[4:, :, 1] = NAN  # the second organ is absent from two patients
    joined = joined_columns(values)
    assert joined.mean() == pytest.approx((values[:, :, 0].mean() + values[:4, :, 1].mean()) / 2)
    alone = np.full((6, 3, 2), NAN)
    alone[:, :, 0] = values[:, :, 0]
    assert joined_columns(alone) == pytest.approx(values[:, :, 0])
    # beside an organ that is 0 throughout, half of the other one: a quarter of the variance that its four patients show
    values[:, :, 0] = 0
    half = crossed_means(joined_columns(values)[:, :, None])
    assert 4 * half.by_patients[0] == pytest.approx(crossed_means(values[:, :, 1:]).by_patients[0])


@pytest.mark.parametrize("variances", [Components(16, 0, 4), Components(16, 8, 16), Components(0.25, 16, 0.25)])
@pytest.mark.parametrize(("patients", "seeds"), [(8, 5), (37, 5), (37, 10)])
def test_it_rejects_a_true_null_at_most_as_often_as_it_says(variances: Components, patients: int, seeds: int) -> None:
    """4,000 studies at 0.05 and at 0.005; four standard errors of chance are allowed on top, and a quarter at 0.005."""
    found = crossed_means(drawn(variances, (patients, seeds, 4000)))
    p = found.test().two_sided
    assert (p <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)
    assert (p <= 0.005).mean() <= 0.005 * 1.25 + 4 * np.sqrt(0.005 / 4000)
    assert (p <= 0.05).mean() > 0.01  # and is not so careful that it never rejects
