"""Every command that a page shows is one that the command line takes: commands, options and numbers of arguments.

A line of a code block is parsed as it stands; of a command within a sentence, which may leave arguments out, the
options are looked up. What commands do is tested elsewhere.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException
from typer.main import get_command

from viscera.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINE = re.compile(r"^(?: {4}|\$ )(viscera .+)$", re.MULTILINE)
INLINE = re.compile(r"`(viscera [a-z-]+(?: [^`]*)?)`")


def parsed(words: list[str], *, leniently: bool = False) -> Any:
    """The context of the command that some words name, parsed as the command line parses them; nothing is run."""
    command: Any = get_command(app)
    context = command.context_class(command, info_name="viscera")
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
        command = command.get_command(context, name)
        assert command is not None, f"no command {name}"
        if hasattr(command, "get_command"):
            context = command.context_class(command, parent=context, info_name=name)
    return command.make_context(command.name, [] if leniently else words, context, resilient_parsing=leniently)


def of_page(path: Path, pattern: re.Pattern[str]) -> list[str]:
    """What a pattern finds, with lines that go on joined, and without the place where more options may stand."""
    text = re.sub(r" *\\\n *", " ", path.read_text(encoding="utf-8"))
    return [each.replace(" [options]", "") for each in pattern.findall(text)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_is_one(path: Path) -> None:
    for text in of_page(path, LINE):
        parsed(shlex.split(text, comments=True)[1:])
    for text in of_page(path, INLINE):
        words = text.split()[1:]
        context = parsed(words, leniently=True)
        known = {option for each in context.command.get_params(context) for option in each.opts}
        asked = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert asked <= known, f"{text}: {sorted(asked - known)}"


def test_commands_in_sentences_are_found() -> None:
    assert INLINE.findall("`viscera plan --budget` and `viscera train`, not `python`") == [
        "viscera plan --budget",
        "viscera train",
    ]


def test_the_readme_shows_the_journey() -> None:
    assert len(of_page(ROOT / "README.md", LINE)) >= 10


def test_what_is_not_a_command_is_found_out() -> None:
    for words, said in (
        (["train", "STORE", "RUN", "--no-such-option"], "--no-such-option"),
        (["train", "STORE"], "run"),
        (["tain", "STORE"], "no command tain"),
    ):
        with pytest.raises((TyperException, AssertionError), match=said):
            parsed(words)
