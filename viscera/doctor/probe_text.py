"""What a probe says, for people: tables for the terminal, and the sentences that the report has, too."""

import textwrap
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.doctor.probe_record import Probe
from viscera.metrics.confusion import Confusion
from viscera.metrics.learning import BATCH_NORM_GAP, LEARNT_DICE, Outcome, said_of

COLUMNS = 80
MOST_COLUMNS = 12  # classes of which a table has a column each; of more, what each is mostly called is listed
MOST_CALLED = 3  # classes that are named then
_LEAST_SHARE = 0.005  # of a class's voxels that is named
NO_BATCH_NORM = "The network has no batch normalisation: so its statistics are not the reason."
OF_PARTS = {"validation": "validation", "train": "training"}


def wrapped(text: str) -> str:
    """A paragraph within 80 columns; commands are not torn at hyphens."""
    return textwrap.fill(text, COLUMNS, break_on_hyphens=False, break_long_words=False)


def probe_text(probe: Probe) -> str:
    """Confusion, Dice by each kind of statistics and by the refitted last layer, and what follows from them."""
    part = f"{OF_PARTS[probe.split]} case" + ("" if probe.cases == 1 else "s")
    cases = f"{probe.cases} {part}" if probe.cases == probe.of_cases else f"{probe.cases} of {probe.of_cases} {part}"
    seen = ", which the training has seen; there are no validation cases" if probe.split == "train" else ""
    return "\n\n".join(
        [
            f"Which class (by its number) the voxels of each class are called, in per cent;\n{cases}{seen}",
            _confusion_table(probe.confusion),
            wrapped(
                f"Dice of whole cases, and with the last layer refitted ({probe.refit.steps} steps){_windows(probe)}"
            ),
            _dice_table(probe),
            *map(wrapped, probe_sentences(probe)),
        ]
    )


def probe_sentences(probe: Probe) -> list[str]:
    """What the figures say: about classes that are taken for one another, statistics, and last layer or features."""
    return [*group_sentences(probe.confusion), *_of_statistics(probe), *_of_refit(probe)]


def group_sentences(confusion: Confusion) -> Iterator[str]:
    """Of the largest group of classes that are taken for one another; none where none are."""
    group = confusion.group
    if group is None:
        return
    if group.rest_dice is None:
        yield f"All classes are taken for one another: {listed_titles(group.organs)}."
        return
    found = min(group.dice, group.rest_dice) >= LEARNT_DICE
    yield (
        f"{_begun(group.organs)} are taken for one another: as one class they have a Dice of "
        f"{group.dice:.3f}, each by itself {group.mean_dice:.3f} on average, and all others as one class "
        f"{group.rest_dice:.3f}."
        + " So the border with the others is found, and the borders between them are not."
        * found
    )


def _of_statistics(probe: Probe) -> Iterator[str]:
    scores = probe.statistics
    if scores is None:
        yield NO_BATCH_NORM
        return
    kept, which = (scores.recomputed, "recomputed") if scores.running is None else (scores.running, "running")
    others = {"by batch": scores.batch} | ({"recomputed": scores.recomputed} if scores.running is not None else {})
    mean = mean_of_organs(probe.of_present(kept))
    gains = {
        name: value - mean
        for name, own in others.items()
        if (value := mean_of_organs(probe.of_present(own))) is not None and mean is not None
    }
    best = max(gains, key=lambda name: gains[name], default=None)
    if best is not None and gains[best] > BATCH_NORM_GAP:
        yield (
            f"The statistics of batch normalisation are part of it: with those {best} the same weights have a mean "
            f"Dice of the organs {100 * gains[best]:.0f} points higher than with the {which} ones that the model keeps."
        )
    elif mean is not None:
        yield (
            "The statistics of batch normalisation are not the reason: no others raise the mean Dice of the organs "
            f"by more than {100 * BATCH_NORM_GAP:g} points."
        )


