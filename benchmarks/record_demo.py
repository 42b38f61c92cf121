"""Write what a demo study with several seeds gave, as a page.

make demo DEMO=demo-seeds DEMO_SETTINGS="--seeds 0,1,2"
python -m benchmarks.record_demo demo-seeds/study --out docs/results/demo-phantom.md
"""

import argparse
import datetime as dt
import statistics
from pathlib import Path

from tabulate import tabulate

from viscera.core.arms import arms_of
from viscera.io.files import write_text
from viscera.io.runlog import StudyFolder
from viscera.io.scores import read_scores
from viscera.study.report.report_stage import read_study
from viscera.study.report.summary_section import trust_rows, trust_sentence


def foreground_dice(path: Path) -> float:
    """Mean over the organs of the mean over the cases where the organ is defined, as in Table 1; in [0, 1]."""
    by_organ: dict[str, list[float]] = {}
    for row in read_scores(path):
        if row.organ != "background" and row.grid == "original" and row.metric == "dice" and row.value is not None:
            by_organ.setdefault(row.organ, []).append(row.value)
    return statistics.fmean(statistics.fmean(values) for values in by_organ.values())


def main() -> None:
    """Read the study and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = StudyFolder(arguments.study)
    record = folder.read_record()
    train, seeds = record.config.train, record.config.study.seeds
    rows, hardware, seconds, versions = [], "", 0.0, ""
    for arm in arms_of(record.config.study):
        values = [foreground_dice(folder.run(arm, seed).scores) for seed in seeds]
        rows.append([arm.name, *(f"{v:.3f}" for v in values), f"{statistics.median(values):.3f}"])
        for seed in seeds:
            status = folder.run(arm, seed).read_status()
            if status is not None:
                hardware, versions = status.hardware, f"torch {status.versions['torch']}"
                seconds += status.wall_seconds
    trusted = trust_rows(read_study(folder.path), "original")
    flags = [[row.title, row.unflagged, row.unflagged_failed, row.flagged, row.flagged_failed] for row in trusted]
    flags_header = ["arm, all seeds", "not flagged", "of these below 0.5", "flagged", "of these below 0.5"]
    made_with = f'make demo DEMO_SETTINGS="--seeds {",".join(map(str, seeds))}"'
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    header = ["arm", *(f"seed {s}" for s in seeds), "median"]
    text = f"""# The demo on the phantom: mean foreground Dice on its test cases

Phantom, not patients. {train.iterations} steps, patches of {train.patch}³, {train.filters} filters,
{train.levels} levels, batch-norm statistics {train.batch_norm}; the test cases are the eight that no arm saw.

{tabulate(rows, header, tablefmt="pipe", disable_numparse=True)}

## What the flags of `measurements.csv` were worth

Phantom, not patients. Organs of the test cases, each once a seed; what they are held against are the training and
validation cases (docs/howto/trust.md). {trust_sentence(trusted)}

{tabulate(flags, flags_header, tablefmt="pipe", disable_numparse=True)}

Training of all arms and seeds together: {seconds:.0f} s of one core. {hardware}; {versions}; {date}.
Made by `{made_with}` and `python -m benchmarks.record_demo`.
"""
    write_text(arguments.out, text)
    print(text)


if __name__ == "__main__":
    main()
