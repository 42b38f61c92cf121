"""What a project of N scans costs, computed from measured figures: `docs/scale.md`.

    python -m benchmarks.scale_model [--kind amx] [--out docs/scale.md]

Everything is read from `benchmarks/results/KIND/*.json`, and figures of a GPU from the folder of its name; what nobody
has measured yet is unknown. A project is: N scans of 512×512×400 voxels prepared with the paper's factor of four, one
training of 10,000 steps, N scans predicted.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks import batch_statistics, ranks_model
from benchmarks.record import RESULTS
from viscera.io.files import write_text

PAGE, KIND = Path(__file__).parents[1] / "docs" / "scale.md", "amx"
SCANS = (100, 1_000, 10_000, 100_000)
ORIGINAL, PREPARED = 512 * 512 * 400, 128 * 128 * 100  # voxels of a scan
STEPS = 10_000
PREPARE, PREDICT, STEP = "prepare_vs_monai_512", "predict_vs_monai_512", "train_vs_monai_default"
GPUS = 8
NATIVE = "512×512×1177"
Results = Mapping[str, Mapping[str, Any]]  # by the name of the file
UNKNOWN = "unknown"


def ours(results: Results, pair: str) -> float | None:
    """Our figure of a pair, in whichever file; None where it was not measured."""
    found = [file["pairs"][pair]["ours"] for file in results.values() if pair in file.get("pairs", {})]
    return float(found[0]) if found else None


def ratio(results: Results, pair: str) -> float | None:
    """The peer's figure over ours."""
    found = [file["pairs"][pair]["ratio"] for file in results.values() if pair in file.get("pairs", {})]
    return float(found[0]) if found else None


def command(results: Results, pair: str) -> str:
    """Which command measured a pair, and when."""
    found = [f"`{f['command']}`, {f['date']}" for f in results.values() if pair in f.get("pairs", {})]
    return found[0] if found else "not measured yet"


def duration(seconds: float | None, times: float = 1) -> str:
    """With a unit that suits."""
    if seconds is None:
        return UNKNOWN
    value = seconds * times
    for unit, length in (("days", 48 * 3600), ("h", 3600), ("min", 60)):
        if value >= length:
            return f"{value / min(length, 24 * 3600):.3g} {unit}"
    return f"{value:.2g} s"


def size(num_bytes: float | None) -> str:
    """With a unit that suits."""
    if num_bytes is None:
        return UNKNOWN
    for unit in ("KiB", "MiB", "GiB"):
        num_bytes /= 1024
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
    return f"{num_bytes / 1024:.3g} TiB"


def bytes_per_scan(results: Results) -> float | None:
    """What the store keeps of a scan: int16 HU and uint8 labels on the prepared grid, labels on the scan's own."""
    store = results.get("patients", {}).get("store")
    if store is None:
        return None
    arrays = PREPARED * store["bytes_per_prepared_voxel"] + ORIGINAL * store["label_bytes_per_original_voxel"]
    return float(arrays + store["manifest_bytes_per_case"])


def costs(results: Results, gpu: Results) -> list[tuple[str, ...]]:
    """A row for each number of scans."""
    per_scan = bytes_per_scan(results)
    store = results.get("patients", {}).get("store", {})
    prepare_s, predict_s, step_s = (ours(results, pair) for pair in (PREPARE, PREDICT, STEP))
    gpu_step_s = ours(gpu, STEP)
    gpu_predict_s = ours(gpu, PREDICT)
    rows: list[tuple[str, ...]] = []
    for n in SCANS:
        verify = store["verify_s_per_gib"] * per_scan * n / 2**30 if per_scan is not None else None
        rows.append(
            (
                f"{n:,}",
                size(None if per_scan is None else n * per_scan),
                duration(prepare_s, n),
                duration(verify),
                duration(step_s, STEPS),
                duration(predict_s, n),
                duration(gpu_step_s, STEPS),
                duration(gpu_predict_s, n / GPUS),
            )
        )
    return rows


