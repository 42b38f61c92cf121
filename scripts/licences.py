"""What the core and each extra need, as it is installed here, and under which licences.

`python -m scripts.licences` writes the table in docs/dependencies.md.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- licences: python -m scripts.licences -->\n", "<!-- end of licences -->\n"
_OF_TEXT = {  # what packages write where an SPDX expression belongs
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_SHORT = 30  # characters of a name; the field may hold a whole text


def project() -> Mapping[str, list[str] | dict[str, list[str]]]:
    """The table of pyproject.toml."""
    found: dict[str, list[str] | dict[str, list[str]]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return found


def needed(requirements: Iterable[str]) -> set[str]:
    """Names of all distributions that these need on this machine, these among them, also of those not installed."""
    wanted = [Requirement(each) for each in requirements]
    seen: dict[str, set[str]] = {}
    while wanted:
        each = wanted.pop()
        name, extras = re.sub(r"[-_.]+", "-", each.name).lower(), {"", *each.extras}
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        if name in seen and extras <= seen[name]:
            continue
        extras |= seen.get(name, set())
        seen[name] = extras
        try:
            found = [Requirement(text) for text in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        for other in found:
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in extras):
                other.marker = None
                wanted.append(other)
    return set(seen)


def licence_of(name: str) -> str:
    """As an SPDX expression where the distribution says one, or what it says; `?` where it says nothing."""
    said = metadata(name)
    if "License-Expression" in said:
        return said["License-Expression"]
    classifiers = [
        each.rpartition(" :: ")[2] for each in said.get_all("Classifier") or [] if each.startswith("License")
    ]
    text = said["License"].strip() if "License" in said else ""
    short = [text] if text and len(text) <= _SHORT and text != "Dual License" else []
    found = [_OF_TEXT.get(each, each) for each in short or classifiers]
    return " OR ".join(dict.fromkeys(found)) or "?"


def table() -> str:
    """Licences of what the core needs, and how many packages are under each."""
    core = project()["dependencies"]
    by_licence: dict[str, list[str]] = {}
    for name in sorted(needed(core if isinstance(core, list) else [])):
        by_licence.setdefault(licence_of(name), []).append(name)
    rows = [f"| {licence} | {', '.join(names)} |" for licence, names in sorted(by_licence.items())]
    return "\n".join(["| licence | what the core needs |", "|---|---|", *rows]) + "\n"


def main() -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(f"{text[:before]}\n{table()}\n{text[after:]}", encoding="utf-8")


if __name__ == "__main__":
    main()
