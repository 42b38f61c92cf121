"""The page of results of a study, with hardware and date.

python -m benchmarks.gpu_page STUDY --equality gpu-results/equality.json --out docs/results/paper-size-phantom.md
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from viscera.core.arms import arms_of
from viscera.io.files import write_text
from viscera.io.records import read_json
from viscera.io.runlog import StudyFolder

_COMMAND = "make gpu"


def results_page(study: StudyFolder, equality: Mapping[str, Any]) -> str:
    """Markdown: Table 1, the cost of each arm, the device against the CPU.

    Args:
        study: finished, with its report.
        equality: `equality.json` of `make gpu`.
    """
    record = study.read_record()
    train = record.config.train
    runs = [(arm.title, study.run(arm, seed)) for arm in arms_of(record.config.study) for seed in _seeds(study)]
    costs = [
        (title, status.state, f"{status.step:,}", f"{status.wall_seconds:.0f}", f"{status.peak_memory_mib / 1024:.1f}")
        for title, run in runs
        if (status := run.read_status()) is not None
    ]
    hardware = sorted({status.hardware for _, run in runs if (status := run.read_status()) is not None})
    checks = [
        (name, f"{part['relative_error']:.1e}", f"{part['relative_error_of_cpu_float32']:.1e}", _yes(part["passed"]))
        for name, part in equality["equality"].items()
        if isinstance(part, Mapping) and "relative_error" in part
    ]
    low = equality["equality"]["bfloat16"]
    cost_header = ["arm", "state", "steps", "training, s", "peak memory, GiB"]
    check_header = ["after 3 steps", "device, float32", "CPU, float32", "within ten times"]
    table = (study.path / "report" / "table1.md").read_text(encoding="utf-8").strip()
    return f"""# {len(costs)} arms on the phantom: {train.iterations:,} steps, windows of {train.patch}³

Phantom, not patients: nothing here says anything about patients. {record.dataset}.
{train.filters} filters, batches of {train.batch_size}, precision {train.precision}; the training set in the device's
memory.

{table}

{tabulate(costs, cost_header, tablefmt="pipe", disable_numparse=True)}

The device against the CPU: relative distance from the CPU's float64.

{tabulate(checks, check_header, tablefmt="pipe", disable_numparse=True)}

In bfloat16 the first loss differs by {low["relative_error_of_loss"]:.1e}; the cosine of the gradients is
{low["gradient_cosine"]:.4f}. A step takes {1000 * equality["speed"]["seconds_per_step"]:.1f} ms.

{"; ".join(hardware)}; torch {equality["torch"]}; {equality["date"]}. Made by `{_COMMAND}`.
"""


def _seeds(study: StudyFolder) -> tuple[int, ...]:
    return study.read_record().config.study.seeds


def _yes(passed: object) -> str:
    return "yes" if passed else "NO"


def main() -> None:
    """Read the study and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--equality", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_text(arguments.out, results_page(StudyFolder(arguments.study), read_json(arguments.equality)))


if __name__ == "__main__":
    main()
