"""The schema of KubeRay's RayJob (v1) as JSON Schema, small enough to keep: tests/rayjob_schema.json.

    python scripts/rayjob_schema.py ray.io_rayjobs.yaml 1.7.0

The first argument is `ray-operator/config/crd/bases/ray.io_rayjobs.yaml` of KubeRay (Apache-2.0), the second its
version. Parts that occur several times, as those of a pod do, are written once; fields that the schema does not know
are refused, as `kubectl apply --validate=strict` does. Rules in CEL (`x-kubernetes-validations`) are left out: nothing
here can evaluate them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

OUT = Path(__file__).parents[1] / "tests" / "rayjob_schema.json"
_SMALL = 200  # characters that are not worth a definition
_FREE = "x-kubernetes-preserve-unknown-fields"


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A part of a custom resource's schema as JSON Schema, with unknown fields refused."""
    kept = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if "properties" in schema:
        kept["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        if not schema.get(_FREE):
            kept.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            kept[key] = strict(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        kept["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable"):
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


def written_once(schema: dict[str, Any], known: dict[str, int]) -> dict[str, Any]:
    """The schema with references in place of its larger parts, which are numbered in `known`."""

    def referred(each: dict[str, Any]) -> dict[str, Any]:
        part = written_once(each, known)
        text = json.dumps(part, sort_keys=True)
        return part if len(text) < _SMALL else {"$ref": f"#/$defs/{known.setdefault(text, len(known))}"}

    new = dict(schema)
    if "properties" in schema:
        new["properties"] = {name: referred(each) for name, each in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            new[key] = referred(schema[key])
    return new


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crd", type=Path)
    parser.add_argument("version")
    given = parser.parse_args()
    definition = yaml.safe_load(given.crd.read_text(encoding="utf-8"))
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # that of every resource, which the API server knows
    known: dict[str, int] = {}
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"RayJob, ray.io/v1, of KubeRay {given.version} (Apache-2.0), by scripts/rayjob_schema.py",
        **written_once(schema, known),
        "$defs": {str(number): json.loads(text) for text, number in known.items()},
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in whole.items() if key != "$defs")
    parts = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in whole["$defs"].items())
    OUT.write_text(f'{{\n{lines},\n"$defs": {{\n{parts}\n}}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
