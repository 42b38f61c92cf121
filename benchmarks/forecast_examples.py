"""What the forecast of `viscera doctor` says of finished studies, beside what happened in them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.count_scale import PAPER_VOXELS
from viscera.core.arms import Arm
from viscera.core.resolve import resolve_config
from viscera.doctor.forecast import confused_with
from viscera.doctor.untrained import outlooks
from viscera.io.nifti import read_labels
from viscera.io.runlog import StudyFolder
from viscera.io.store import Store
from viscera.losses.balance import POWERS
from viscera.metrics.learning import FAILING_DICE
from viscera.metrics.overlap import confusion_matrix
from viscera.study.report.claim_rules import PAPER_SETTINGS
from viscera.study.report.claims_section import paper_column
from viscera.study.report.report_stage import read_study

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Example:
    """One arm of one set: the miniature's Dice, and which of its organs failed."""

    name: str  # of the set
    arm: Arm
    organs: tuple[str, ...]  # (L - 1,)
    share: Array  # (L,) of the gradient
    dice: Array  # (seeds, L) of the miniature
    step_kept: float
    outcome: Array  # (L - 1,) Dice on the test cases, mean over them and the seeds; NaN: not scored
    expected_pairs: tuple[str, ...] = ()  # (L,) who takes a class's voxels in the miniature
    found_pairs: tuple[str, ...] = ()  # and in the predictions of the first seed

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """(L - 1,)."""
        return self.outcome < FAILING_DICE

    @property
    def cell(self) -> tuple[float | str, float]:
        """Power and rate: the same for `square` and 2."""
        weighting = self.arm.weighting
        return (POWERS.get(weighting, weighting) if isinstance(weighting, str) else weighting, self.arm.learning_rate)


def examples_of(name: str, path: Path) -> list[Example]:
    """One for every arm that is scored; raises BadInputError where there is no study, or its store is gone."""
    study = read_study(path)
    store = Store.open(Path(study.record.store))
    percent = study.scores.class_percent(study.grids[0])
    arms = [arm for arm in study.arms if percent[arm.name].notna().any()]
    found = []
    for arm, outlook in outlooks(store, study.record.config, arms):
        runs = (StudyFolder(path).run(arm, seed).path for seed in study.record.config.study.seeds)
        predictions = next((run / "predictions" for run in runs if (run / "predictions").is_dir()), None)
        found.append(
            Example(
                name=name,
                arm=arm,
                organs=store.classes.names[1:],
                share=np.asarray(outlook.gradient_share),
                dice=outlook.dice,
                step_kept=outlook.step_kept,
                outcome=percent[arm.name].reindex(list(store.classes.names[1:])).to_numpy(float) / 100,
                expected_pairs=confused_with(outlook.confusion, store.classes.names),
                found_pairs=() if predictions is None else _pairs(store, predictions),
            )
        )
    return found


def _pairs(store: Store, predictions: Path) -> tuple[str, ...]:
    """(L,) who takes a class's voxels in the label maps of the test cases."""
    length = len(store.classes)
    confusion = np.zeros((length, length))
    for name in store.names("test"):
        path = predictions / f"{name}.nii.gz"
        truth = store.original_labels(name)
        if path.exists() and (given := read_labels(path, classes=store.classes).labels).shape == truth.labels.shape:
            confusion += confusion_matrix(given, truth.labels, length).T  # true classes in rows
    return confused_with(confusion, store.classes.names) if confusion.any() else ()


def papers_examples(store_path: Path) -> list[Example]:
    """The paper's six arms, forecast on phantoms with as many voxels as the paper's; outcomes of its Table 1."""
    store = Store.open(store_path)
    factor = PAPER_VOXELS / float(store.voxel_counts("prepared").sum())
    config = resolve_config("paper", assignments=[f"train.loss.count_scale={factor:.6g}"])
    arms = [Arm(setting.weighting, setting.learning_rate) for setting in PAPER_SETTINGS]
    columns = [paper_column(setting) for setting in PAPER_SETTINGS]
    organs = store.classes.names[1:]
    return [
        Example(
            name="the paper's Table 1",
            arm=arm,
            organs=organs,
            share=np.asarray(outlook.gradient_share),
            dice=outlook.dice,
            step_kept=outlook.step_kept,
            outcome=np.array([column[organ] for organ in organs]) / 100,
            expected_pairs=confused_with(outlook.confusion, store.classes.names),
        )
        for column, (arm, outlook) in zip(columns, outlooks(store, config, arms), strict=True)
    ]
