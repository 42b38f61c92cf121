"""A plan for people: a file for `--config` whose every line says why, and tables of what is planned."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from viscera.core.anatomy import title_of
from viscera.core.config import Config
from viscera.core.geometry import size_text
from viscera.core.quantities import duration_text, memory_text
from viscera.core.settings import fields_of, written
from viscera.core.wording import agreeing, counted
from viscera.engine.hardware import describe_hardware
from viscera.planning.fingerprint import OrganFacts
from viscera.planning.plan_rules import Choice, visits
from viscera.planning.plan_warnings import on_volumes
from viscera.planning.training_plan import Plan

_NOT_OF_A_TRAINING = ("rate_range.", "evaluate.", "study.")
_COLUMNS = 100
_WIDEST_VALUE, _WIDEST_REASON = 24, 48  # beside the keys


def plan_yaml(plan: Plan, made_by: str) -> str:
    """What was planned with its reasons, and what the base has otherwise than the default; `train --config` takes it.

    `made_by` says of what it is a plan.
    """
    said_first = [made_by, *promise_lines(plan), *on_volumes(plan.data)]
    if not plan.grid.is_the_stores:
        said_first.append("Its voxels are not the store's: prepare the data again with this file, then train with it.")
    head = [f"# {line}" for text in said_first for line in textwrap.wrap(text, _COLUMNS - 2)]
    said = {choice.key: choice for choice in plan.choices.values()}
    values = {key: _plain(attrgetter(key)(plan.config)) for key, _, _ in fields_of(Config)}
    plain = Config()
    for key, value in values.items():
        is_other = value != _plain(attrgetter(key)(plain)) and not key.startswith(_NOT_OF_A_TRAINING)
        if key not in said and is_other:
            why = "of the store" if key.startswith("prepare.") else "of the base configuration; not planned"
            said[key] = Choice(key, value, why)
    return "\n".join([*head, "", *_sections({key: said[key] for key in values if key in said}, values)]) + "\n"


def _sections(said: Mapping[str, Choice], values: Mapping[str, Any]) -> Iterator[str]:
    """Lines of YAML, a section's fields below its name."""
    open_sections: list[str] = []
    for key in sorted(said, key=lambda each: _order(each, said)):
        *sections, name = key.split(".")
        shared = 0
        while shared < min(len(sections), len(open_sections)) and sections[shared] == open_sections[shared]:
            shared += 1
        for depth in range(shared, len(sections)):
            yield f"{'  ' * depth}{sections[depth]}:"
        open_sections = sections
        text = yaml.safe_dump(values[key], default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
        yield f"{'  ' * len(sections)}{name}: {text}  # {said[key].reason}"


def _order(key: str, said: Mapping[str, Choice]) -> tuple[int, ...]:
    """A section's own fields before those of sections within it, as they stand in the configuration."""
    place = {each: number for number, each in enumerate(said)}
    sections = key.split(".")[:-1]
    heads = [
        min(place[each] for each in said if each.startswith(".".join(sections[: n + 1]) + "."))
        for n in range(len(sections))
    ]
    return (*heads[:1], *(part for head in heads[1:] for part in (1, head)), 0, place[key])


def _plain(value: object) -> Any:  # noqa: ANN401 - what YAML can hold
    """As YAML has it: lists in place of tuples."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def promise_lines(plan: Plan) -> Iterator[str]:
    """How long it takes, what it takes of memory, and where that was found."""
    train, cost = plan.config.train, plan.cost
    threads = f", {plan.threads} thread{'s' * (plan.threads > 1)}" if plan.device.type == "cpu" else ""
    beside = cost.beside_steps(train) / plan.seconds
    take = agreeing(train.iterations, "takes", "take")
    yield (
        f"{counted(train.iterations, 'step')} {take} about {duration_text(plan.seconds)} on "
        f"{describe_hardware(plan.device)}"
        f"{threads}: {cost.step:.2g} s per step, as was timed; {beside:.0%} is for curve, validation and checkpoints, "
        f"{duration_text(cost.around)} before and after."
    )
    yield (
        f"Memory: about {memory_text(plan.bytes)} of {memory_text(plan.memory)}. "
        f"Each case is visited {counted(round(visits(plan.config, plan.data.cases)), 'time')}."
    )


def plan_table(plan: Plan) -> str:
    """What is planned and why, which organs the windows will show, what it costs, and what to mind."""
    grid = Choice("voxels, mm", size_text(plan.grid.spacing_mm), plan.grid.reason)
    kept = {"prepare.spacing_mm"}
    rows = [grid, *(choice for key, choice in plan.choices.items() if key not in kept)]
    settings = tabulate(
        [
            (
                each.key.removeprefix("train."),
                _wrapped(_shown(each.value), _WIDEST_VALUE),
                _wrapped(each.reason, _WIDEST_REASON),
            )
            for each in rows
        ],
        ("setting", "value", "why"),
        disable_numparse=True,
    )
    sentences = [*promise_lines(plan), *(f"Note: {each}" for each in plan.warnings)]
    return "\n\n".join([settings, _organ_table(plan), *(_wrapped(each, _COLUMNS) for each in sentences)])


def plan_json(plan: Plan) -> str:
    """The settings that were planned with their reasons, the voxel size, and what the training costs here."""
    about = {
        "spacing_mm": list(plan.grid.spacing_mm),
        "settings": [
            {"key": each.key, "value": _plain(each.value), "why": each.reason} for each in plan.choices.values()
        ],
        "iterations": plan.config.train.iterations,
        "seconds": plan.seconds,
        "bytes": plan.bytes,
        "warnings": list(plan.warnings),
    }
    return json.dumps(about, indent=1)


def next_steps(plan: Plan, store: Path, out: Path) -> str:
    """What to do with the file."""
    if plan.grid.is_the_stores:
        return f"Train with it:\n    viscera train {store} RUN --config {out}"
    now = f"{size_text(plan.data.spacing_mm)} mm"
    return (
        f"{_wrapped(f'The store has voxels of {now}: prepare the data again, then train.', _COLUMNS)}\n"
        f"    viscera prepare DATA NEW_STORE --config {out}\n"
        f"    viscera train NEW_STORE RUN --config {out}\n"
        f"{_wrapped(f'Or plan with --keep-spacing, for {now}.', _COLUMNS)}"
    )


def _organ_table(plan: Plan) -> str:
    share = plan.config.train.organ_windows
    mixed = plan.seen.mixed(share)
    rows = [
        (
            title_of(organ.name),
            f"{organ.cases}/{organ.labelled_by}",
            _known(organ, f"{organ.median_ml:.3g}"),
            _known(organ, f"{organ.voxels_at(plan.grid.spacing_mm):,.0f}"),
            f"{anywhere:.0%}",
            f"{planned:.0%}",
        )
        for organ, anywhere, planned in zip(plan.data.organs, plan.seen.anywhere, mixed, strict=True)
    ]
    headers = (
        "organ",
        "cases",
        "median mL",
        "voxels",
        "patches\nanywhere",
        f"patches as planned\n({share:.0%} on organs)",
    )
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 5))


def _known(organ: OrganFacts, number: str) -> str:
    """A volume, or what follows from it, as far as it is known."""
    return "unknown" if organ.basis == "unknown" else f"about {number}" if organ.basis == "slices" else number


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def _shown(value: object) -> str:
    if value is None:
        return "as for cubes"
    if isinstance(value, list):
        return ", ".join("×".join(map(str, each)) if isinstance(each, list) else str(each) for each in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else written(value, str)