def _of_refit(probe: Probe) -> Iterator[str]:
    recovered, partly, lost = probe.fate
    if not any(probe.fate):
        which = "Every class" if all(map(any, probe.voxels)) else "Every class that these cases have"
        yield f"{which} is learnt, so there is no failure to look for in the last layer or the features."
        return
    yield (
        f"The last layer was refitted ({probe.refit.steps} steps, all classes weighted alike, layers before it frozen)."
        + f" No class reaches a Dice of {LEARNT_DICE:g} by that." * (not recovered)
    )
    if recovered:
        many = len(recovered) > 1
        yield (
            f"{_begun(recovered)} then {'have' if many else 'has'} a Dice of at least {LEARNT_DICE:g}: the failure is "
            f"in the last layer, and the features distinguish {'them' if many else 'it'} from the others."
        )
    if partly:
        yield (
            f"{_begun(partly)} {'gain' if len(partly) > 1 else 'gains'} at least half of the Dice that is missing to "
            f"{LEARNT_DICE:g}: last layer and features both have a part in the failure."
        )
    if lost:
        less = "less than half of that" if partly else f"less than half of the Dice that is missing to {LEARNT_DICE:g}"
        yield f"{_begun(lost)} {'gain' if len(lost) > 1 else 'gains'} {less}: the failure is in the features."


def _begun(names: Sequence[str]) -> str:
    listed = listed_titles(names)
    return listed[0].upper() + listed[1:]


def listed_titles(names: Sequence[str]) -> str:
    """`liver, spleen and stomach`."""
    titles = [title_of(name) for name in names]
    return " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))


def mostly_called(confusion: Confusion, label: int) -> str:
    """`stomach 64 %, liver 27 %`: what a class's voxels are called, most first; empty where it has none."""
    row = confusion.shares[label]
    largest = sorted(range(len(row)), key=lambda other: -row[other])[:MOST_CALLED]
    titles = [each.title for each in confusion.classes.classes]
    return ", ".join(f"{titles[other]} {percent(row[other])} %" for other in largest if row[other] >= _LEAST_SHARE)


def percent(share: float) -> str:
    """A share of 1 in whole per cent: `64`, `<1`, `0`; empty for NaN."""
    if share != share:  # noqa: PLR0124 - NaN
        return ""
    rounded = f"{100 * share:.0f}"
    return "<1" if rounded == "0" and share > 0 else rounded


def volume_text(value: float | None) -> str:
    """A volume over another: `0.02`, `1.1`, `473`; a dash where there is none."""
    return "–" if value is None else f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _confusion_table(confusion: Confusion) -> str:
    classes, outcomes = confusion.classes.classes, list(confusion.outcomes.items())
    if has_columns := len(classes) <= MOST_COLUMNS:
        columns = [str(each.label) for each in classes]
        cells = [[percent(share) for share in row] for row in confusion.shares.tolist()]
    else:
        columns = ["called"]
        cells = [[mostly_called(confusion, each.label)] for each in classes]
    rows = [
        (f"{c.label} {c.title}" if has_columns else c.title, *row, volume_text(outcome.volume_ratio))
        for c, row, (_, outcome) in zip(classes, cells, outcomes, strict=True)
    ]
    said = [(title_of(name), _remark(name, each)) for name, each in outcomes]
    remarks = [wrapped(f"{title}: {text}") for title, text in said if text]
    table = _table(rows, ("class", *columns, "volume,\npred/true"))
    return "\n\n".join([table, *(["\n".join(remarks)] if remarks else [])])


def _remark(name: str, outcome: Outcome) -> str:
    if outcome.volume_ratio is None:  # no voxel is it
        return "absent" if outcome.dice is None else "absent, but predicted"
    return said_of(name, outcome)


def _dice_table(probe: Probe) -> str:
    columns: dict[str, Sequence[str | float | None]] = {
        "class": [title_of(name) for name in probe.classes],
        "Dice": probe.of_present(probe.refit.before),
        "refitted": probe.of_present(probe.refit.after),
    }
    scores = probe.statistics
    if scores is not None:
        if scores.running is not None:
            columns["patches,\nrunning"] = probe.of_present(scores.running)
        columns["patches,\nrecomputed"] = probe.of_present(scores.recomputed)
        columns["patches,\nby batch"] = probe.of_present(scores.batch)
    rows = zip(*([_cell(value) for value in column] for column in columns.values()), strict=True)
    return _table(list(rows), tuple(columns))


def _windows(probe: Probe) -> str:
    """What the columns of windows are."""
    if probe.statistics is None:
        return ""
    only = "; this run keeps recomputed statistics, and no running ones" if probe.statistics.running is None else ""
    return f"; on {probe.statistics.windows} patches of these cases by each kind of statistics{only}"


def mean_of_organs(dice: Sequence[float | None]) -> float | None:
    """Over the organs where it is defined."""
    values = [value for value in dice[1:] if value is not None]
    return sum(values) / len(values) if values else None


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else "–" if value is None else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    alignment = ["left", *["right"] * (len(headers) - 2), "right" if headers[-1] else "left"]
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment)
