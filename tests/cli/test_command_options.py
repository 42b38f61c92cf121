"""What the help says of an option that several commands have is what it does in each of them."""

import pytest

from tests.command_line import run


def help_of(command: str, option: str) -> str:
    """The text of one option on the page of a command."""
    _, _, after = run(command, "--help").stdout.partition(f"\n  {option}")
    lines = after.splitlines()
    text = [lines[0], *_until_next(lines[1:])]
    return " ".join(" ".join(text).split())


def _until_next(lines: list[str]) -> list[str]:
    end = next((number for number, line in enumerate(lines) if not line.startswith(" " * 6)), len(lines))
    return lines[:end]


def test_the_fold_of_an_evaluation_is_one_that_is_scored() -> None:
    text = help_of("evaluate", "--fold")
    assert "whose cases are scored" in text
    assert "all: the cases of all folds" in text
    assert "held out" not in text
    for command in ("train", "plan", "find-rate", "doctor", "study"):
        assert "all: no fold" in help_of(command, "--fold")


@pytest.mark.parametrize("command", ["evaluate", "view"])
def test_what_was_predicted_brings_its_classes_and_has_its_pseudonyms(command: str) -> None:
    assert "by default those of the store, or those that the predictions name" in help_of(command, "--classes")
    assert "made where there is none" not in help_of(command, "--pseudonyms")
    assert "by default the paper's eight classes" in help_of("prepare", "--classes")
    assert "made where there is none" in help_of("prepare", "--pseudonyms")


@pytest.mark.parametrize("command", ["train", "study"])
def test_no_default_is_shown_as_nothing(command: str) -> None:
    assert "[default: ]" not in " ".join(run(command, "--help").stdout.split())
