"""Predictions scored in several processes: the same tables as in one, and one bad case is left out all the same."""

from pathlib import Path

import pytest

from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.io.manifest import Split
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate


def scored(predictions: Path, references: Path, out: Path, jobs: int, config: EvaluateConfig) -> dict[str, bytes]:
    seen: list[Progress] = []
    split: Split | None = "train" if (references / "manifest.json").exists() else None
    with pytest.raises(BadInputError, match="1 of 4 cases was left out"):
        evaluate(
            *(predictions, references, out / "scores.csv", config),
            summary=out / "summary.json",
            jobs=jobs,
            progress=seen.append,
            split=split,
        )
    assert [at.done for at in seen] == [0, 1, 2, 3, 4]
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_of_a_store_on_both_grids(tiny_store: Store, predictions: Path, tmp_path: Path) -> None:
    both = EvaluateConfig(grid="both", metrics=("dice", "hd95_mm"))
    one, two = (scored(predictions, tiny_store.path, tmp_path / str(jobs), jobs, both) for jobs in (1, 2))
    assert one == two


def test_of_a_data_set(tiny_raw: Path, predictions: Path, tmp_path: Path) -> None:
    dice = EvaluateConfig(metrics=("dice",))
    one, two = (scored(predictions, tiny_raw, tmp_path / str(jobs), jobs, dice) for jobs in (1, 2))
    assert one == two
