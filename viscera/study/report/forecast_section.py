"""The forecast that was made before training, against what happened."""

from dataclasses import dataclass

import numpy as np

from viscera.doctor.forecast import precision_and_recall
from viscera.metrics.learning import FAILING_DICE
from viscera.study.results import StudyResult, counted, mean_defined


@dataclass(frozen=True)
class ForecastRow:
    """One arm: titles of the organs that the forecast named, and of those whose mean test Dice ended below 0.2."""

    title: str
    named: tuple[str, ...]
    failed: tuple[str, ...]


def forecast_rows(study: StudyResult, grid: str) -> list[ForecastRow]:
    """The arms that are both forecast and scored, in the order of Table 1."""
    forecasts = {forecast.arm: forecast for forecast in study.forecasts}
    rows = []
    for arm in study.arms:
        dice = study.case_dice(arm, grid)
        if arm.name not in forecasts or not dice:
            continue
        organs = study.classes.organs
        means = {o: mean_defined(v for (_, organ), v in dice.items() if organ == o.name) for o in organs}
        named = tuple(o.title for o in organs if o.name in forecasts[arm.name].failing)
        failed = tuple(o.title for o, mean in means.items() if mean is not None and mean < FAILING_DICE)
        rows.append(ForecastRow(arm.title, named, failed))
    return rows


def forecast_score(rows: list[ForecastRow]) -> tuple[float, float]:
    """Precision and recall over all arms and organs, 0 to 1."""
    return precision_and_recall(
        {(row.title, organ) for row in rows for organ in row.named},
        {(row.title, organ) for row in rows for organ in row.failed},
    )


def forecast_sentence(rows: list[ForecastRow]) -> str:
    """What the forecast was worth, in one sentence."""
    if not rows:
        return "No arm is both forecast and scored yet."
    named, failed = (int(np.sum([len(getattr(row, what)) for row in rows])) for what in ("named", "failed"))
    hits = sum(len(set(row.named) & set(row.failed)) for row in rows)
    if not named and not failed:
        return f"Over {counted(len(rows), 'arm')} it named no organ, and none failed."
    precision, recall = forecast_score(rows)
    return (
        f"Over {counted(len(rows), 'arm')} it named {named} failing organs, of which {hits} failed (precision "
        f"{precision:.2f}); {failed} failed, of which it had named {hits} (recall {recall:.2f})."
    )
