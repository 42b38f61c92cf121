"""Range tests of a store: their files, the command, the study's option, and the report."""

import math
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.fabricated_studies import words_of
from viscera.core.anatomy import IGNORED
from viscera.core.config import Config, RateRangeConfig
from viscera.core.errors import BadInputError, InterruptedRunError, RunFailedError, VisceraError
from viscera.core.progress import Progress
from viscera.core.resolve import with_settings
from viscera.engine.feed import Batch, Feed, TrainingFacts
from viscera.engine.monitor import StepResult
from viscera.engine.trainer import Trainer
from viscera.io.store import Store
from viscera.losses.balance import WeightSchedule
from viscera.study import find_rates as stage
from viscera.study import launch
from viscera.study.find_rates import find_rates, range_test, relative_loss
from viscera.study.launch import run_study
from viscera.study.rate_range import RateRange, rate_range_path, read_rate_range, write_rate_range
from viscera.study.report.curves_section import RATES, rate_range_panel
from viscera.study.report.page_section import Report
from viscera.study.results import StudyResult

Configure = Callable[..., Config]


TEST = RateRange(
    weighting="simple",
    seed=0,
    steps=4,
    rates=(1e-4, 1e-3, 1e-2, 1e-1),
    losses=(-0.1, -0.2, -0.5, -0.1),
    smoothed=(-0.1, -0.2, -0.5, -0.1),
    falls_from=1e-3,
    slows_from=5e-3,
    rises_from=1e-2,
    suggestion=5e-3,
)


def short(configure: Configure) -> Config:
    return with_settings(configure(), {"rate_range.steps": 30, "rate_range.lowest": 1e-5}, "test")


def test_each_weighting_has_its_file_and_is_not_tested_twice(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    tests = find_rates(tiny_store.path, tmp_path / "r", short(tiny_config), ["uniform", 0.5], progress=told.append)
    assert [test.weighting for test in tests] == ["uniform", 0.5]
    assert sorted(path.name for path in (tmp_path / "r").glob("*.json")) == ["power0.5.json", "uniform.json"]
    assert read_rate_range(tmp_path / "r" / "uniform.json") == tests[0]
    assert len(tests[0].rates) == len(tests[0].losses) == len(tests[0].smoothed) == 30
    assert tests[0].rates[::29] == pytest.approx((1e-5, 1))
    assert tests[0].losses != tests[1].losses
    assert told[0] == Progress("range test, uniform", 1, 30)
    assert told[-1] == Progress("range test, power0.5", 30, 30)

    def never(*_args: object) -> RateRange:
        raise AssertionError("it is there")

    monkeypatch.setattr(stage, "_find", never)
    assert find_rates(tiny_store.path, tmp_path / "r", short(tiny_config), ["uniform", 0.5]) == tests


def test_the_training_set_in_the_devices_memory_changes_nothing(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure
) -> None:
    config = short(tiny_config)
    resident = with_settings(config, {"train.resident": "always"}, "test")
    (one,) = find_rates(tiny_store.path, tmp_path / "a", config, ["simple"])
    (two,) = find_rates(tiny_store.path, tmp_path / "b", resident, ["simple"])
    assert one == two


def test_a_loss_that_is_never_a_number_is_said(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "relative_loss", lambda _trainer, _windows: float("nan"))
    with pytest.raises(RunFailedError, match="loss of simple weighting is not a number after 0 steps"):
        find_rates(tiny_store.path, tmp_path / "r", short(tiny_config), ["simple"])
    assert not (tmp_path / "r").exists()


def test_a_damaged_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "simple.json").write_text("{}")
    with pytest.raises(BadInputError, match=r"simple\.json: damaged .* Run `viscera find-rate` again"):
        read_rate_range(tmp_path / "simple.json")


def test_a_study_tests_its_weightings_before_its_arms_when_asked(
    tiny_store: Store, tmp_path: Path, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def arms(*_args: object) -> list[VisceraError]:
        seen.append(sorted(path.name for path in (tmp_path / "study" / "rate_range").glob("*")))
        return []

    monkeypatch.setattr(launch, "launch", arms)
    monkeypatch.setattr(launch, "make_report", lambda study: study)
    config = with_settings(short(tiny_config), {"study.weightings": ["simple", 0.5]}, "test")
    run_study(tiny_store.path, tmp_path / "study", config)
    run_study(tiny_store.path, tmp_path / "study", with_settings(config, {"study.find_rates": True}, "test"))
    assert seen == [[], ["power0.5.json", "simple.json"]]


# ------------------------------------------------------------------------------------------ for people


def test_the_page_says_the_three_rates_or_that_there_is_none(make_study: Callable[..., StudyResult]) -> None:
    nothing = TEST.model_copy(update={"suggestion": None, "remark": "The loss did not fall."})
    said = words_of(Report(make_study([None] * 6), rate_ranges=[TEST, nothing]), RATES)
    three = "simple: falls from 0.001 on, slows at 0.005 (suggested), rises above 0.01."
    assert said.endswith(f"{three} simple: The loss did not fall.")


def test_the_panel_marks_suggestion_and_rates_tried() -> None:
    (axes,) = rate_range_panel(TEST, [0.001, 0.01]).axes
    marked = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]  # type: ignore[arg-type, index]
    assert marked == [0.001, 0.01, 0.005]
    assert axes.get_title(loc="left") == "simple"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["smoothed", "rates tried", "suggested: 0.005"]


def test_files_are_named_after_the_weighting(tmp_path: Path) -> None:
    write_rate_range(rate_range_path(tmp_path, 0.5), TEST)
    assert read_rate_range(tmp_path / "power0.5.json") == TEST


CPU = torch.device("cpu")


