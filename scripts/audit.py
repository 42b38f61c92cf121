"""Ask the advisory database about every pin of requirements.txt, and PyTorch's: `make audit`.

pip-audit calls a database that it cannot reach "not found", and ends well. Here that is said, with exit code 2; 1 where
there is an advisory.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = 0.9  # of the pins, that must have been looked up


def pins() -> str:
    """Those of requirements.txt, and PyTorch's, without hashes."""
    kept = re.findall(r"^\S+==\S+(?: ; [^\\\n]+)?", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    torch = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    return "\n".join([*kept, *torch]) + "\n"


def verdict(report: str, errors: str) -> tuple[int, str]:
    """Exit code and sentence, of what pip-audit printed as JSON, and of its errors."""
    try:
        found = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["no answer"])[-1]
        return 2, f"The advisory database cannot be reached ({last}): nothing is known. Ask again from another network."
    asked = [each for each in found if "skip_reason" not in each]
    bad = [(each["name"], each["version"], each["vulns"]) for each in asked if each.get("vulns")]
    lines = [
        f"{name} {version}: {vuln['id']}, mended in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for name, version, vulns in bad
        for vuln in vulns
    ]
    if len(asked) < LEAST * len(found) or not found:
        lines.append(
            f"The advisory database answered for {len(asked)} of {len(found)} packages: nothing is known of the "
            "others. Ask again from another network."
        )
        return 1 if bad else 2, "\n".join(lines)
    return (1, "\n".join(lines)) if bad else (0, f"{len(asked)} packages: no known vulnerability.")


def main() -> int:
    """Run pip-audit, print what it found."""
    tool = sys.argv[1] if len(sys.argv) > 1 else "pip-audit"
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "pins.txt"
        asked.write_text(pins(), encoding="utf-8")
        how = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run([tool, "-r", str(asked), *how], capture_output=True, text=True, check=False)
    code, text = verdict(done.stdout, done.stderr)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
