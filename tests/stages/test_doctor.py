from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import LossConfig, PrepareConfig, TrainConfig
from viscera.core.errors import BadInputError
from viscera.io.store import Store
from viscera.stages.doctor import diagnose
from viscera.stages.prepare import prepare


def test_counts_and_weights_are_those_of_the_training_cases(tiny_store: Store) -> None:
    found = diagnose(tiny_store.path, TrainConfig())
    counts = tiny_store.voxel_counts().astype(float)
    assert found.classes == CLASS_NAMES
    assert found.voxel_counts == tuple(counts)
    assert found.cases == 4
    assert found.cases_with_class == (4,) * 8
    assert sum(found.fractions) == pytest.approx(1)
    assert list(found.weights["uniform"]) == [1] * 8
    assert found.weights["simple"] == pytest.approx(counts.sum() / (8 * counts + 1))
    assert found.weights["square"] == pytest.approx(counts.sum() / (8 * counts**2 + 1))


def test_the_loss_settings_count(tiny_store: Store) -> None:
    counts = tiny_store.voxel_counts("original").astype(float)
    loss = LossConfig(epsilon=0, numerator="volumes", counts="original")
    found = diagnose(tiny_store.path, TrainConfig(loss=loss))
    assert found.weights["simple"] == pytest.approx(4 / (8 * counts))


def test_an_absent_class_is_shown(
    tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    hu, labels = make_case(0)
    raw = make_nnunet(
        tmp_path / "raw", {"a": (hu, labels), "b": (hu, np.where(labels == 6, 0, labels).astype(np.uint8))}
    )
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0))
    assert diagnose(tmp_path / "s", TrainConfig()).cases_with_class == (2, 2, 2, 2, 2, 2, 1, 2)


def test_a_store_without_training_cases_is_bad_input(tmp_path: Path) -> None:
    Store.create(tmp_path / "s", PrepareConfig(), "")
    with pytest.raises(BadInputError, match="no training case in this store"):
        diagnose(tmp_path / "s", TrainConfig())
    with pytest.raises(BadInputError, match="this is no store"):
        diagnose(tmp_path, TrainConfig())
