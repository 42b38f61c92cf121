"""What a plan says it cannot mend, by hand."""

from dataclasses import replace

from tests.planned_data import data_of
from viscera.core.config import Config, PrepareConfig, TrainConfig
from viscera.planning.fingerprint import Fingerprint, OrganFacts
from viscera.planning.grid_rules import Grid
from viscera.planning.plan_warnings import warnings_of

DATA = data_of((4, 4, 4), (80, 80, 80))
GRID = Grid((4.0, 4.0, 4.0), "", is_the_stores=True)
LONG = TrainConfig(iterations=9000, batch_size=2)


def planned_grid() -> Grid:
    """The same voxels, for which the data are to be prepared again."""
    return GRID._replace(is_the_stores=False)


def said(data: Fingerprint = DATA, train: TrainConfig = LONG) -> list[str]:
    return list(warnings_of(data, GRID, Config(train=train)))


def organ(name: str, labelled_by: int, cases: int, median_ml: float, least_ml: float) -> Fingerprint:
    return replace(DATA, organs=(OrganFacts(name, labelled_by, cases, median_ml, least_ml),))


def test_nothing_where_all_is_well() -> None:
    assert said() == []


def test_organs_that_are_small_rare_or_not_there() -> None:
    """A voxel of 4 mm has 0.064 mL: 2 mL are 31 of them, 0.32 mL are 5."""
    assert said(organ("pancreas", 10, 10, 2.0, 1.0))[0].startswith("pancreas: 31 voxels of 4×4×4 mm in the median case")
    assert said(organ("pancreas", 10, 10, 64.0, 0.32)) == [
        "pancreas: the smallest has 5.0 voxels of 4×4×4 mm, and all but disappears."
    ]
    assert said(organ("pancreas", 10, 1, 64.0, 64.0)) == ["pancreas: in 1 training case; more are needed."]
    assert "no training case contains it" in said(organ("pancreas", 10, 0, 0.0, 0.0))[0]
    assert "no training case labels it" in said(organ("pancreas", 0, 0, 0.0, 0.0))[0]


def test_volumes_of_cases_that_nobody_labelled_all_of() -> None:
    """Nothing is said of sizes that are not known, nor of the smallest of estimates."""
    assert "nobody labelled" not in "".join(said(organ("pancreas", 10, 10, 2.0, 1.0)))
    (spleen,) = DATA.organs
    some = replace(
        DATA,
        partly_labelled=3,
        organs=(
            spleen,
            OrganFacts("liver", 10, 10, 1000.0, 0.01, "slices"),
            *(OrganFacts(name, 10, 10, 0.0, 0.0, "unknown") for name in ("pancreas", "portal_vein")),
        ),
    )
    of_cases, of_slices, of_none = said(some)
    assert of_cases == (
        "3 of 10 training cases have voxels that nobody labelled (`ignore`). Where an organ borders on them it may go "
        "on there, and such a case does not count for its volume."
    )
    assert of_slices.endswith("estimated from slices that are labelled at even distances: liver.")
    assert of_none.startswith("No case shows these whole, so their volumes are not known")
    assert of_none.endswith("pancreas, portal vein.")
    assert said(replace(DATA, cases=1, partly_labelled=1))[0].startswith("1 of 1 training case has voxels that nobody")


def test_labels_that_a_coarser_grid_may_lose() -> None:
    """Of the rule's grid alone: in a store they are lost or not, and `prepare` has said so."""
    thin = replace(DATA, least_labelled_mm=(100.0, 3.9, 1.0))
    assert said(thin) == []
    (found,) = warnings_of(thin, planned_grid(), Config(train=LONG))
    assert found.startswith("Labels of some cases are thinner than these voxels (1 mm along S): where")


def test_short_trainings_and_few_cases() -> None:
    """10 cases: 200 steps of 2 windows are 40 visits each, 400 are 80."""
    assert said(train=TrainConfig(iterations=200, batch_size=2))[0].startswith(
        "Each of the 10 cases is visited 40 times"
    )
    assert "400 steps are few" in said(train=TrainConfig(iterations=400, batch_size=2))[0]
    assert said(replace(DATA, cases=3))[0].startswith("There are 3 training cases")
    assert said(replace(DATA, validation_cases=0))[0].endswith("when to stop. `prepare --folds 5` draws folds.")
    drawn = Config(train=LONG, prepare=PrepareConfig(folds=3))
    (found,) = warnings_of(replace(DATA, validation_cases=0), GRID, drawn)
    assert found.endswith("when to stop. Give --fold 0: the store has 3 folds.")
    assert said(replace(DATA, validation_cases=0), LONG.model_copy(update={"fold": "all"})) == []
