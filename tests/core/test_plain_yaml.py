"""YAML as plain values: what it stands for stays as small as it is, and nothing but ValueError comes of it."""

import pytest
import yaml

from viscera.core.errors import BadInputError
from viscera.core.plain_yaml import plain_yaml
from viscera.core.resolve import resolve_config

SETTINGS = "a: &x [1, 2.5, yes]\nb: {c: *x, d: null}\ne: !!float 1\nf:\n  <<: {g: 1}\n  h: 2001-01-01\n"


def test_it_says_what_pyyaml_says() -> None:
    assert plain_yaml(SETTINGS) == yaml.safe_load(SETTINGS)
    assert plain_yaml("") is None


def laughs(levels: int, merge: str) -> str:
    """Each name stands for ten of the one before."""
    first = "a0: &a0 {x: 1}" if merge else "a0: &a0 [x]"
    tens = (", ".join([f"*a{n}"] * 10) for n in range(levels))
    return "\n".join(
        [first, *(f"a{n}: &a{n} {{<<: [{t}]}}" if merge else f"a{n}: &a{n} [{t}]" for n, t in enumerate(tens, 1))]
    )


@pytest.mark.parametrize("merge", ["", "<<"])
def test_aliases_of_aliases_stand_for_no_billions(merge: str) -> None:
    with pytest.raises(ValueError, match="its aliases stand for more than 200,000 values"):
        plain_yaml(laughs(9, merge))
    assert plain_yaml(laughs(3, merge))


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "a: &a {b: {c: [*a]}}"])
def test_nothing_holds_itself(text: str) -> None:
    with pytest.raises(ValueError, match="stands for what it is a part of"):
        plain_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 10**5, "a: " + "{b: " * 10**4, "- " * 5000 + "x", "\n".join(" " * n + "a:" for n in range(2000))],
)
def test_what_is_nested_thousands_deep_is_refused_before_anything_recurses(text: str) -> None:
    """PyYAML's C parser recurses without a limit of its own, and ends the process where libyaml has none either."""
    with pytest.raises(ValueError, match=r"more than 100 levels deep|maximum nesting depth"):
        plain_yaml(text)


@pytest.mark.parametrize(
    "value",
    ['!!int ""', '!!float ""', "!!bool x", "!!timestamp x", "!!map x", "!!omap {a: 1}", "!!set [1]", "!!int [1]"],
)
def test_a_value_that_is_not_what_its_tag_says(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        plain_yaml(f"a: {value}")
    with pytest.raises(BadInputError, match="the value is not valid YAML"):
        resolve_config(assignments=[f"train.patch={value}"])


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [true]", "!!python/name:os.system", "!own {}"])
def test_no_tag_makes_an_object(tag: str) -> None:
    with pytest.raises(ValueError, match="could not determine a constructor"):
        plain_yaml(f"a: {tag}")


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "1" * 400, "-" + "9" * 310])
def test_numbers_that_python_neither_prints_nor_computes_with(number: str) -> None:
    with pytest.raises(ValueError, match=r"a number of hundreds of digits|Exceeds the limit"):
        plain_yaml(f"a: [{{b: {number}}}]")


def test_a_huge_value_is_not_repeated_whole() -> None:
    with pytest.raises(BadInputError) as refused:
        resolve_config(file_values={"train": {"patch": ["x"] * 10_000}})
    assert len(str(refused.value)) < 500
