"""Fit the constants of `viscera.doctor.forecast` to finished studies, and score them on others.

    make fit-forecast
    python -m benchmarks.fit_forecast --fit STUDY STUDY --test STUDY

What the forecast sees is in `forecast_features`; the outcome is whether the organ's mean Dice on the test cases, seeds
averaged, ends below 0.2. The constants are typed into the module by hand; this prints them, with precision and recall
over all arms and organs.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from viscera.doctor.forecast import forecast_features
from viscera.doctor.untrained import forecast_arms, outlooks
from viscera.io.store import Store
from viscera.metrics.learning import FAILING_DICE
from viscera.study.report.gradients_section import forecast_rows, forecast_sentence
from viscera.study.report.report_stage import read_study
from viscera.study.results import StudyResult

Array = npt.NDArray[np.float64]
RIDGE = 0.003  # keeps the constants finite where the failing organs can be told apart without an error


def with_forecasts(path: Path) -> StudyResult:
    """A study with the forecast of each arm as this version makes it."""
    study = read_study(path)
    forecasts = forecast_arms(Store.open(Path(study.record.store)), study.record.config, study.arms)
    return dataclasses.replace(study, forecasts=forecasts)


def examples(study: StudyResult) -> tuple[Array, Array]:
    """Features (N, F) and outcomes (N,), one a run and organ."""
    dice = study.scores.sample(study.grids[0]).values
    store = Store.open(Path(study.record.store))
    features, failed = [], []
    for index, (_, outlook) in enumerate(outlooks(store, study.record.config, study.arms)):
        own = forecast_features(outlook)[1:]
        for seed in range(dice.shape[2]):
            values = dice[index, :, seed, 1:]
            if not np.isnan(values).all():
                features.append(own)
                failed.append(np.nanmean(values, axis=0) < FAILING_DICE)
    return np.concatenate(features), np.concatenate(failed).astype(float)


def fitted(features: Array, failed: Array) -> Array:
    """The constants (F,) of a logistic regression with a small ridge."""

    def loss(constants: Array) -> float:
        log_odds = features @ constants
        return float(np.mean(np.logaddexp(0, log_odds) - failed * log_odds) + RIDGE * np.square(constants[1:]).mean())

    result: Array = minimize(loss, np.zeros(features.shape[1])).x
    return result


def main() -> None:
    """Print constants and scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, nargs="*", default=[])
    parser.add_argument("--test", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    fitting = [with_forecasts(path) for path in arguments.fit]
    if fitting:
        features, failed = (np.concatenate(parts) for parts in zip(*map(examples, fitting), strict=True))
        constants = ", ".join(f"{value:.2f}" for value in fitted(features, failed))
        print(f"constants: {constants} from {failed.size} runs and organs, {int(failed.sum())} of which failed")
    for path, study in [
        *zip(arguments.fit, fitting, strict=True),
        *((path, with_forecasts(path)) for path in arguments.test),
    ]:
        print(f"{path}: {forecast_sentence(forecast_rows(study, study.grids[0]))}")


if __name__ == "__main__":
    main()