def saturation(results: Results, gpu: Results) -> list[str]:
    """A sentence for each place that could limit the whole, as far as it was measured."""
    said = []
    feed = results.get("feed", {}).get("share_of_step")
    if feed:
        gpu_step_s = ours(gpu, STEP)
        on_gpu = f"a GPU's step takes {gpu_step_s:.3g} s" if gpu_step_s else "how long a GPU's step takes is unknown"
        said.append(
            f"**The feed.** One core makes a batch of three patches in {1000 * feed['wait_s']:.2g} ms, "
            f"{feed['share']:.2g} of the step that was measured here ({feed['step_s']:.2g} s); {on_gpu}. A training "
            "set that fits into the device's memory is cut there, and then no batch comes from the host."
        )
    jobs = ratio(results, "prepare_jobs")
    if jobs:
        said.append(f"**Preparing** is {jobs:.2g} times as fast with two processes on two cores as with one.")
    step, memory = ratio(results, "patients_step"), results.get("patients", {}).get("pairs", {}).get("patients_memory")
    if step and memory and "mib_of_mapped_files_beside_that" in results["patients"]:
        many, few = memory["patients"]
        per_patient = (memory["ours"] - memory["peer"]) / (many - few)
        said.append(
            f"**The number of patients.** A step of a training on {many:,} takes {1 / step:.2g} times as long as on "
            f"{few}, at {memory['ours']:.0f} against {memory['peer']:.0f} MiB of its own: {1024 * per_patient:.2g} KiB "
            f"a patient, for the manifest, {size(per_patient * SCANS[-1] * 2**20)} at {SCANS[-1]:,}. Pages of mapped "
            "files come on top until the system wants them back; how many files stay open is limited."
        )
    store = results.get("patients", {}).get("store")
    if store:
        per_case = store["open_s"] / store["cases"]
        said.append(
            f"**The manifest** grows by {store['manifest_bytes_per_case'] / 1024:.2g} KiB a case, and opening the "
            f"store by {1000 * per_case:.2g} ms: {duration(per_case, SCANS[-1])} at {SCANS[-1]:,} scans. While scans "
            "are added, writing it takes a tenth of the time at most."
        )
        said.append(
            f"**Checksums** are read before each training, at {1 / store['verify_s_per_gib']:.2g} GiB a second here "
            "with the files in memory (small ones); a slower disk limits it."
        )
    native = results.get("scale", {}).get(NATIVE, {})
    peaks = {name: max(_peaks(cost), default=0.0) for name, cost in native.items() if isinstance(cost, dict)}
    if peaks:
        name = max(peaks, key=lambda each: peaks[each])
        said.append(
            f"**One scan.** {NATIVE} voxels are predicted in {peaks[name]:.3g} GiB at most, the whole command ({name}; "
            f"the goal is {native['goal_gib']:.2g} GiB). A machine predicts as many scans at once as have room."
        )
    return said


def _peaks(cost: Mapping[str, Any]) -> list[float]:
    return [cost[key] for key in ("peak_gib", "estimated_peak_gib") if key in cost]


def page(results: Results, gpu: Results, hardware: str, device: str, more: str = "") -> str:
    """Markdown; `more` are sections of their own."""
    header = [
        *("scans", "store", "prepare, one process", "checksums", f"train, {STEPS:,} steps", "predict, one process"),
        *("train, a GPU", f"predict, {GPUS} GPUs"),
    ]
    table = tabulate(costs(results, gpu), header, tablefmt="pipe", disable_numparse=True)
    pairs = [PREPARE, STEP, PREDICT, "feed_vs_monai", "prepare_jobs", "ranks_step_paper", "ray_study"]
    measured = tabulate([(pair, command(results, pair)) for pair in pairs], ["figure", "measured by"], tablefmt="pipe")
    said = "\n".join(f"- {each}" for each in saturation(results, gpu)) or "Nothing of it is measured yet."
    return f"""# What many scans cost

Scans of 512×512×400 voxels, prepared with the paper's factor of four; a training has the paper's size, whatever the
number of scans; phantoms stand for patients. Computed from figures measured on
{hardware}{device}.
What nobody has measured yet is called unknown.

{table}

The arms of a study share nothing but files: six arms on eight GPUs take the time of one. So do the scans of a
prediction: it is divided by the number of GPUs. Both divisions are assumed, not measured.

## Where it saturates

{said}

{more}## Where the figures come from

{measured}

Made by `python -m benchmarks.scale_model`.
"""


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """All files of results of one kind of processor."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def whole_page(kind: str) -> str:
    """The page, from the files of results."""
    results = read_results(RESULTS / kind)
    gpus = sorted(path for path in RESULTS.glob("nvidia*") if path.is_dir())
    gpu = read_results(gpus[0]) if gpus else {}
    hardware = sorted({str(file["hardware"]) for file in results.values()})
    device = f" and {gpus[0].name}" if gpus else ""
    statistics = RESULTS / f"{batch_statistics.NAME}.json"
    found = json.loads(statistics.read_text(encoding="utf-8")) if statistics.exists() else {}
    more = "\n".join([ranks_model.section(results, ours(gpu, STEP)), batch_statistics.section(found), ""])
    return page(results, gpu, "; ".join(hardware) or "nothing yet", device, more)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default=KIND, help=f"folder of results of the processor (default {KIND})")
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    write_text(given.out, whole_page(given.kind))


if __name__ == "__main__":
    main()
