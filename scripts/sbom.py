"""A bill of materials, CycloneDX 1.6 as JSON: `make sbom`. What is needed with hashes and licences, and what is inside.

cyclonedx-py makes it of requirements.txt; here PyTorch is added, whose build is chosen by whoever installs, the
licences that packages here say, and the JavaScript that lies in the package, which no installer knows of.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from scripts.licences import licence_of

ROOT = Path(__file__).parents[1]
INSIDE = (  # file, name of the package at npm, version, licence
    ("viscera/view/page/niivue.umd.js", "@niivue/niivue", "0.69.0", "BSD-2-Clause"),
    ("viscera/study/report/templates/ogl.js", "ogl", "1.0.11", "Unlicense"),
)


def inside() -> list[dict[str, Any]]:
    """The files of others that lie in the package."""
    return [
        {
            "type": "library",
            "bom-ref": file,
            "name": name,
            "version": version,
            "purl": f"pkg:npm/{name.replace('@', '%40')}@{version}",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256((ROOT / file).read_bytes()).hexdigest()}],
            "licenses": [{"license": {"id": licence}}],
            "properties": [{"name": "file", "value": file}],
        }
        for file, name, version, licence in INSIDE
    ]


def torch() -> dict[str, Any]:
    """PyTorch as it is pinned; its build is not."""
    (version,) = re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    return {
        "type": "library",
        "bom-ref": "torch",
        "name": "torch",
        "version": version,
        "purl": f"pkg:pypi/torch@{version}",
        "description": "its build (CPU, CUDA, ROCm), and with it its hash, is chosen by whoever installs",
    }


def with_licences(components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As packages that are installed here say them; of others nothing is said."""
    for each in components:
        try:
            licence = licence_of(each["name"])
        except PackageNotFoundError:
            continue
        if "licenses" not in each and licence != "?":
            each["licenses"] = [{"expression": licence}] if " " in licence else [{"license": {"name": licence}}]
    return components


def completed(found: dict[str, Any]) -> dict[str, Any]:
    """What cyclonedx-py wrote, and what it cannot know."""
    for each in found["components"]:
        each.pop("description", None)  # the line of the file
    components = with_licences([*found["components"], torch(), *inside()])
    needed = [{"ref": each["bom-ref"]} for each in components[-1 - len(INSIDE) :]]
    (root,) = (each for each in found["dependencies"] if each["ref"] == "root-component")
    root["dependsOn"] = sorted({*root.get("dependsOn", ()), *(each["ref"] for each in needed)})
    return {**found, "components": components, "dependencies": [*found["dependencies"], *needed]}


def main() -> None:
    """Write the file that is named; the folder of cyclonedx-py first."""
    tools, out = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "bom.json"
        how = ["--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON", "--sv", "1.6", "-o", str(made)]
        subprocess.run([tools / "cyclonedx-py", "requirements", "requirements.txt", *how], cwd=ROOT, check=True)
        found = completed(json.loads(made.read_text(encoding="utf-8")))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    check = (
        "import sys; from cyclonedx.validation.json import JsonStrictValidator as V; from cyclonedx.schema import "
        "SchemaVersion as S; sys.exit(str(V(S.V1_6).validate_str(open(sys.argv[1]).read()) or '') or 0)"
    )
    subprocess.run([tools / "python", "-c", check, str(out)], check=True)
    print(f"{out}: {len(found['components'])} components")


if __name__ == "__main__":
    main()