def made(configure: Configure, weights: np.ndarray) -> Trainer:
    facts = TrainingFacts(torch.arange(1, 9), WeightSchedule(weights, weights), ((1.0, 1.0, 1.0),) * 2)
    return Trainer.create(configure(), facts, CPU)


def feed() -> Feed:
    random = np.random.default_rng(0)
    labels = [np.sort(random.integers(0, 8, (8, 8, 8)), axis=0).astype(np.uint8) for _ in range(2)]
    return Feed([((each * np.int16(120) - 400).astype(np.int16), each) for each in labels], 8, 2, seed=0)


class Certain(nn.Module):
    """Says class 1 everywhere, with certainty."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros((len(x), 8, *x.shape[2:]))
        logits[:, 1] = 100
        return logits


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_the_measure_is_the_weighted_mean_dice_of_the_classes_that_are_there(
    scale: float, tiny_config: Configure
) -> None:
    """Two windows of 8 voxels: 4 of class 0, 12 of class 1, answered with 1: Dice 0 and 2·12/(16 + 12) = 6/7.

    Weights 3 and 1: the weighted mean is 6/7 / 4; the other six classes are not there.
    """
    trainer = made(tiny_config, scale * np.array([3.0, 1, 50, 50, 50, 50, 50, 50]))
    trainer.network = Certain()  # type: ignore[assignment]
    hu = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    first, second = torch.ones((2, 1, 2, 2, 2), dtype=torch.uint8)
    first[0, 0] = 0
    assert relative_loss(trainer, [Batch(hu, first), Batch(hu, second)]) == pytest.approx(-6 / 28)


def test_a_window_that_does_not_label_the_answer_counts_it_as_background(tiny_config: Configure) -> None:
    """As above, but the first window does not label class 1: its 8 voxels are background, answered with background.

    Class 0: 2·8/(8 + 8) = 1; class 1, the second window alone: 2·8/(8 + 8) = 1. The weighted mean is 1.
    """
    trainer = made(tiny_config, np.array([3.0, 1, 50, 50, 50, 50, 50, 50]))
    trainer.network = Certain()  # type: ignore[assignment]
    hu = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    background, second = torch.zeros((1, 2, 2, 2), dtype=torch.uint8), torch.ones((1, 2, 2, 2), dtype=torch.uint8)
    labelled = torch.tensor([[True, False, *[True] * 6]])
    windows = [Batch(hu, background, labelled=labelled), Batch(hu, second)]
    assert relative_loss(trainer, windows) == pytest.approx(-1)


def test_voxels_that_nobody_labelled_are_in_no_window(tiny_config: Configure) -> None:
    """Of two windows of class 1, answered with 1, nobody labelled half of the first: 2·12/(12 + 12) = 1.

    Where nobody labelled anything the loss is 0.
    """
    trainer = made(tiny_config, np.array([3.0, 1, 50, 50, 50, 50, 50, 50]))
    trainer.network = Certain()  # type: ignore[assignment]
    hu = torch.zeros((1, 2, 2, 2), dtype=torch.int16)
    first, second = torch.ones((2, 1, 2, 2, 2), dtype=torch.uint8)
    first[0, 0] = IGNORED
    assert relative_loss(trainer, [Batch(hu, first), Batch(hu, second)]) == pytest.approx(-1)
    assert relative_loss(trainer, [Batch(hu, torch.full_like(first, IGNORED))]) == 0


def test_the_rates_rise_geometrically_and_are_adams(tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    original = Trainer.training_step

    def noted(self: Trainer, batch: Batch) -> StepResult:
        used.append(self.optimizer.param_groups[0]["lr"])
        return original(self, batch)

    monkeypatch.setattr(Trainer, "training_step", noted)
    trainer, source = made(tiny_config, np.ones(8)), feed()
    config = RateRangeConfig(lowest=1e-4, highest=1e-2, steps=21)
    told: list[Progress] = []
    rates, losses = range_test(trainer, source, [source.batch(1)], config, stop=Event(), progress=told.append)
    assert rates == used == pytest.approx([10 ** (-4 + k / 10) for k in range(21)])
    assert len(losses) == 21
    assert told == [Progress("range test", step, 21) for step in range(1, 22)]
    assert all(-1 <= loss <= 0 for loss in losses)


def test_a_useful_rate_lowers_the_loss_and_one_that_is_too_low_does_not(tiny_config: Configure) -> None:
    trainer, source = made(tiny_config, np.ones(8)), feed()
    config = RateRangeConfig(lowest=1e-7, highest=1e-1, steps=120)
    _, losses = range_test(trainer, source, [source.batch(1)], config, stop=Event())
    assert np.ptp(losses[:40]) < 0.02
    assert min(losses) < losses[0] - 0.1


def test_it_ends_where_a_number_is_not_finite(tiny_config: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.training_step

    def failing(self: Trainer, batch: Batch) -> StepResult:
        result = original(self, batch)
        return result._replace(loss=math.nan) if self.step == 5 else result

    monkeypatch.setattr(Trainer, "training_step", failing)
    source = feed()
    rates, losses = range_test(
        made(tiny_config, np.ones(8)), source, [source.batch(1)], RateRangeConfig(steps=20), stop=Event()
    )
    assert len(rates) == len(losses) == 5


def test_it_stops_when_asked(tiny_config: Configure) -> None:
    stop, source = Event(), feed()
    with pytest.raises(InterruptedRunError, match="step 3 of a range test"):
        range_test(
            made(tiny_config, np.ones(8)),
            source,
            [source.batch(1)],
            RateRangeConfig(steps=20),
            stop=stop,
            progress=lambda at: stop.set() if at.done == 2 else None,
        )
