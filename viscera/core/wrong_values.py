"""What is wrong with a value, in words: what pydantic found, without its vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Any

from viscera.core.suggestions import as_number, nearest

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list, such as [a, b],",
    "list": "a list, such as [a, b],",
    "dict": "a section of names and values",
    "model": "a section of settings",
    "path": "a path",
    "none": "nothing",
    "missing": "a value",
    "finite_number": "a finite number",
    "too_short": "at least one",
    "string_too_short": "at least one character",
    "string_pattern_mismatch": "a name of letters, digits, points and hyphens",
}
_LIMITS = {
    "greater_than_equal": "of at least",
    "greater_than": "above",
    "less_than_equal": "of at most",
    "less_than": "below",
}
_PYDANTIC_LIMITS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}


def in_words(problems: Sequence[Mapping[str, Any]]) -> str:
    """What was expected in place of one value, from all that pydantic reports of it; no full stop at the end.

    `a whole number of at least 1 was expected`; of a value of one kind or another (`--fold N|all`) both are named.
    """
    texts = [said for each in problems if (said := _own_words(each))]
    if texts:
        return texts[0]
    others = [each for each in problems if each["type"] != "too_short"]  # which it may be without what is wrong in it
    expected = list(dict.fromkeys(map(_expectation, others or problems)))
    return f"{' or '.join(expected)} was expected{_hint(problems)}"


def _own_words(problem: Mapping[str, Any]) -> str:
    """The sentence of a validator of ours."""
    error = problem.get("ctx", {}).get("error")
    if problem["type"] == "value_error":
        return str(error) if error is not None else str(problem["msg"])
    return ""


def _expectation(problem: Mapping[str, Any]) -> str:
    kind, about = str(problem["type"]), problem.get("ctx", {})
    if kind in _LIMITS:
        limit = about[_PYDANTIC_LIMITS[kind]]
        whole = isinstance(limit, int) and isinstance(problem["input"], int)
        return f"a {'whole ' * whole}number {_LIMITS[kind]} {limit if whole else f'{limit:g}'}"
    if kind == "literal_error":
        choices = str(about["expected"]).replace("'", "")
        return f"one of {choices}" if "," in choices else choices
    if kind == "string_too_long":
        return f"a name of at most {about['max_length']} characters"
    return _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0], "another kind of value")


def _hint(problems: Sequence[Mapping[str, Any]]) -> str:
    """What was probably meant: a number with a decimal comma, a misspelt choice."""
    for problem in problems:
        given = problem["input"]
        if not isinstance(given, str):
            continue
        if problem["type"] == "literal_error":
            choices = str(problem["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            if found := nearest(given, choices):
                return f"; did you mean {found}?"
        elif number := as_number(given):
            return f"; did you mean {number}?"
    return ""
