"""`viscera find-rate`: from a Store to a learning-rate range test for each weighting."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

from viscera.core.arms import weighting_name
from viscera.core.config import Config
from viscera.core.errors import RunFailedError
from viscera.core.progress import OnProgress, unseen
from viscera.engine.hardware import choose_device, fastest_convolutions, out_of_memory_explained
from viscera.engine.monitor import Monitor
from viscera.engine.rate_finder import range_test
from viscera.engine.resident import on_device
from viscera.engine.trainer import StopSignal, Trainer
from viscera.engine.training_set import facts_of, feed_of, training_cases, with_training_set
from viscera.io.store import Store
from viscera.study.rate_range import RateRange, rate_range_path, read_range, read_rate_range, write_rate_range

_LEAST_RATES = 10


def find_rates(
    store_path: Path,
    out: Path,
    config: Config,
    weightings: Sequence[str | float],
    *,
    stop: StopSignal | None = None,
    progress: OnProgress = unseen,
) -> list[RateRange]:
    """Test each weighting, with the settings that training has.

    Args:
        store_path: a Store; its training cases are used.
        out: folder; `WEIGHTING.json` each. One that is there already is kept.
        config: its `train` and `rate_range` sections.
        weightings: to test.
        stop: set it to end.
        progress: called after each step; a weighting is a job.

    Returns:
        One test a weighting.

    Raises:
        BadInputError: no store; too few cases.
        RunFailedError: the loss is not a number from the lowest rates on.
        InterruptedRunError: `stop` was set.
    """
    store = Store.open(store_path)
    store.verify(training_cases(store))
    results = []
    for weighting in weightings:
        path = rate_range_path(out, weighting)
        if not path.exists():
            own = config.model_copy(update={"train": config.train.model_copy(update={"weighting": weighting})})
            write_rate_range(path, _find(store, own, stop or Event(), progress))
        results.append(read_rate_range(path))
    return results


def _find(store: Store, config: Config, stop: StopSignal, progress: OnProgress) -> RateRange:
    config = with_training_set(config, store)
    train, name = config.train, weighting_name(config.train.weighting)
    device = choose_device(train.device)
    feed = feed_of(store, train)
    trainer = Trainer.create(config, facts_of(store, config), device)
    windows = Monitor.create(feed, [], train, config.predict, device).windows
    with out_of_memory_explained("Lower --batch-size, --patch or --filters."), fastest_convolutions():
        rates, losses = range_test(
            trainer,
            on_device(feed, device, train.resident),
            windows,
            config.rate_range,
            stop=stop,
            progress=lambda at: progress(replace(at, job=f"{at.job}, {name}")),
        )
    if len(rates) < _LEAST_RATES:
        raise RunFailedError(
            f"The loss of {name} weighting is not a number after {len(rates)} steps of the range test. "
            "Lower --set rate_range.lowest."
        )
    return RateRange(
        weighting=train.weighting,
        seed=train.seed,
        steps=config.rate_range.steps,
        rates=tuple(rates),
        losses=tuple(losses),
        **dict(read_range(rates, losses)),
    )
