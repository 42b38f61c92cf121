"""From presets, files and options to one resolved configuration."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from viscera.core.config import Config
from viscera.core.errors import BadInputError, UsageError
from viscera.core.named_weights import unknown_weightings, weights_by_name_in
from viscera.core.plain_yaml import plain_yaml
from viscera.core.settings import a_weighting_was_expected, fields_of
from viscera.core.suggestions import did_you_mean
from viscera.core.wording import sentence
from viscera.core.wrong_values import in_words

_MOST_SAID = 200  # characters of a value
_OF_WEIGHTINGS = {"train.weighting", "study.weightings"}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {
        "train": {"iterations": 300, "patch": 24, "filters": 8, "levels": 3, "monitor_windows": 12}
        | {"checkpoint_every": 100, "log_every": 30, "validate_every": 60}
    },
    # the best of the ablation in docs/results/recipes.md, by the rules of docs/decisions/0035
    "strong": {
        "train": {
            "learning_rate": 0.01,
            "organ_windows": 0.33,
            "intensity": {"low_hu": -160.0, "high_hu": 240.0},
            "average": 0.999,
            "loss": {"cross_entropy": 1.0},
        },
        "study": {"learning_rates": [0.01]},
    },
}


def as_recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run, checkpoint or study keeps, with what was in force before a default changed."""
    before = {
        "train": {"batch_norm": "running", "memory_layout": "channels_last"},
        "predict": {"mode": "sub_volumes"},
    }
    return _merged(before, values)


def resolve_config(
    preset: str = "paper",
    file_values: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    found_in: str = "configuration",
) -> Config:
    """Lay preset, file, `--set section.key=value` and command-line options over the defaults, later ones winning.

    File values are nested as in YAML, options are by dotted key (None: not given). `base`, what a run or study that
    goes on was made with, is laid over the preset, under everything else; `found_in` is for messages. Raises
    BadInputError for an unknown key, and for a value of the wrong type or range; UsageError for an unknown preset, and
    where all is well but for the assignments and options.
    """
    if preset not in PRESETS:
        known = f"There are: {', '.join(PRESETS)}."
        raise UsageError(f"There is no preset '{preset}'. {known}{did_you_mean(preset, PRESETS)}")
    given: list[tuple[str, Any]] = []
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UsageError(f"--set {assignment}: write it as section.key=value, for example train.filters=16.")
        try:
            given.append((key.strip(), plain_yaml(value)))
        except ValueError as error:
            raise UsageError(f"--set {assignment}: the value is not valid YAML ({error}).") from error
    values = below = _merged(_merged(PRESETS[preset], base or {}), file_values or {})
    for key, value in given:
        values = _with(values, key, value)
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    for key in _OF_WEIGHTINGS & chosen.keys():
        names = chosen[key] if isinstance(chosen[key], tuple) else [chosen[key]]
        if unknown := unknown_weightings(names, weights_by_name_in(values)):
            expected = a_weighting_was_expected(unknown[0], weights_by_name_in(values))
            raise UsageError(sentence(f"--{key.rpartition('.')[2]} {unknown[0]}: {expected}"))
    try:
        return _validated(values, chosen.items(), found_in)
    except BadInputError as error:
        if (given or chosen) and _is_valid(below):
            raise UsageError(f"options: {str(error).removeprefix(f'{found_in}: ')}") from error
        raise


def with_settings(config: Config, settings: Mapping[str, Any], found_in: str) -> Config:
    """A configuration with some settings (dotted key to value) replaced; raises BadInputError as `resolve_config`."""
    return _validated(config.model_dump(), settings.items(), found_in)


def _validated(values: Mapping[str, Any], settings: Iterable[tuple[str, Any]], found_in: str) -> Config:
    for key, value in settings:
        values = _with(values, key, value)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise BadInputError(f"{found_in}: {_sentence(error)}") from error


def _is_valid(values: Mapping[str, Any]) -> bool:
    try:
        Config.model_validate(values)
    except ValidationError:
        return False
    return True


def _with(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - of any setting
    *sections, name = key.split(".")
    nested = {name: value}
    for section in reversed(sections):
        nested = {section: nested}
    return _merged(values, nested)


def _suggestion(key: str) -> str:
    """`; did you mean train.filters?`: a setting of the same name in another section, or of a similar key."""
    known = [known for known, _, _ in fields_of(Config)]
    known += dict.fromkeys(each.rpartition(".")[0] for each in known)
    of_this_name = [each for each in known if each.rpartition(".")[2] == key.rpartition(".")[2]]
    closest = get_close_matches(key, of_this_name, 1, 0) or get_close_matches(key, known, 1, 0.75)
    return f"; did you mean {closest[0]}?" if closest else ""


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: below for key, below in base.items() if isinstance(below, Mapping)}
    return {
        **base,
        **{key: _merged(both[key], to) if key in both and isinstance(to, Mapping) else to for key, to in over.items()},
    }


def _said(value: object) -> str:
    """A value as it was given, or its beginning."""
    text = repr(value)
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}…"


def _sentence(error: ValidationError) -> str:
    """What is wrong, setting by setting."""
    known = {key for key, _, _ in fields_of(Config)}
    places = {item["loc"] for item in error.errors()}
    holding = {place[:-1] for place in places}
    parts = []
    problems: dict[str, list[Any]] = {}  # by the setting: of a value of one kind or another there are several
    for item in error.errors():
        if item["loc"] == ("train", "loss", "weights") and ("study", "weights") in places:
            continue  # it was taken from there
        if item["type"] == "too_short" and item["loc"] in holding:
            continue  # it is only too short without what is wrong in it
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"there is no setting '{key}'{_suggestion(key)} (see `viscera config show`)")
        elif isinstance(item["input"], Mapping) and item["type"] == "value_error":  # of several fields together
            parts.append(f"{key or 'settings'}: {item['ctx']['error']}")
        else:
            setting = next((each for each in known if f"{key}.".startswith(f"{each}.")), key)
            within = item["loc"][len(setting.split(".")) :]  # of a list, where; else of which kind it might have been
            place = ".".join([setting, *(str(part) for part in within if isinstance(part, int))])
            problems.setdefault(place, []).append(item)
    for key, items in problems.items():
        parts.append(f"{key or 'value'} = {_said(items[0]['input'])}: {in_words(items)}")
    return sentence("; ".join(parts))
