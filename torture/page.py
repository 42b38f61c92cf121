"""The figures of `docs/reliability.md`, from `torture/results/`: `python -m torture.page`.

The page itself is written by hand; between its two marks stands what the trials found.
"""

import json
import re
from pathlib import Path
from typing import Any

from tabulate import tabulate

from torture.outcome import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_HEADER = ["trial", "faults", "lost", "inputs", "tracebacks", "slowest", "largest", "took", "date"]


def figures(results: Path = RESULTS) -> str:
    """A table with a row for each trial and their sums, then what else each counted."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    rows = [_row(each) for each in found]
    sums = [sum(each[key] for each in found) for key in ("faults", "lost", "inputs", "tracebacks")]
    took = f"{sum(each['seconds'] for each in found) / 60:.0f} min"
    rows.append(["**all**", *(f"**{value:,}**" for value in sums), "", "", took, ""])
    lines = [tabulate(rows, _HEADER, tablefmt="pipe", disable_numparse=True, colalign=("left", *["right"] * 7, "left"))]
    for each in found:
        told = [f"{name} {value}" for name, value in each["figures"].items()]
        told += [f"**did not hold**: {failure}" for failure in each["failures"]]
        if told:
            lines += ["", f"- `{each['name']}`: " + "; ".join(told) + "."]
    return "\n".join(lines)


def _row(found: dict[str, Any]) -> list[str]:
    counts = [f"{found[key]:,}" if found[key] else "0" for key in ("faults", "lost", "inputs", "tracebacks")]
    slowest = f"{found['worst_s']:.2g} s" if found["worst_s"] else ""
    largest = f"{found['worst_mib']:.0f} MiB" if found["worst_mib"] else ""
    return [f"`{found['name']}`", *counts, slowest, largest, f"{found['seconds']:.0f} s", found["date"]]


def with_figures(page: str, results: Path = RESULTS) -> str:
    """The page with the figures of today between its marks."""
    inside = f"{BEGIN}\n\n{figures(results)}\n\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: inside, page, flags=re.DOTALL)


def main() -> None:
    """Write them."""
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
