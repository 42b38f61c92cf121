"""The arms of a study: their names, their order, their settings."""

import pytest

from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config, StudyConfig
from viscera.core.errors import BadInputError
from viscera.core.resolve import resolve_config


def with_variants(**variants: dict[str, object]) -> Config:
    return resolve_config(file_values={"study": {"variants": {"": {}, **variants}}})


def test_arms_are_ordered_as_in_table_1() -> None:
    arms = arms_of(StudyConfig(weightings=("uniform", "square"), learning_rates=(0.001, 0.01)))
    assert [arm.name for arm in arms] == ["uniform_lr0.001", "square_lr0.001", "uniform_lr0.01", "square_lr0.01"]


@pytest.mark.parametrize(
    ("arm", "name", "title"),
    [
        (Arm("simple", 1e-5), "simple_lr1e-05", "simple, rate 1e-05"),
        (Arm(0.5, 0.01), "power0.5_lr0.01", "power 0.5, rate 0.01"),
        (Arm(2.0, 0.1, "eps0"), "power2_lr0.1_eps0", "power 2, rate 0.1, eps0"),
    ],
)
def test_names_are_folders_and_titles_are_for_people(arm: Arm, name: str, title: str) -> None:
    assert (arm.name, arm.title) == (name, title)


def test_a_variant_replaces_settings() -> None:
    config = with_variants(eps0={"train.adam.epsilon": 0, "train.patch": 96})
    plain, changed = (arm_config(config, arm, 7).train for arm in (Arm("simple", 0.1), Arm(0.5, 0.1, "eps0")))
    assert (plain.weighting, plain.learning_rate, plain.seed, plain.patch) == ("simple", 0.1, 7, 64)
    assert (changed.weighting, changed.adam.epsilon, changed.patch) == (0.5, 0, 96)
    assert changed.adam.epsilon_place == "keras"
    assert [arm.variant for arm in arms_of(config.study)] == [""] * 6 + ["eps0"] * 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.seed": 3}, "train.seed cannot differ"),
        ({"prepare.downsample": 2}, "prepare.downsample cannot differ"),
        ({"train.depth": 3}, "there is no setting 'train.depth'"),
        ({"train.patch": 0}, "train.patch = 0"),
    ],
)
def test_other_variants_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInputError, match=f"study.variants, big: .*{message}"):
        arm_config(with_variants(big=settings), Arm("simple", 0.1, "big"), 0)


def test_a_name_that_is_no_folder_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"'\.\./x': a name of letters, digits, points and hyphens was expected"):
        resolve_config(file_values={"study": {"variants": {"../x": {}}}})
