"""The page of results of a study on a GPU, with hardware and date; and the figures beside peers, put where others are.

python -m benchmarks.gpu_page STUDY --measured gpu-results/measured.json --out docs/results/paper-size-phantom.md
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.record import RESULTS
from viscera.core.arms import arms_of
from viscera.io.files import write_text
from viscera.io.records import read_json, write_json
from viscera.io.runlog import StudyFolder

_COMMAND = "make gpu"


def results_page(study: StudyFolder, measured: Mapping[str, Any]) -> str:
    """Markdown: Table 1, the cost of each arm, the device against the CPU, a step, the pairs.

    Args:
        study: with its report, of all arms or of those that there are.
        measured: `measured.json` of `make gpu`.
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
        for name, part in measured["equality"].items()
        if isinstance(part, Mapping) and "relative_error" in part
    ]
    low = measured["equality"]["bfloat16"]
    cost_header = ["arm", "state", "steps", "training, s", "peak memory, GiB"]
    check_header = ["after 3 steps", "device, float32", "CPU, float32", "within ten times"]
    table = (study.path / "report" / "table1.md").read_text(encoding="utf-8").strip()
    return f"""# {len(costs)} of {len(runs)} arms on the phantom: {train.iterations:,} steps, windows of {train.patch}³

Phantom, not patients: nothing here says anything about patients. {record.dataset}.
{train.filters} filters, batches of {train.batch_size}, precision {train.precision}; the training set in the device's
memory.

{table}

{tabulate(costs, cost_header, tablefmt="pipe", disable_numparse=True)}

The device against the CPU: relative distance from the CPU's float64.

{tabulate(checks, check_header, tablefmt="pipe", disable_numparse=True)}

In bfloat16 the first loss differs by {low["relative_error_of_loss"]:.1e}; the cosine of the gradients is
{low["gradient_cosine"]:.4f}.

{_speed(measured["speed"])}

{_pairs(measured)}
{"; ".join(hardware)}; torch {measured["torch"]}; {measured["date"]}. Made by `{_COMMAND}`.
"""


def _speed(speed: Mapping[str, Any]) -> str:
    header = ["a step", "ms", "share of the peak", "peak memory, GiB", "replayed"]
    rows = [
        (
            *(name, f"{1000 * step['seconds']:.1f}", f"{step['share_of_peak']:.1%}"),
            *(f"{step['peak_memory_mib'] / 1024:.1f}", _yes(step["recorded"])),
        )
        for name, step in speed["steps"].items()
    ]
    return f"""A step is {speed["flops_per_step"] / 1e12:.3g} TFLOP; a large product of bfloat16 matrices runs at
{speed["peak_tflops"]:.3g} TFLOP/s here. Aimed at: {speed["aim"]:.0%} of that.

{tabulate(rows, header, tablefmt="pipe", disable_numparse=True)}"""


def _pairs(measured: Mapping[str, Any]) -> str:
    """What each benchmark beside a peer printed, or why it did not."""
    found = {name: each for name, each in measured.items() if isinstance(each, Mapping) and "command" in each}
    lines = [
        f"    {line}"
        for name, each in found.items()
        for line in each.get("lines") or [f"{name}: {each.get('skipped') or each.get('failed')}".splitlines()[0]]
    ]
    return "Beside peers, on the same device:\n\n" + "\n".join(lines) + "\n" if lines else ""


def keep_pairs(measured: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the results of the benchmarks beside peers to where those of other processors are."""
    paths = []
    for name, each in measured.items():
        if isinstance(each, Mapping) and "results" in each:
            paths.append(folder / str(measured["hardware"]).lower().replace(" ", "-") / f"{name}.json")
            write_json(paths[-1], each["results"])
    return paths


def _seeds(study: StudyFolder) -> tuple[int, ...]:
    return study.read_record().config.study.seeds


def _yes(passed: object) -> str:
    return "yes" if passed else "NO"


def main() -> None:
    """Read the study, write the page and the results beside peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--measured", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    measured = read_json(arguments.measured)
    write_text(arguments.out, results_page(StudyFolder(arguments.study), measured))
    print(*keep_pairs(measured, RESULTS), sep="\n")


if __name__ == "__main__":
    main()
