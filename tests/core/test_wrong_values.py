"""What is said of values that cannot be: none of it is the vocabulary of the library that checks them."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from viscera.core.config import Config
from viscera.core.wrong_values import in_words


def said_of(section: str, **values: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        Config.model_validate({section: values})
    return in_words(raised.value.errors())


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("train", {"iterations": "many"}, "a whole number was expected"),
        ("train", {"iterations": 2.5}, "a whole number was expected"),
        ("train", {"iterations": 0}, "a whole number of at least 1 was expected"),
        ("train", {"learning_rate": -1.0}, "a number above 0 was expected"),
        ("train", {"learning_rate": float("nan")}, "a finite number was expected"),
        ("train", {"learning_rate": "0,01"}, "a number was expected; did you mean 0.01?"),
        ("train", {"fold": "al"}, "a whole number or all was expected; did you mean all?"),
        ("train", {"diagnose": "maybe"}, "true or false was expected"),
        ("prepare", {"test_fraction": 1.0}, "a number below 1 was expected"),
        ("prepare", {"folds": 1001}, "a whole number of at most 1000 was expected"),
        ("evaluate", {"metrics": "dice"}, "a list, such as [a, b], was expected"),
        ("evaluate", {"grid": "orginal"}, "one of original, prepared or both was expected; did you mean original?"),
        ("study", {"seeds": []}, "at least one was expected"),
        ("study", {"variants": {"a b": {}}}, "a name of letters, digits, points and hyphens was expected"),
        ("study", {"variants": {"a" * 41: {}}}, "a name of at most 40 characters was expected"),
        ("train", {"weighting": "sqaure!"}, "a power in [0, 2] was expected; did you mean square?"),
    ],
)
def test_what_was_expected_in_place_of_a_value(section: str, values: dict[str, Any], said: str) -> None:
    text = said_of(section, **values)
    assert text.endswith(said)
    assert not re.search(r"input should|valid (integer|number|string)|parse|value error|instance", text, re.IGNORECASE)
