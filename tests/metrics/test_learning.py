"""Which classes are called lost or starving, and how a class failed, on curves and outcomes made by hand."""

from collections.abc import Sequence

import pytest

from viscera.core.anatomy import CLASS_NAMES, ClassTable
from viscera.metrics.learning import (
    Flag,
    LoggedStep,
    Outcome,
    flags,
    recent_share,
    said_of,
    statistics_gap,
    summary,
    words_of,
)


def curve(organ: str, dice: Sequence[float | None], share: Sequence[float] = (), spacing: int = 10) -> list[LoggedStep]:
    """All other classes have Dice 0.9 and an eighth of the gradient."""
    points = []
    for number, value in enumerate(dice):
        values: dict[str, float | None] = {**dict.fromkeys(CLASS_NAMES, 0.9), organ: value}
        shares = {**dict.fromkeys(CLASS_NAMES, 0.125), organ: share[number] if share else 0.125}
        points.append(LoggedStep(spacing * (number + 1), values, shares))
    return points


def test_a_class_that_learns_has_no_flag() -> None:
    assert flags(curve("spleen", [0, 0, 0.1, 0.4, 0.8])) == []


def test_a_class_is_lost_since_its_dice_went_for_good() -> None:
    assert flags(curve("spleen", [0.3, 0.01, 0.2, 0.04, 0.0, 0.01])) == [Flag("spleen", "lost", 40, 0.125)]


def test_a_class_that_was_never_found_is_lost_since_the_first_logged_step() -> None:
    (flag,) = flags(curve("artery", [0.0] * 5, [1e-4] * 5))
    assert (flag.state, flag.since) == ("lost", 10)
    assert str(flag) == "artery: Dice below 0.05 since step 10 (<0.1 % of the gradient)"


def test_a_class_with_a_fair_share_that_was_never_found_is_not_learnt_yet() -> None:
    found = flags(curve("artery", [0.0] * 6))
    assert found == [Flag("artery", "unlearnt", 10, 0.125)]
    assert str(found[0]) == "artery not learnt yet"
    spleen = Flag("spleen", "lost", 40, 0.004)
    assert summary([*found, Flag("pancreas", "unlearnt", 10, 0.1), spleen]) == (
        "artery, pancreas not learnt yet; spleen: Dice below 0.05 since step 40 (0.4 % of the gradient)"
    )


def test_a_dip_shorter_than_a_quarter_is_no_loss() -> None:
    assert flags(curve("spleen", [0.3] * 8 + [0.0])) == []
    assert len(flags(curve("spleen", [0.3] * 8 + [0.0] * 4))) == 1


def test_starving_since_is_the_step_at_which_the_recent_mean_fell_below_a_tenth_of_an_equal_share() -> None:
    shares = [0.2] * 4 + [0.001] * 6
    (flag,) = flags(curve("liver", [0.3] * 10, shares))
    # five values after step 40 make the mean 0.001: step 90
    assert (flag.organ, flag.state, flag.since) == ("liver", "starving", 90)
    assert flag.share == pytest.approx(0.001)


def test_a_class_that_has_been_learnt_needs_no_gradient() -> None:
    assert flags(curve("liver", [0.3, 0.6, 0.8, 0.9, 0.9, 0.9], [0.2, 0.01, 0.005, 0.005, 0.005, 0.005])) == []


def test_batches_without_the_class_do_not_count() -> None:
    points = curve("gallbladder", [0.5] * 6, [0.1, 0, 0.3, 0, 0, 0])
    assert recent_share(points, "gallbladder") == pytest.approx(0.2)
    assert flags(points) == []


def test_background_can_starve_but_is_not_lost() -> None:
    (flag,) = flags(curve("background", [0.01] * 6, [1e-6] * 6))
    assert (flag.state, flag.since) == ("starving", 40)


def test_too_few_points_say_nothing() -> None:
    assert flags(curve("spleen", [0.0] * 3)) == []


def test_a_class_that_is_in_no_window_is_not_judged() -> None:
    assert flags(curve("spleen", [None] * 6)) == []


def test_curves_without_shares_are_judged_by_dice_alone() -> None:
    points = [LoggedStep(step, {"spleen": 0.0}, {}) for step in range(1, 7)]
    assert flags(points) == [Flag("spleen", "lost", 1, None)]


