"""Configuration: the paper's values, layers, refusals."""

import pytest

from viscera.core.config import Config
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config


def test_the_defaults_are_the_papers() -> None:
    config = Config()
    train = config.train
    assert config.prepare.downsample == 4
    assert config.prepare.test_fraction == 37 / 377
    assert (train.iterations, train.patch, train.batch_size, train.filters, train.levels) == (10_000, 64, 3, 32, 4)
    assert config.study.weightings == ("uniform", "simple", "square")
    assert config.study.learning_rates == (0.001, 0.01)
    assert (train.loss.epsilon, train.loss.smoothing, train.loss.numerator) == (1, 0, "voxels")


def test_later_layers_win() -> None:
    config = resolve_config(
        "demo",
        {"train": {"filters": 6, "levels": 2}},
        ["train.levels=5"],
        {"train.patch": 16, "train.seed": None},
    )
    assert (config.train.filters, config.train.levels, config.train.patch) == (6, 5, 16)
    assert config.train.iterations == resolve_config("demo").train.iterations


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.filter=3", "there is no setting 'train.filter'"),
        ("train.filters=many", "train.filters = 'many'"),
        ("train.filters=0", "greater than or equal to 1"),
        ("train.learning_rate=nan", "learning_rate"),
        ("train.weighting=cubic", "train.weighting = 'cubic'"),
        ("train.filters", "section.key=value"),
        ("prepare.test_fraction=1.5", "less than 1"),
    ],
)
def test_refusals_name_the_setting(assignment: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        resolve_config(assignments=[assignment])


def test_unknown_preset() -> None:
    with pytest.raises(BadInputError, match="There are: paper, demo"):
        resolve_config("big")


def test_assigned_values_are_yaml() -> None:
    config = resolve_config(
        assignments=[
            "prepare.spacing_mm=null",
            "study.seeds=[0, 1]",
            "train.learning_rate=1e-2",
            "train.weighting=simple",
        ]
    )
    assert config.prepare.spacing_mm is None
    assert config.study.seeds == (0, 1)
    assert config.train.learning_rate == 0.01
    assert config.train.weighting == "simple"
