"""The rules of docs/decisions/0044 on studies whose answer is known, and the pages made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from benchmarks.long_studies import STUDIES, study_config
from benchmarks.seeded_arms import combined, difference, failing, foreground, interaction, mean_points, spread
from benchmarks.weight_figures import permuted_figure, power_figure, scale_figure
from benchmarks.weight_rules import (
    direction_check,
    levels,
    placed,
    rate_rule,
    repair_rule,
    repairs,
    scale_rule,
    title_interactions,
)
from benchmarks.weight_tables import tables_page
from benchmarks.why_weights_fail import page
from viscera.core.anatomy import ORGANS
from viscera.core.arms import Arm, arms_of

RATES = (0.001, 0.01, 0.1)
KEPT = {"": 1.0, "eps1e-4": 0.5, "eps1e-3": 0.1, "eps1e-2": 0.01, "eps1e-1": 0.001}
READINGS = ("", "eps0", "eps1e-7", "pytorch", "volumes", "counts1000", "counts1000-volumes")
CLAIMED: dict[str, Any] = {
    "kept": {"paper": {"1e-08": {"square": 0.013}}, "demo": {"1e-08": {"square": 0.974}}},
}


def entry(percent: float, kept: float = 1.0, validation: float | None = None) -> dict[str, Any]:
    return {
        "dice": {"background": 0.99} | {organ.name: percent / 100 for organ in ORGANS},
        "step_kept": kept,
        "validation": percent / 100 if validation is None else validation / 100,
    }


def seeds(percent: float, kept: float = 1.0, number: int = 5) -> dict[str, Any]:
    """Every seed has a little of its own, the same in all its arms."""
    return {str(seed): entry(percent + 0.2 * seed, kept) for seed in range(number)}


def studies(**changed: dict[str, Any]) -> dict[str, Any]:
    """p = 2 falls from 40 to 5 as epsilon takes the step at 0.001; at 0.01 it holds out down to a tenth of the step."""
    direction = {
        Arm(power, rate).name: seeds(70 - 15 * power + (5 if rate == 0.01 else 0))
        for power in (0.0, 0.5, 1.0, 1.5, 2.0)
        for rate in RATES
    }
    at_low, at_high = (
        dict(zip(KEPT, (40, 30, 10, 5, 5), strict=True)),
        dict(zip(KEPT, (45, 44, 43, 10, 5), strict=True)),
    )
    scale = {
        Arm(2.0, rate, name).name: seeds((at_low if rate == 0.001 else at_high)[name], kept)
        for name, kept in KEPT.items()
        for rate in RATES
        if name
    }
    readings = {Arm("square", rate, name).name: seeds(30, 0.5, 3) for name in READINGS for rate in (0.001,)}
    readings |= {Arm("square", rate, name).name: seeds(44, 0.5, 3) for name in READINGS for rate in (0.01,)}
    repair = {
        Arm(power, rate, name).name: seeds(60)
        for power in (1.0, 2.0)
        for rate in (0.001, 0.01)
        for name in ("background", "ratio30", "to-uniform")
    }
    found = {
        "direction": direction,
        "printed": {"square_lr0.001": seeds(41)},
        "scale": scale,
        "readings": readings,
        "repair": repair,
    }
    return {name: {"300": arms} for name, arms in (found | changed).items()}


def test_a_combination_is_of_the_seeds_that_all_have() -> None:
    assert combined([(1, {"0": 3.0, "1": 5.0}), (-2, {"1": 1.0, "2": 9.0})]) == {"1": 3.0}
    # differences 1 and 3: mean 2, s.d. sqrt(2), t(0.975, 1) = 12.706
    found = difference({"0": 2.0, "1": 5.0, "2": 8.0}, {"0": 1.0, "1": 2.0})
    assert found is not None
    assert (found.mean, found.high) == pytest.approx((2, 2 + 12.706), abs=1e-2)
    assert difference({"0": 1.0}, {"1": 1.0}) is None


def test_background_is_no_organ_and_an_organ_below_a_fifth_fails() -> None:
    one, other = entry(50), entry(50)
    one["dice"]["spleen"], other["dice"]["spleen"] = 0.3, 0.05
    assert failing([one]) == []
    assert failing([one, other]) == ["spleen"]  # 0.175 in the mean
    assert foreground(one) == pytest.approx((6 * 0.5 + 0.3) / 7)


def test_means_over_arms_are_within_a_seed() -> None:
    arms = {"power1_lr0.001": seeds(40, number=2), "power1_lr0.01": seeds(50, number=3)}
    assert mean_points(arms, [Arm(1.0, 0.001), Arm(1.0, 0.01)]) == pytest.approx({"0": 45, "1": 45.2})
    assert spread({"0": 1.0, "1": 3.0}) == "2.0 ± 1.4 (2)"


def test_the_interaction_is_what_the_weighting_gains_beyond_uniform() -> None:
    arms = {
        "power0_lr0.001": seeds(60),
        "power0_lr0.01": seeds(58),
        "power1_lr0.001": seeds(40),
        "power1_lr0.01": seeds(57),
    }
    assert list(interaction(arms, 1.0, 0.0).values()) == pytest.approx([19] * 5)
    assert title_interactions(studies())["p = 2"] == pytest.approx([0] * 5, abs=1e-9)


def test_levels_are_epsilons_and_what_they_left() -> None:
    of = levels(studies())
    assert [epsilon for epsilon, _ in of] == [0, 1e-4, 1e-3, 1e-2, 1e-1]
    assert [by_rate[0.01].kept for _, by_rate in of] == [1, 0.5, 0.1, 0.01, 0.001]


def test_an_interpretation_is_expected_between_the_levels_that_keep_more_and_less() -> None:
    readings = {Arm("square", 0.001).name: seeds(20, 0.1**1.5, 3)}  # half-way between 0.1 and 0.01 on the axis
    (found,) = placed(studies(readings=readings), levels(studies()))
    assert found.expected == pytest.approx((10 + 5) / 2 + 0.4)
    assert found.found == pytest.approx(20.2)
    (below,) = placed(studies(readings={"square_lr0.001": seeds(5, 0.0, 3)}), levels(studies()))
    assert below.expected == pytest.approx(5.4)  # that of the last level


def test_the_rule_of_scale() -> None:
    def verdict(of: Mapping[str, Any]) -> str:
        return scale_rule(levels(of), placed(of, levels(of))).word

    assert verdict(studies()) == "confirmed"
    off = studies()["readings"]["300"] | {"square_lr0.01": seeds(20, 0.5, 3)}
    assert verdict(studies(readings=off)) == "not confirmed"
    flat = {name: seeds(38, 0.5) for name in studies()["scale"]["300"]}
    assert verdict(studies(scale=flat)) == "not confirmed"
    assert verdict(studies(readings={"square_lr0.01": seeds(44, 0.5, 3)})) == "open"
    few = {name: seeds(30, 0.5, 2) for name in studies()["scale"]["300"]}
    assert verdict(studies(scale=few)) == "open"


def test_the_rule_of_the_rate() -> None:
    """At epsilon 1e-4, the first that leaves half, p = 2 gains 14 points, and 5 without epsilon."""
    found = rate_rule(levels(studies()))
    assert found.word == "confirmed"
    assert "gains +14.0 (+14.0 to +14.0) points at ε = 0.0001 and +5.0 (+5.0 to +5.0) at ε = 0" in found.said
    alike = {name: seeds(38, 0.4) for name in studies()["scale"]["300"]}
    assert rate_rule(levels(studies(scale=alike))).word == "not confirmed"
    assert rate_rule(levels({})).word == "open"


def test_square_as_printed_and_p_2_go_together_or_not() -> None:
    assert direction_check(studies()).word == "confirmed"
    assert direction_check(studies(printed={"square_lr0.001": seeds(47)})).word == "not confirmed"
    assert direction_check(studies(printed={})).word == "open"


def test_a_repair_is_first_on_validation_and_above_uniform_on_test() -> None:
    assert repair_rule(repairs(studies())).word == "not confirmed"
    better = studies()["repair"]["300"] | {
        f"power1_lr{rate}_to-uniform": {str(n): entry(78 + 0.1 * n, validation=90) for n in range(5)}
        for rate in (0.001, 0.01)
    }
    found = repair_rule(repairs(studies(repair=better)))
    assert found.word == "confirmed"
    assert found.said.startswith("p = 1, to-uniform, which is first on the validation cases, lies +5.3 ")
    assert repair_rule(repairs(studies(repair=better)), "p = 2, to-uniform").word == "not confirmed"
    assert repair_rule(repairs({})).word == "open"
    assert repair_rule(repairs(studies(repair={}))).word == "open"  # p = 0 may be first of what is in


def test_the_pages_say_what_is_in_and_what_is_not() -> None:
    found: dict[str, Any] = {"studies": {}, "counts": {}, "computers": {}, "computing": {}, "versions": {}}
    nothing = {"weights": found, "permutation": found, "regime": found}
    text = page(nothing, CLAIMED, dict.fromkeys(("permuted", "power", "scale"), False))
    planned = sum(len(arms_of(study_config(n).study)) * len(study_config(n).study.seeds) for n in _of_weights())
    assert f"0 of {planned} trainings are in." in text
    assert "not the organ: open.**" in text
    assert "No stage is complete" in text
    assert "96 at rate 0.01" in text
    assert "Not run yet." in tables_page(found)
    full = found | {"studies": studies(), "computers": {"direction": ["A CPU"]}}
    text = page(nothing | {"weights": full}, CLAIMED, dict.fromkeys(("permuted", "power", "scale"), True))
    assert "**At this size the phantom does not show the effect in the title.**" in text
    assert "**2. Scale decides how slowly everything learns: confirmed.**" in text
    assert "in the paper it is +20.1" in text.lower()
    assert "Rate 0.001: uniform weights are highest." in text
    assert "images/why-weights-power.svg" in text
    tables = tables_page(full)
    assert "| p = 2   | 40.4 ± 0.3 (5)" in tables
    assert "[50.0 %] 30.4 ± 0.3 (5)" in tables


def _of_weights() -> list[str]:
    return [name for name, study in STUDIES.items() if study.experiment == "weights"]


def test_figures_show_what_is_in() -> None:
    assert power_figure({}) is None
    assert permuted_figure({}, {}) is None
    assert scale_figure([], []) is None
    of = levels(studies())
    figure = scale_figure(of, placed(studies(), of))
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["interpretations, rate 0.001"].get_xdata() == pytest.approx([50.0] * 7)
    drawn = power_figure(studies()["direction"]["300"])
    assert drawn is not None
    means = drawn.axes[0].lines[::3]  # each followed by the ends of its bars
    assert [np.asarray(line.get_ydata())[0] for line in means] == pytest.approx([70.4, 75.4, 70.4])
