"""A diagnosis for people, within 80 columns: what it is for, tables with a column for each arm, and what to do."""

from collections.abc import Iterator, Mapping, Sequence

from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.doctor.diagnosis import Diagnosis, RunDiagnosis
from viscera.doctor.forecast import ArmForecast
from viscera.doctor.probe_text import COLUMNS, volume_text, wrapped
from viscera.io.splits import sizes_text
from viscera.metrics.learning import FAILING_DICE, LOST_DICE, Outcome, said_of


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """What the forecast is for; counts and weights, gradients, chances; advice."""
    s = diagnosis.settings
    titles = [title_of(name) for name in diagnosis.classes]
    labelling = [f"{n}/{diagnosis.cases}" for n in diagnosis.cases_labelling]
    present = zip(diagnosis.cases_with_class, diagnosis.cases_labelling, strict=True)
    counts = {
        "voxels": [f"{n:,}" for n in diagnosis.voxel_counts],
        "share": [f"{share:.3%}" for share in diagnosis.fractions],
        **({"labelled": labelling} if min(diagnosis.cases_labelling) < diagnosis.cases else {}),
        "cases": [f"{cases}/{labelled}" for cases, labelled in present],
        "in\npatches": [f"{share:.0%}" for share in diagnosis.windows_with_class],
        "in\nbatches": [f"{share:.0%}" for share in diagnosis.batches_with_class],
    }
    weights = {name: [f"{weight:.3g}" for weight in vector] for name, vector in diagnosis.weights.items()}
    trained_with = (
        f"Forecast for {s['iterations']:,} iterations, patches of {s['patch']} voxels, {s['batch_size']} per step, "
        f"{s['filters']} filters, {s['levels']} levels. For other settings give --preset, --config or --set."
    )
    return "\n\n".join(
        [
            wrapped(trained_with),
            wrapped(f"Store: {sizes_text(diagnosis.split, diagnosis.fold)}."),
            "Training cases, and the class weights",
            *tables("class", titles, counts),
            *tables("class", titles, weights),
            *_gradients(diagnosis, titles),
            *_chances(diagnosis, titles),
            *map(wrapped, diagnosis.advice),
        ]
    )


def _gradients(diagnosis: Diagnosis, titles: Sequence[str]) -> Iterator[str]:
    """Each class's share of the gradient, one column for each arm that differs from the others in it."""
    columns: dict[tuple[str, ...], list[str]] = {}
    unknown = {name for arm in diagnosis.arms for name in (*arm.absent, *arm.unmet)}
    for arm in diagnosis.arms:
        pairs = zip(diagnosis.classes, arm.gradient_share, strict=True)
        shares = ["–" if name in unknown else share_text(share) for name, share in pairs]
        cells = (*shares, f"{arm.gradient_rms:.1e}", share_text(arm.step_kept))
        columns.setdefault(cells, []).append(arm.arm)
    merged = {_common(names, diagnosis.arms): cells for cells, names in columns.items()}
    yield wrapped("Before training: share of each class in the gradient, and of Adam's step that its epsilon leaves")
    yield from tables("class", [*titles, "gradient, RMS", "step kept"], merged)
    if unknown:
        yield wrapped("–: in none of the training patches that were looked at, so its share is not known.")


def _common(arms: Sequence[str], all_arms: Sequence[ArmForecast]) -> str:
    """What arms with equal columns are called together: the weighting, where they are all of its rates."""
    weighting = {name.partition("_lr")[0] for name in arms}
    if len(weighting) == 1 and len(arms) > 1:
        of_it = [each.arm for each in all_arms if each.arm.partition("_lr")[0] in weighting]
        if len(of_it) == len(arms):
            return weighting.pop()
    return "\n".join(map(_arm_title, arms))


def _arm_title(name: str) -> str:
    return name.replace("_", "\n")


def _chances(diagnosis: Diagnosis, titles: Sequence[str]) -> Iterator[str]:
    """The chance of each organ to fail, one column an arm; nothing where none is forecast."""
    columns = {
        _arm_title(arm.arm): [
            "–" if name in arm.absent else f"{100 * low:.0f}–{100 * high:.0f}"
            for name, low, high in zip(
                diagnosis.classes[1:], arm.failing_chance_low[1:], arm.failing_chance_high[1:], strict=True
            )
        ]
        for arm in diagnosis.arms
        if arm.failing_chance_low
    }
    if columns:
        yield wrapped(
            f"Before training: chance in per cent that an organ ends below a Dice of {FAILING_DICE:g} (90 % interval)"
        )
        yield from tables("organ", titles[1:], columns)


def run_diagnosis_text(diagnosis: RunDiagnosis) -> str:
    """One row a class, what is to be said of single ones, then what is wrong and what to do."""
    outcomes = map(Outcome, diagnosis.dice, diagnosis.volume_ratio, diagnosis.mostly_called)
    said = {name: said_of(name, outcome) for name, outcome in zip(diagnosis.classes, outcomes, strict=True)}
    for flag in diagnosis.flags:
        what = "little gradient" if flag.state == "starving" else f"Dice below {LOST_DICE:g}"
        said[flag.organ] = "; ".join(filter(None, (said[flag.organ], f"{what} since step {flag.since}")))
    columns = {
        "weight": [f"{weight:.3g}" for weight in diagnosis.weights],
        "Dice on\npatches": [_score(dice) for dice in diagnosis.dice],
        "by batch\nstatistics": [_score(dice) for dice in diagnosis.dice_batch_statistics],
        **({"volume,\npred/true": [*map(volume_text, diagnosis.volume_ratio)]} if any(diagnosis.volume_ratio) else {}),
        "share of\ngradient": ["–" if share is None else share_text(share) for share in diagnosis.gradient_share],
    }
    kept = f"; Adam's epsilon leaves {share_text(diagnosis.step_kept)} of its step" if diagnosis.step_kept else ""
    head = f"Step {diagnosis.step} of {diagnosis.iterations}{kept}. Dice and volumes are of the training patches."
    remarks = [wrapped(f"{title_of(name)}: {text}") for name, text in said.items() if text]
    return "\n\n".join(
        [
            wrapped(head),
            *tables("class", [title_of(name) for name in diagnosis.classes], columns),
            *(["\n".join(remarks)] if remarks else []),
            *map(wrapped, diagnosis.advice),
        ]
    )


def _score(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.3f}"


def share_text(value: float) -> str:
    """A share of 1: `24%`, `0.45%`, `8e-05%`."""
    return f"{value:.0%}" if value >= 0.095 else f"{100 * value:.2g}%"


def tables(first: str, rows: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One table with these columns; several below each other where it would be wider than the screen."""
    left = dict(columns)
    while left:
        part: dict[str, Sequence[str]] = {}
        for title, cells in left.items():
            wider = _table(first, rows, {**part, title: cells})
            if part and max(map(len, wider.splitlines())) > COLUMNS:
                break
            part[title] = cells
        yield _table(first, rows, part)
        left = {title: cells for title, cells in left.items() if title not in part}


def _table(first: str, rows: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    headers = (first, *columns)
    cells = zip(rows, *columns.values(), strict=True)
    return tabulate(list(cells), headers, disable_numparse=True, colalign=("left", *["right"] * len(columns)))
