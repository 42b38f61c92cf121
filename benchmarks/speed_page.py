"""The page of all pairs, from the files of results: `docs/results/speed.md`.

    python -m benchmarks.speed_page

`make bench` measures and then writes it. A goal that was not reached is said, and what the benchmark notes of it.
"""

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.record import RESULTS
from viscera.io.files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "results" / "speed.md"
_HEADER = ["pair", "ours", "peer", "ratio", "goal", "reached", "the peer's settings"]
_INTRODUCTION = """# Speed and memory beside the peers

Ours and the peer's do the same work on the same input in one run, in turn, some repeats each; the ratio is that of the
medians, the peer's over ours: **above 1 ours is better**. The peer runs at the fastest of the settings that were tried.
PyTorch gets large pages for both (`THP_MEM_ALLOC_ENABLE=1`), as the command `viscera` asks for.
Figures of one kind of processor say little of another, and those of shared machines scatter by a tenth or more.
Everything here is made by `make bench` (`make install-bench` first), the page itself by
`python -m benchmarks.speed_page`; repeats, slower settings and load stand in `benchmarks/results/`. Images are phantoms
or random numbers, which a speed does not depend on, unless a line says otherwise.
"""


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The results of pairs in the folder of one kind of processor."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return [content for content in found if content.get("pairs")]


def page(results: Path) -> str:
    """The whole page, from the folder of results."""
    kinds = {folder.name: results_of(folder) for folder in sorted(results.iterdir()) if folder.is_dir()}
    parts = [_INTRODUCTION, *(_kind(kind, found) for kind, found in kinds.items() if found)]
    return "\n".join(parts)


def _kind(kind: str, found: list[dict[str, Any]]) -> str:
    rows = [_row(name, pair) for content in found for name, pair in content["pairs"].items()]
    lines = [f"## {kind}", "", tabulate(rows, _HEADER, tablefmt="pipe", disable_numparse=True), ""]
    for content in found:
        packages = ", ".join(f"{package} {number}" for package, number in content["versions"].items())
        threads = f"{content['threads']} thread{'s' * (content['threads'] != 1)}"
        lines += [f"`{content['command']}`, {content['date']}: {content['hardware']}, {threads}; {packages}."]
        if content.get("complete") is False:
            lines += ["- **Cut off**: what comes after these pairs was not measured."]
        lines += [f"- {text}" for text in _sentences(content)] + [""]
    return "\n".join(lines)


def _row(name: str, pair: dict[str, Any]) -> list[str]:
    reached = "yes" if pair["ratio"] >= pair["goal"] else "**no**"
    figures = [f"{pair[side]:.3g} {pair['unit']}" for side in ("ours", "peer")]
    return [name, *figures, f"{pair['ratio']:.2f}", f"{pair['goal']:g}", reached, pair["peer_settings"]]


def _sentences(content: dict[str, Any]) -> list[str]:
    """What a benchmark says in words: notes that are text, under their names; and those of its pairs."""
    own = {name: value for name, value in content.items() if name not in {"hardware", "command", "date"}}
    of_pairs = {f"{pair}, {name}": value for pair, notes in content["pairs"].items() for name, value in notes.items()}
    told = {name: value for name, value in of_pairs.items() if not name.endswith((", unit", ", peer_settings"))}
    return [f"{name.replace('_', ' ')}: {value}" for name, value in {**own, **told}.items() if isinstance(value, str)]


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(RESULTS))
    print(PAGE)


if __name__ == "__main__":
    main()
