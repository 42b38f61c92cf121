"""Range tests of a store: their files, the command, the study's option, and the report."""

from collections.abc import Callable
from pathlib import Path

import pytest

from viscera.core.config import Config
from viscera.core.errors import BadInputError, RunFailedError, VisceraError
from viscera.core.progress import Progress
from viscera.core.resolve import with_settings
from viscera.engine import rate_finder
from viscera.io.store import Store
from viscera.study import find_rates as stage
from viscera.study import launch
from viscera.study.find_rates import find_rates
from viscera.study.launch import run_study
from viscera.study.rate_range import RateRange, rate_range_path, read_rate_range, write_rate_range
from viscera.study.report.curves_section import rate_range_panel, rate_range_sentence

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
    monkeypatch.setattr(rate_finder, "relative_loss", lambda _trainer, _windows: float("nan"))
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


def test_the_sentence_says_the_three_rates_or_that_there_is_none() -> None:
    assert rate_range_sentence(TEST) == "simple: falls from 0.001 on, slows at 0.005 (suggested), rises above 0.01."
    nothing = TEST.model_copy(update={"suggestion": None, "remark": "The loss did not fall."})
    assert rate_range_sentence(nothing) == "simple: The loss did not fall."


def test_the_panel_marks_suggestion_and_rates_tried() -> None:
    (axes,) = rate_range_panel(TEST, [0.001, 0.01], phantom=True).axes
    marked = [line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1]  # type: ignore[arg-type, index]
    assert marked == [0.001, 0.01, 0.005]
    assert axes.get_title(loc="left") == "simple (phantom)"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == ["smoothed", "rates tried", "suggested: 0.005"]


def test_files_are_named_after_the_weighting(tmp_path: Path) -> None:
    write_rate_range(rate_range_path(tmp_path, 0.5), TEST)
    assert read_rate_range(tmp_path / "power0.5.json") == TEST
