"""The study's joined table of scores."""

from viscera.core.arms import FUSED, arms_of
from viscera.core.config import StudyConfig
from viscera.io.records import write_csv
from viscera.io.runlog import StudyFolder
from viscera.io.scores import ScoreRow, read_scores


def join_scores(folder: StudyFolder, config: StudyConfig) -> None:
    """Write `scores.csv` of all arms and seeds that have one, with the columns `arm, seed` in front.

    The fused predictor, one for all seeds, is the last arm, with seed 0.
    """
    rows = [
        (arm.name, seed, *row.cells())
        for arm in arms_of(config)
        for seed in config.seeds
        if (run := folder.run(arm, seed)).scores.exists()
        for row in read_scores(run.scores)
    ]
    if config.fuse:
        rows += [(FUSED, 0, *row.cells()) for row in read_scores(folder.fused.scores)]
    write_csv(folder.path / "scores.csv", ("arm", "seed", *ScoreRow._fields), rows)
