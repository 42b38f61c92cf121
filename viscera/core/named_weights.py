"""Class weights under a name (`study.weights`): a value for each class, or a power of the counts of other classes.

What a name stands for is plain data, as it is written in YAML and kept in the configuration of a run:
`{background: 1, liver: 0.2, ...}`, or `{power: 2, counts_of: {liver: gallbladder, gallbladder: liver}}`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from viscera.core.errors import BadInputError

WEIGHTINGS = ("uniform", "simple", "square")
POWER, COUNTS_OF = "power", "counts_of"
_MOST_POWER, _MOST_WEIGHT = 2.0, 1e37  # what float32 holds
_TAKEN = {*WEIGHTINGS, "fused"}  # names of other arms
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.-]{0,39}")
_OF_A_POWER = re.compile(r"power[0-9.]+", re.IGNORECASE)


def is_weighting_name(value: object) -> bool:
    """Whether a weighting may be called so: a name that is part of a folder's, and neither a number nor another arm."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and not _is_taken(value)


def _is_taken(name: str) -> bool:
    return name.casefold() in _TAKEN or _number(name) is not None or _OF_A_POWER.fullmatch(name) is not None


def _number(value: object) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _weights_by_name(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping):
        raise ValueError("names were expected, each with its weights")  # noqa: TRY004 - pydantic takes a ValueError
    for name in value:
        if isinstance(name, str) and _is_taken(name):
            raise ValueError(f"'{name}' is the name of something else; choose another one")
        if not is_weighting_name(name):
            raise ValueError(
                f"'{name}' is not a valid name; at most 40 letters, digits, . and - were expected, a letter first"
            )
    return {name: _definition(name, each) for name, each in value.items()}


def _definition(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{name}: a weight for each class was expected, or {POWER} and {COUNTS_OF}")
    if POWER not in value and COUNTS_OF not in value:
        return {str(key): _weight(name, key, each) for key, each in value.items()}
    if other := value.keys() - {POWER, COUNTS_OF}:
        raise ValueError(f"{name}: {POWER} and {COUNTS_OF} stand alone; found {', '.join(map(str, other))} beside them")
    power, counts_of = _number(value.get(POWER)), value.get(COUNTS_OF, {})
    if power is None or not 0 <= power <= _MOST_POWER:
        raise ValueError(f"{name}: {POWER} is {value.get(POWER)}; a number in [0, 2] was expected")
    if not isinstance(counts_of, Mapping) or not all(isinstance(each, str) for each in counts_of.values()):
        raise ValueError(f"{name}: {COUNTS_OF} names for a class the class whose count it takes, liver: gallbladder")
    return {POWER: power, COUNTS_OF: {str(key): each for key, each in counts_of.items()}}


def _weight(name: str, label: object, value: object) -> float:
    number = _number(value)
    if number is None or not 0 < number <= _MOST_WEIGHT:
        raise ValueError(f"{name}: the weight of {label} is {value}; a number above 0 was expected")
    return number


WeightsByName = Annotated[dict[str, dict[str, Any]], BeforeValidator(_weights_by_name)]


def with_used_weights(values: Any) -> Any:  # noqa: ANN401 - what pydantic is given, before it is checked
    """The settings of a configuration with `train.loss.weights`: of `study.weights`, those that the training uses."""
    train = values.get("train") if isinstance(values, Mapping) else None
    loss = train.get("loss", {}) if isinstance(train, Mapping) else None
    if not isinstance(train, Mapping) or not isinstance(loss, Mapping):
        return values
    known = weights_by_name_in(values)
    if not known:
        return values
    schedule = loss.get("schedule")
    used = [train.get("weighting"), loss.get("cross_entropy_weighting")]
    used += [schedule.get("to")] if isinstance(schedule, Mapping) else []
    weights = {name: known[name] for name in used if isinstance(name, str) and name in known}
    return {**values, "train": {**train, "loss": {**loss, "weights": weights}}}


def weights_by_name_in(values: Mapping[str, Any]) -> dict[Any, Any]:
    """All named weights in the settings of a configuration, before they are checked; those of `study` come first."""
    train = values.get("train")
    known: dict[Any, Any] = {}
    for section in (train.get("loss") if isinstance(train, Mapping) else None, values.get("study")):
        own = section.get("weights") if isinstance(section, Mapping) else None
        known |= own if isinstance(own, Mapping) else {}
    return known


def unknown_weightings(names: Iterable[object], weights: Mapping[str, Any]) -> list[str]:
    """Which of some weightings are names that stand for nothing."""
    return [str(each) for each in names if is_weighting_name(each) and each not in weights]


def refuse_other_classes(weights: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> None:
    """Raise BadInputError where named weights lack one of the classes, or name another one."""
    for name, definition in weights.items():
        counts_of = definition.get(COUNTS_OF)
        named = definition.keys() if counts_of is None else [*counts_of.keys(), *counts_of.values()]
        other = [each for each in named if each not in classes]
        if other:
            raise BadInputError(
                f"study.weights.{name}: there is no class {', '.join(dict.fromkeys(other))} here. There are: "
                f"{', '.join(classes)}."
            )
        left_out = [each for each in classes if each not in definition] if counts_of is None else []
        if left_out:
            raise BadInputError(f"study.weights.{name}: no weight for {', '.join(left_out)}. Give one for each class.")
