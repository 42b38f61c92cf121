"""The page of the ablation, of figures made up for the purpose."""

from typing import Any

from benchmarks.recipe_arms import arms
from benchmarks.recipes_page import page


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def found(**other: Any) -> dict[str, Any]:
    cost = {"times_base": {"base": 1.0, "cosine": 1.2}, "hardware": "here", "precision": "float32"}
    return {
        "cost": {**cost, "versions": {"torch": "2"}},
        "ablation": {"base": {"0": 0.5, "1": 0.7}, "cosine": {"0": 0.52, "1": 0.74}},
        "steps": {"base": 600, "cosine": 510},
        "shapes": {},
        "trained_on": ["here", "there"],
        "confirmation": {},
        **other,
    }


def test_gains_are_paired_by_seed_and_times_are_told() -> None:
    """510 steps of 1.2 are 1.02 of 600; +2 and +4 points are +3 in the median."""
    assert ["cosine", "1.20", "510", "1.02", "0.520 0.740", "0.630", "+3.0"] in rows(page(found()))


def test_what_was_not_run_is_not_claimed() -> None:
    assert page(found()).count("Not run yet.") == 5


def test_confirmation_and_weightings() -> None:
    of_b = {"base": {"3": 0.6}, "strong": {"3": 0.66}, "strong_simple": {"3": 0.5}, "strong_square": {"3": 0.4}}
    found_rows = rows(page(found(confirmation={"b": {"300": {"base": {"3": 0.4}}, "1200": of_b}})))
    assert ["B, phantom", "1,200", "0.600", "0.660", "+6.0"] in found_rows
    assert ["B, phantom", "as in the paper", "0.660", "0.500", "0.400", "+26.0", "yes"] in found_rows
    assert not any("mean of 1" in row for row in found_rows)
    worse = {"base": {"3": 0.4}, "strong": {"3": 0.38}}
    better = {"base": {"3": 0.4}, "strong": {"3": 0.46}}
    assert "ahead in all 1 rows of B and C." in page(found(confirmation={"b": {"1200": better}}))
    text = page(found(confirmation={"a": {"300": better}, "c": {"300": worse, "1200": better}}))
    assert (
        "not ahead: C, real shapes with simulated HU, 300 steps (-2.0). Rule 4, 5 points on A: reached (+6.0)." in text
    )
    assert "5 points on A: not reached (-2.0)." in page(found(confirmation={"a": {"300": worse}}))
    scaled = {"strong_simple_mean_of_one": {"3": 0.65}, "strong_square_mean_of_one": {"3": 0.63}}
    text = page(
        found(
            confirmation={"b": {"1200": of_b | scaled}},
            mean_weights={"a": {"uniform": 1, "simple": 48.2, "square": 0.03}},
        )
    )
    assert ["B, phantom", "mean of 1", "0.660", "0.650", "0.630", "+3.0", "no"] in rows(text)
    assert "on set A 1 (uniform), 48.2 (simple), 0.03 (square)." in " ".join(text.split())


def test_the_choice_says_what_it_rests_on() -> None:
    """On the phantom `cosine` gains most; on the shapes `early` alone was trained, and gains 2 points in the mean."""
    text = " ".join(page(found()).split())
    assert (
        f"fewest ingredients, `cosine` (so far: {len(arms())} arms have less than 3 seeds on A; the best of these,"
        in text
    )
    assert "`cosine`, gains +3.0 points there). It sets `train.rate_schedule.shape` cosine." in text
    whole = {arm.name: {"0": 0.5, "1": 0.5, "2": 0.5} for arm in arms()} | {"cosine": {"0": 0.6, "1": 0.6, "2": 0.6}}
    cost: dict[str, Any] = {"times_base": dict.fromkeys(whole, 1.0), "hardware": "here", "precision": "float32"}
    shapes = {"300": {"base": {"0": 0.2}, "early": {"0": 0.22}}, "1200": {"base": {"0": 0.3}, "early": {"0": 0.34}}}
    given = found(
        ablation=whole, steps=dict.fromkeys(whole, 600), cost={**cost, "versions": {"torch": "2"}}, shapes=shapes
    )
    assert "fewest ingredients, `early`. It sets" in " ".join(page(given).split())
    assert ["early", "+0.0", "0.220", "+2.0", "0.340", "+4.0", "+2.0"] in rows(page(given))


def test_what_candidates_miss_on_real_scans_is_named_and_who_stays_is_chosen_from() -> None:
    """`early_average` misses a bar of .75; `early_average_ce` reaches all with three seeds."""
    whole = dict.fromkeys(("artery", "portal_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas"), 0.95)
    all_seeds = {scan: dict.fromkeys("012", whole) for scan in ("ts_example", "lidc0001")}
    memorised = {"early_average": {"ts_example": {"0": whole | {"pancreas": 0.749}}}, "early_average_ce": all_seeds}
    dice = {"base": {"0": 0.5}, "early_average": {"0": 0.9}, "early_average_ce": {"0": 0.4}}
    cost: dict[str, Any] = {"times_base": dict.fromkeys(dice, 1.0), "hardware": "here", "precision": "float32"}
    given = found(
        ablation=dice,
        steps=dict.fromkeys(dice, 600),
        cost={**cost, "versions": {"torch": "2"}},
        memorised=memorised,
    )
    assert ["early_average", "0", "pancreas 0.75", "–"] in rows(page(given))
    assert ["early_average_ce", "2", "none", "none"] in rows(page(given))
    assert "fewest ingredients, `early_average_ce`" in " ".join(page(given).split())
    del all_seeds["lidc0001"]["2"]
    assert "fewest ingredients, `early_average`" in " ".join(page(given).split())
