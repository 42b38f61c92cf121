"""What a plan cannot do much about: organs too small or too rare, few cases, a short budget."""

from collections.abc import Iterator

from viscera.core.anatomy import title_of
from viscera.core.config import Config
from viscera.core.geometry import size_text
from viscera.core.wording import agreeing, counted, listed
from viscera.planning.fingerprint import Fingerprint, OrganFacts
from viscera.planning.grid_rules import LEAST_VOXELS, Grid
from viscera.planning.plan_rules import FEW_STEPS, visits

FEW_CASES = 5  # with an organ
FEW_VISITS = 50  # of each case
_MOST_NAMED = 12  # organs in a sentence
_A_LITTLE = 1.05  # by which voxels may be thicker than labels: they are planned to a tenth of a millimetre
_VANISHING = 8  # voxels: two along each axis


def warnings_of(data: Fingerprint, grid: Grid, config: Config) -> Iterator[str]:
    """Sentences that say what was found and what to do."""
    yield from on_volumes(data)
    yield from _on_lost_labels(data, grid)
    for organ in data.organs:
        yield from _of_an_organ(organ, data.cases, grid)
    if data.cases < FEW_CASES:
        number = "is 1 training case" if data.cases == 1 else f"are {data.cases} training cases"
        yield f"There {number}; with so few, a model is unlikely to work on other patients."
    train, each = config.train, visits(config, data.cases)
    if each < FEW_VISITS:
        cases = "The only case" if data.cases == 1 else f"Each of the {data.cases} cases"
        yield (
            f"{cases} is visited {counted(round(each), 'time')} in {counted(train.iterations, 'step')} of "
            f"{counted(train.batch_size, 'patch')}; below {FEW_VISITS} little is learnt. Give a larger --budget, or "
            "more --iterations."
        )
    elif train.iterations < FEW_STEPS:
        yield f"{train.iterations:,} steps are few (below {FEW_STEPS:,}). Give a larger --budget, or more --iterations."
    if not data.validation_cases and train.fold != "all":
        folds = config.prepare.folds
        what = f"Give --fold 0: the store has {folds} folds" if folds else "`prepare --folds 5` draws folds"
        yield f"There is no validation case, so nothing says when to stop. {what}."


def on_volumes(data: Fingerprint) -> Iterator[str]:
    """Of what the organs' volumes are where nobody labelled a part of some cases; nothing where there is no such."""
    if not data.partly_labelled:
        return
    of = {
        basis: [title_of(each.name) for each in data.organs if each.basis == basis] for basis in ("slices", "unknown")
    }
    has = agreeing(data.partly_labelled, "has", "have")
    yield (
        f"{data.partly_labelled} of {counted(data.cases, 'training case')} {has} voxels that nobody labelled "
        "(`ignore`). Where an organ borders on them it may go on there, and such a case does not count for its volume."
    )
    if of["slices"]:
        yield (
            f"Too few cases show these whole, so their volumes are estimated from slices that are labelled at even "
            f"distances: {listed(of['slices'], _MOST_NAMED)}."
        )
    if of["unknown"]:
        yield (
            f"No case shows these whole, so their volumes are not known, and nothing here goes by their size: "
            f"{listed(of['unknown'], _MOST_NAMED)}."
        )


def _on_lost_labels(data: Fingerprint, grid: Grid) -> Iterator[str]:
    thin = [
        f"{least:.3g} mm along {axis}"
        for axis, least, mm in zip("RAS", data.least_labelled_mm, grid.spacing_mm, strict=True)
        if least * _A_LITTLE < mm
    ]
    if thin and not grid.is_the_stores:
        yield (
            f"Labels of some cases are thinner than these voxels ({listed(thin)}): where unlabelled voxels outnumber "
            "them, they are lost. `prepare` says of which organs; --keep-spacing plans for the store's voxels."
        )


def _of_an_organ(organ: OrganFacts, cases: int, grid: Grid) -> Iterator[str]:
    title, voxels, mm = title_of(organ.name), organ.voxels_at(grid.spacing_mm), size_text(grid.spacing_mm)
    least = organ.least_ml / organ.median_ml * voxels if organ.has_volume else 0.0
    if not organ.cases:
        verb = "contains" if organ.labelled_by else "labels"
        yield f"{title}: no training case {verb} it. `prepare --classes` leaves it out."
    elif organ.has_volume and voxels < LEAST_VOXELS:
        yield (
            f"{title}: {voxels:.0f} voxels of {mm} mm in the median case, fewer than {LEAST_VOXELS}; it is unlikely "
            "to be found. Prepare with a smaller --spacing-mm."
        )
    elif organ.has_volume and organ.basis == "whole" and least < _VANISHING:
        yield f"{title}: the smallest has {least:.1f} voxels of {mm} mm, and all but disappears."
    if 0 < organ.cases < min(FEW_CASES, cases):
        yield f"{title}: in {counted(organ.cases, 'training case')}; more are needed."