def test_an_equal_share_depends_on_the_number_of_classes() -> None:
    # a tenth of an equal share: 5 % of two classes, 1.25 % of eight
    table = ClassTable.of_names(["background", "kidney"])
    points = [LoggedStep(step, {"background": 0.9, "kidney": 0.3}, {"kidney": 0.04}) for step in range(10, 70, 10)]
    (flag,) = flags(points, table)
    assert (flag.organ, flag.state) == ("kidney", "starving")
    assert flags(curve("spleen", [0.3] * 6, [0.04] * 6)) == []


def test_dice_by_batch_statistics_part_where_an_organ_or_the_mean_is_more_than_a_tenth_away() -> None:
    def gap(
        own: dict[str, float | None], batch: dict[str, float | None]
    ) -> tuple[float, float, tuple[str, ...]] | None:
        found = statistics_gap(LoggedStep(1, own, {}, batch))
        return None if found is None else (found.dice, found.batch_dice, found.organs)

    assert gap({"background": 0.1, "liver": 0.6}, {"background": 0.9, "liver": 0.7}) is None  # background has no part
    assert gap({"liver": 0.5, "spleen": 0.9}, {"liver": 0.75, "spleen": 0.9}) == (0.7, 0.825, ("liver",))
    assert gap({"liver": 0.75, "spleen": 0.9}, {"liver": 0.5, "spleen": 0.9}) == (0.825, 0.7, ("liver",))
    assert gap({"liver": None, "spleen": 0.9}, {"liver": 0.9, "spleen": 0.9}) is None
    assert gap({"liver": 0.1}, {}) is None  # a run of earlier days


def test_the_words_for_a_dice_alone() -> None:
    values = (None, 0.0, 0.199, 0.2, 0.499, 0.5, 1.0)
    words = [words_of("liver", Outcome(value)) for value in values]
    assert words == [(), *[("failing",)] * 2, *[("weak",)] * 2, (), ()]


@pytest.mark.parametrize(
    ("outcome", "words", "said"),
    [
        # with a volume of 1/9 the Dice is at most 2 (1/9) / (10/9) = 0.2, with 3 at most 2 / 4 = 0.5
        (Outcome(0.1, 0.11, "background"), ("empty",), "empty"),
        (Outcome(0.1, 0.12, "background"), ("failing",), "failing"),
        (Outcome(0.4, 3.01, "liver"), ("flooded",), "flooded"),
        (Outcome(0.4, 2.99, "liver"), ("weak",), "weak"),
        (Outcome(0.0, 0.0, "stomach"), ("empty", "confused"), "empty, called stomach"),
        (Outcome(0.1, 9.0, "portal_vein"), ("flooded", "confused"), "flooded, called portal vein"),
        (Outcome(0.3, 1.0, "stomach"), ("confused",), "called stomach"),
        (Outcome(0.5, 0.8, "liver"), (), ""),  # learnt, whatever its volume
        (Outcome(None, None, None), (), ""),
    ],
)
def test_how_a_class_failed(outcome: Outcome, words: tuple[str, ...], said: str) -> None:
    assert words_of("liver", outcome) == words
    assert said_of("liver", outcome) == said


def test_background_is_confused_where_most_of_it_is_called_an_organ() -> None:
    assert words_of("background", Outcome(0.16, 0.09, "stomach")) == ("empty", "confused")
    assert words_of("background", Outcome(0.4, 0.5, "background")) == ("weak",)


def test_a_flag_says_how_where_it_was_logged() -> None:
    points = curve("spleen", [0.3, 0.01, 0.0, 0.0, 0.0, 0.0], [0.004] * 6)
    ratio, called = {"spleen": 0.02}, {"spleen": "stomach"}
    logged = [*points[:-1], LoggedStep(60, points[-1].dice, points[-1].gradient_share, {}, ratio, called)]
    (flag,) = flags(logged)
    assert str(flag) == "spleen: empty, called stomach, Dice below 0.05 since step 20 (0.4 % of the gradient)"
    # its volume is about right and lies elsewhere: what is known is its Dice
    elsewhere = LoggedStep(
        60, points[-1].dice, points[-1].gradient_share, {}, {"spleen": 1.0}, {"spleen": "background"}
    )
    assert flags([*points[:-1], elsewhere])[0].how == ""


def test_classes_that_are_not_learnt_yet_are_listed_by_how() -> None:
    found = [Flag("artery", "unlearnt", 1, 0.1, "empty"), Flag("liver", "unlearnt", 1, 0.1, "flooded")]
    found += [Flag("spleen", "unlearnt", 1, 0.1, "empty")]
    assert summary(found) == "artery, spleen not learnt yet (empty); liver not learnt yet (flooded)"
