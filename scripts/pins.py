"""Write requirements.txt: what viscera needs, core and extras of users, pinned as in constraints.txt, with hashes.

PyTorch, and the CUDA libraries that some builds of it bring along, are left out: there are builds for CPU, CUDA and
ROCm with hashes of their own, of which one is chosen by whoever installs. `make pins` runs this with uv.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("dicom", "export", "fast", "ray", "s3", "trackers", "view")  # all but those for development
BY_TORCH = re.compile(r"(torch|triton|nvidia-|cuda-)")
HEAD = """\
# What viscera needs, core and extras (but those for development), as constraints.txt pins it, with hashes; made by
# `make pins`. PyTorch is left out: choose its build. See docs/dependencies.md.
"""


def compiled(uv: str) -> str:
    """As uv writes it, without the addresses that it asks."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "requirements.txt"
        how = ["--universal", "--generate-hashes", "--no-header", "--no-annotate", "--python-version", "3.11"]
        how += ["--no-emit-index-url", "--no-emit-find-links", "--constraint", "constraints.txt", "--quiet"]
        extras = [f"--extra={name}" for name in EXTRAS]
        subprocess.run([uv, "pip", "compile", "pyproject.toml", *how, *extras, "-o", str(target)], cwd=ROOT, check=True)
        return target.read_text(encoding="utf-8")


def main() -> None:
    """Write the file."""
    entries = re.split(r"\n(?=\S)", compiled(sys.argv[1] if len(sys.argv) > 1 else "uv").rstrip("\n"))
    kept = [entry for entry in entries if not BY_TORCH.match(entry)]
    (ROOT / "requirements.txt").write_text(HEAD + "\n".join(kept) + "\n", encoding="utf-8")
    print(f"requirements.txt: {len(kept)} pins")


if __name__ == "__main__":
    main()
