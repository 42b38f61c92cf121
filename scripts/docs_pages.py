"""The pages of the site that are made of the code: every command's help, every setting, the drawing of the house.

    python scripts/docs_pages.py

They are written below `docs/`, where git ignores them; `make docs` calls this first.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from typer.main import get_command
from typer.testing import CliRunner

from viscera.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMANDS, SETTINGS, HOUSE = (
    DOCS / "reference" / "commands.md",
    DOCS / "reference" / "settings.md",
    DOCS / "images" / "house.svg",
)
_SETTINGS = """The settings of the preset `paper`, each explained, as a file for `--config`: what `viscera config show`
prints. `--set NAME=VALUE` changes one."""
_WIDTH, _FLOOR, _GAP = 15.0, 0.96, 0.2  # of the drawing, in inches


def viscera(*words: str) -> str:
    """What a command prints."""
    found = CliRunner().invoke(app, words, prog_name="viscera", catch_exceptions=False)
    if found.exit_code:
        raise SystemExit(f"viscera {' '.join(words)}: {found.output}")
    return found.stdout.strip()


def commands() -> list[tuple[str, ...]]:
    """The words of every command, in the order of the help."""

    def inside(group: object, before: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, each in getattr(group, "commands", {}).items():
            yield from inside(each, (*before, name)) if hasattr(each, "commands") else [(*before, name)]

    return list(inside(get_command(app), ()))


def commands_page() -> str:
    """The help of each command."""
    parts = [
        "# Commands",
        "What `viscera COMMAND --help` says. Every command also takes what stands under its options.",
    ]
    parts.append(f"```text\n{viscera('--help')}\n```")
    parts += [f"## viscera {' '.join(words)}\n\n```text\n{viscera(*words, '--help')}\n```" for words in commands()]
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Every setting with its meaning, as a file for --config."""
    return f"# Settings\n\n{_SETTINGS}\n\n```yaml\n{viscera('config', 'show')}\n```\n"


def floors() -> list[list[str]]:
    """The rooms of each floor, from the roof down, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    return [[room.strip().removeprefix("viscera.") for room in layer.split("|")] for layer in layers]


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    said = ast.get_docstring(ast.parse((ROOT / "viscera" / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    first, *_ = re.split(r"(?<!Eq)\.\s", said.partition("\n\n")[0].replace("`", ""))
    return " ".join(first.split()).rstrip(".")


def house(of: Sequence[Sequence[str]]) -> Figure:
    """The floors as rows of rooms; imports go down."""
    height = len(of) * (_FLOOR + _GAP)
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(0, height))
    axes.set_axis_off()
    for number, rooms in enumerate(of):
        bottom = height - (number + 1) * (_FLOOR + _GAP) + _GAP / 2
        width = (_WIDTH - _GAP * (len(rooms) + 1)) / len(rooms)
        for place, room in enumerate(rooms):
            left = _GAP + place * (width + _GAP)
            corner, round_corners = (left, bottom), "round,pad=0,rounding_size=0.08"
            axes.add_patch(FancyBboxPatch(corner, width, _FLOOR, round_corners, fc="#eef2fb", ec="#8fa3c8", lw=1.2))
            axes.text(left + 0.12, bottom + _FLOOR - 0.26, room, weight="bold", size=13, color="#16325c")
            lines = "\n".join(wrap(purpose(room), int(width * 10)))
            axes.text(left + 0.12, bottom + _FLOOR - 0.4, lines, va="top", size=9.5, color="#374151", linespacing=1.3)
    return figure


def main() -> None:
    """Write all of them."""
    for path, text in ((COMMANDS, commands_page()), (SETTINGS, settings_page())):
        path.write_text(text, encoding="utf-8")
    house(floors()).savefig(HOUSE, metadata={"Date": None})


if __name__ == "__main__":
    main()
