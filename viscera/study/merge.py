"""The study's joined table of scores."""

import csv
import io

from viscera.core.config import StudyConfig
from viscera.io.files import write_text
from viscera.io.runlog import StudyFolder, arms_of
from viscera.io.scores import ScoreRow, read_scores


def join_scores(folder: StudyFolder, config: StudyConfig) -> None:
    """Write `scores.csv` of all arms and seeds that have one, with the columns `arm, seed` in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("arm", "seed", *ScoreRow._fields))
    for arm in arms_of(config):
        for seed in config.seeds:
            run = folder.run(arm, seed)
            for row in read_scores(run.scores) if run.scores.exists() else []:
                writer.writerow((arm.name, seed, *row[:4], "" if row.value is None else f"{row.value:.6f}"))
    write_text(folder.path / "scores.csv", text.getvalue())
