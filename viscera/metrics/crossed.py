"""A mean over patients and seeds, both drawn from many: its variance, a test, an interval, and what a study can show.

Every model of a seed is scored on all patients, so patients and seeds are crossed. A value, or the difference of two
arms with the same seed, is taken as mean + patient + seed + residual, all three random: the analysis of readers and
cases in diagnostic imaging (Dorfman, Berbaum and Metz 1992; Hillis 2007) and of subjects and items in psychology
(Clark 1973; Westfall, Kenny and Judd 2014), in closed form. A test over patients alone holds for the models that were
trained; this one also holds for models of the same settings that are yet to be trained.

Axes: P patients, S seeds, C columns (one mean each), D draws.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from viscera.metrics.sign_flips import OneSided

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_ROUNDING = 1e-9  # means that are smaller than this share of the largest value are 0
_SMALLEST_P = 1e-100  # smaller ones are given as this


class Components(NamedTuple):
    """Variances of one value, in the square of its unit; those of a difference where values are differences."""

    patients: float  # between patients, whatever the seed
    seeds: float  # between trainings, whatever the patient
    residual: float  # of one patient with one seed beyond both


@dataclass(frozen=True, eq=False)
class CrossedMeans:
    """Means over patients and seeds, in the unit of the values; (C,) but for the first. Errors NaN for one patient.

    Numbers of patients and seeds, and of groups, may be (1,), for all columns.
    """

    of_patients: Array  # (P, C) mean over seeds; NaN where undefined
    mean: Array
    by_patients: Array  # variance of the mean that the patients' means show; the residual is in it
    by_seeds: Array  # that the seeds' means show; 0 with one seed
    residual: Array  # mean square of what neither explains; 0 with one seed
    patients: Array  # how many
    seeds: Array
    groups: Array = field(default_factory=lambda: np.ones(1))  # that share neither a patient nor a seed, see `_fitted`

    @property
    def error(self) -> Array:
        """Standard error, patients and seeds drawn anew; with one seed patients alone."""
        return np.sqrt(self.by_patients + self.by_seeds)

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Low and high bounds of the means."""
        reach = self._critical(np.array([(1 - confidence) / 2])) * self.error
        return self.mean - reach, self.mean + reach

    def test(self, bound: float = 0.0) -> OneSided:
        """Test the means against a bound; p = 1 below two patients."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.mean == bound, 0.0, (self.mean - bound) / self.error)
        tail = self._tail(np.abs(np.nan_to_num(t, posinf=np.inf, neginf=-np.inf)))
        above, below = np.where(t >= 0, tail, 1 - tail), np.where(t > 0, 1 - tail, tail)
        unknown = np.isnan(self.error)
        return OneSided(np.where(unknown, 1.0, above), np.where(unknown, 1.0, below))

    def _critical(self, tail: Array) -> Array:
        """What t exceeds with chance `tail`: Student's t of patients and of seeds, weighted by their variances.

        The rule of Cochran and Cox (1950, section 4.14) for a sum of two variances that are estimated with different
        degrees of freedom. Satterthwaite's single number of degrees rejects too often at the small p that Holm's
        correction asks for, where few seeds happen to agree (docs/results/null-studies.md).
        """
        freedom = (self.patients - 1, self.seeds - self.groups)
        t_P, t_S = (-special.stdtrit(np.maximum(n, 1), tail) for n in freedom)
        both = self.by_patients + self.by_seeds
        share = np.divide(self.by_seeds, both, out=np.zeros_like(both), where=both > 0)
        critical: Array = (1 - share) * t_P + share * t_S
        return critical

    def _tail(self, t: Array) -> Array:
        """The chance whose critical value is t, of (C,) t of 0 or more, by bisection of its logarithm."""
        low, high = np.full((2, len(t)), np.log(_SMALLEST_P))
        high[:] = np.log(0.5)
        for _ in range(60):
            middle = (low + high) / 2
            beyond = self._critical(np.exp(middle)) > t
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.where(np.isinf(t), 0.0, np.exp(high))


def crossed_means(values_PSC: Array) -> CrossedMeans:
    """Analyse (P, S, C) values: of an arm, or differences of two arms within patient and seed; one mean a column.

    NaN is undefined. A seed or a patient that a column nowhere defines is none of that column; a value that is missing
    elsewhere counts as what its patient and its seed add to the mean, by least squares over what there is. The squared
    standard error is that of Clark's (1973) min F', the sum of the variances that the patients' and the seeds' means
    show. Both hold the residual, so it is never too small on average. Errors are NaN where every seed was scored on
    patients of its own: seeds and patients cannot be told apart then.
    """
    filled_PSC, cells_PSC, groups_C = _filled(values_PSC)
    known_PC, run_SC = _any(cells_PSC, 1), _any(cells_PSC, 0)
    patients_C, seeds_C = known_PC.sum(axis=0), run_SC.sum(axis=0)
    of_patient_PC, of_seed_SC = _mean(filled_PSC, cells_PSC, axis=1), _mean(filled_PSC, cells_PSC, axis=0)
    mean_C = _mean(of_patient_PC, known_PC, axis=0)
    largest_C = np.where(cells_PSC, np.abs(filled_PSC), 0).max(axis=(0, 1), initial=0)
    mean_C = np.where(np.abs(mean_C) <= _ROUNDING * largest_C, 0.0, mean_C)

    def variance(means: Array, known: Bools, number_C: Array, freedom_C: Array) -> Array:
        squares_C = np.where(known, (means - mean_C) ** 2, 0).sum(axis=0)
        squares_C[squares_C <= (_ROUNDING * largest_C) ** 2 * number_C] = 0  # equal but for rounding
        result: Array = squares_C / np.maximum(number_C * freedom_C, 1)
        return result

    residual_PSC = np.where(cells_PSC, filled_PSC - of_patient_PC[:, None] - of_seed_SC + mean_C, 0)
    seen_C = (~np.isnan(values_PSC)).sum(axis=(0, 1))
    freedom_C = np.maximum(seen_C - patients_C - seeds_C + groups_C, 1)
    apart_C = (seeds_C > 1) & (seeds_C == groups_C)
    by_patients_C = variance(of_patient_PC, known_PC, patients_C, patients_C - 1)
    by_patients_C = np.where((patients_C >= 2) & ~apart_C, by_patients_C, np.nan)
    by_seeds_C = variance(of_seed_SC, run_SC, seeds_C, seeds_C - groups_C)
    residual_C = (residual_PSC**2).sum(axis=(0, 1)) / freedom_C
    return CrossedMeans(of_patient_PC, mean_C, by_patients_C, by_seeds_C, residual_C, patients_C, seeds_C, groups_C)


def components(values_PS: Array) -> Components | None:
    """The variances behind (P, S) values, by the analysis of variance; None where errors are NaN, or of one seed.

    Each is what the means show less what the residual puts into it, and at least 0. NaN as in `crossed_means`.
    """
    found = crossed_means(values_PS[:, :, None])
    patients, seeds = int(found.patients[0]), int(found.seeds[0])
    if min(patients, seeds) < 2 or np.isnan(found.by_patients[0]):
        return None
    residual = float(found.residual[0])
    seen_P, seen_S = (n[n > 0] for n in ((~np.isnan(values_PS)).sum(axis=axis) for axis in (1, 0)))
    of_patients = patients * found.by_patients[0] - residual * (1 / seen_P).mean()
    of_seeds = seeds * found.by_seeds[0] - residual * (1 / seen_S).mean()
    return Components(max(0.0, float(of_patients)), max(0.0, float(of_seeds)), residual)


def joined_columns(values_PSC: Array) -> Array:
    """(P, S) values whose mean is the mean of the columns' means, for an analysis of that mean; NaN where all are.

    A column that P' of P patients define adds to its mean, for each of these, the value's deviation from it times
    sqrt(P (P - 1) / P' (P' - 1)), for the others nothing: linearised values of a mean of means, scaled so that each
    column's mean keeps the variance that its own patients show.
    """
    defined_PS = _any(~np.isnan(values_PSC), 2)
    filled_PSC, cells_PSC, _ = _filled(values_PSC)
    number_C = _any(cells_PSC, 1).sum(axis=0)
    used = number_C > 0
    filled_PSC, cells_PSC, number_C = filled_PSC[:, :, used], cells_PSC[:, :, used], number_C[used]
    mean_C = _mean(_mean(filled_PSC, cells_PSC, axis=1), _any(cells_PSC, 1), axis=0)
    patients = _any(defined_PS, 1).sum()
    times_C = np.sqrt(patients * (patients - 1) / np.maximum(number_C * (number_C - 1), 1))
    parts_PSC = mean_C + np.where(cells_PSC, times_C * (filled_PSC - mean_C), 0)
    joined: Array = np.where(defined_PS, parts_PSC.sum(axis=2) / max(len(number_C), 1), np.nan)
    return joined


def completed(values_PSC: Array) -> Array:
    """Values with what `crossed_means` takes in place of missing ones; NaN of patients and seeds without a value."""
    return _filled(values_PSC)[0]


def _filled(values_PSC: Array) -> tuple[Array, Bools, Array]:
    """Missing values by `_fitted`, which cells there are (P, S, C), and in how many groups (C,)."""
    defined_PSC = ~np.isnan(values_PSC)
    cells_PSC: Bools = _any(defined_PSC, 1)[:, None] & _any(defined_PSC, 0)
    missing_PSC = cells_PSC & ~defined_PSC
    filled_PSC = values_PSC.copy()
    groups_C = np.ones(values_PSC.shape[2])
    for column in np.flatnonzero(missing_PSC.any(axis=(0, 1))):
        fitted_PS, groups_C[column] = _fitted(values_PSC[:, :, column], defined_PSC[:, :, column])
        missing_PS = missing_PSC[:, :, column]
        filled_PSC[missing_PS, column] = fitted_PS[missing_PS]
    return filled_PSC, cells_PSC, groups_C


def _fitted(values_PS: Array, defined_PS: Bools) -> tuple[Array, int]:
    """What patient and seed add to the mean (P, S), by least squares over what is defined; and in how many groups.

    The patients are eliminated, which leaves one equation for each seed. Patients and seeds are of one group if a chain
    of defined values connects them. How two groups of seeds differ cannot be told from how their patients differ; it
    is left with the patients.
    """
    seeds_of_P = np.maximum(defined_PS.sum(axis=1), 1)
    mean_P = _mean(values_PS, defined_PS, axis=1)
    beyond_PS = np.where(defined_PS, values_PS - mean_P[:, None], 0)
    together_SS = defined_PS.T @ (defined_PS / seeds_of_P[:, None])
    equations_SS = np.diag(defined_PS.sum(axis=0)) - together_SS
    of_seed_S = np.linalg.pinv(equations_SS, rcond=1e-9, hermitian=True) @ beyond_PS.sum(axis=0)
    of_patient_P = mean_P - (defined_PS @ of_seed_S) / seeds_of_P
    groups = defined_PS.any(axis=0).sum() - np.linalg.matrix_rank(equations_SS, tol=1e-9, hermitian=True)
    return of_patient_P[:, None] + of_seed_S, int(groups)


def _any(cells: Bools, axis: int) -> Bools:
    return np.asarray(cells.any(axis=axis))


def _mean(values: Array, defined: Bools, axis: int) -> Array:
    """Mean along an axis of what is defined; NaN where nothing is."""
    number = defined.sum(axis=axis)
    total = np.where(defined, values, 0).sum(axis=axis)
    means: Array = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return means
