"""Configuration: the paper's values, layers, refusals."""

import pytest

from viscera.core.anatomy import TOLERANCES_MM
from viscera.core.arms import arms_of
from viscera.core.config import Config, EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.resolve import as_recorded, resolve_config
from viscera.core.settings import ANOTHER_MODEL, differences


def test_the_defaults_are_the_papers() -> None:
    config = Config()
    train = config.train
    assert config.prepare.downsample == 4
    assert config.prepare.test_fraction == 37 / 377
    assert (train.iterations, train.patch, train.batch_size, train.filters, train.levels) == (10_000, 64, 3, 32, 4)
    assert config.study.weightings == ("uniform", "simple", "square")
    assert config.study.learning_rates == (0.001, 0.01)
    assert not train.augment.enabled
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
        ("train.filters=0", "a whole number of at least 1 was expected"),
        ("train.learning_rate=nan", "learning_rate"),
        ("train.weighting=cubic", "train.weighting = 'cubic'"),
        ("train.filters", "section.key=value"),
        ("prepare.test_fraction=1.5", "a number below 1 was expected"),
        ("train.augment.rotation_probability=2", "a number of at most 1 was expected"),
        ("train.augment.elastic_voxels=4", "at most a sixth of elastic_spacing"),
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


@pytest.mark.parametrize(("given", "expected"), [("simple", "simple"), ("0.5", 0.5), (2, 2.0), ("0", 0.0)])
def test_a_weighting_is_a_name_or_a_power(given: object, expected: object) -> None:
    assert resolve_config(options={"train.weighting": given}).train.weighting == expected


@pytest.mark.parametrize("given", ["cubic", 2.5, -0.1, "nan", True, None, [1]])
def test_other_weightings_are_refused(given: object) -> None:
    with pytest.raises(BadInputError, match=r"train\.weighting = .*or a power in \[0, 2\] was expected"):
        resolve_config(file_values={"train": {"weighting": given}})


def test_a_schedule_goes_forwards() -> None:
    with pytest.raises(BadInputError, match="first_step must lie before last_step"):
        resolve_config(file_values={"train": {"loss": {"schedule": {"first_step": 5, "last_step": 5}}}})


def test_differences_are_named_with_their_place() -> None:
    before = resolve_config()
    now = resolve_config(assignments=["train.loss.numerator=volumes", "train.seed=3", "train.device=cpu"])
    assert differences(before.train, now.train, ANOTHER_MODEL, within="train.") == [
        "train.seed 0 (now 3)",
        "train.loss.numerator voxels (now volumes)",
    ]


def test_differences_print_short_numbers_and_name_defaults_on_demand() -> None:
    before = resolve_config(assignments=["prepare.test_fraction=0.2", "prepare.downsample=3"]).prepare
    now = resolve_config(assignments=["prepare.downsample=2"]).prepare
    assert differences(before, now) == ["downsample 3 (now 2)", "test_fraction 0.2 (now 0.09814)"]
    assert differences(before, now, name_defaults=True)[1] == "test_fraction 0.2 (now 0.09814, the default)"
    near = resolve_config(assignments=["prepare.test_fraction=0.098140000001"]).prepare
    assert differences(near, now)[1] == "test_fraction 0.098140000001 (now 0.09814323607427056)"  # alike when short


def test_what_did_not_earn_its_name_is_no_preset() -> None:
    with pytest.raises(BadInputError, match=r"no preset 'balanced'\. There are: paper, demo, strong\."):
        resolve_config("balanced")


def test_a_study_of_the_strong_preset_varies_the_weighting_alone() -> None:
    config = resolve_config("strong")
    assert [(arm.weighting, arm.learning_rate) for arm in arms_of(config.study)] == [
        ("uniform", 0.01),
        ("simple", 0.01),
        ("square", 0.01),
    ]
    assert config.train.learning_rate == 0.01


def test_a_study_is_scored_by_dice_alone_unless_told_otherwise() -> None:
    config = resolve_config(assignments=["evaluate.grid=both"])
    assert config.evaluate.metrics == ("dice", "hd95_mm", "surface_dice", "volume_ml")
    assert config.study_evaluation == config.evaluate.model_copy(update={"metrics": ("dice",)})
    more = resolve_config(assignments=["study.metrics=[dice, hd95_mm]"])
    assert more.study_evaluation.metrics == ("dice", "hd95_mm")


def test_tolerances_are_those_given_over_those_of_flare22_or_one_for_all() -> None:
    config = resolve_config(assignments=["evaluate.tolerance_mm={liver: 1, kidney: 3}"]).evaluate
    assert config.tolerance_mm == {**TOLERANCES_MM, "liver": 1.0, "kidney": 3.0}
    assert EvaluateConfig.model_validate(config.model_dump()) == config
    assert resolve_config(assignments=["evaluate.tolerance_mm.liver=1"]).evaluate.tolerance_mm["liver"] == 1  # type: ignore[index]
    assert resolve_config(assignments=["evaluate.tolerance_mm=2"]).evaluate.tolerance_mm == 2
    with pytest.raises(BadInputError, match="tolerance_mm"):
        resolve_config(assignments=["evaluate.tolerance_mm={liver: -1}"])


def test_a_record_from_before_a_default_changed_keeps_what_was_in_force() -> None:
    assert resolve_config().train.batch_norm == "recomputed"
    assert resolve_config(file_values=as_recorded({"train": {"seed": 3}})).train.batch_norm == "running"
    assert resolve_config(file_values=as_recorded({})).train.batch_norm == "running"
    kept = as_recorded({"train": {"batch_norm": "recomputed"}})
    assert resolve_config(file_values=kept).train.batch_norm == "recomputed"


@pytest.mark.parametrize("key", ["train.seed", "prepare.seed", "study.seeds"])
def test_seeds_have_64_bits(key: str) -> None:
    def given(seed: int) -> object:
        return [seed] if key.endswith("seeds") else seed

    resolve_config(options={key: given(2**64 - 1)})
    for wrong in (2**64, -1, 10**30):
        with pytest.raises(
            BadInputError, match=rf"{key}.*a whole number of at (least 0|most 18446744073709551615) was expected"
        ):
            resolve_config(options={key: given(wrong)})


@pytest.mark.parametrize(
    ("patch", "batch", "levels", "taken"),
    [(8, 1, 4, False), (9, 1, 4, True), (8, 2, 4, True), (8, 1, 3, True), (32, 1, 6, False), (1, 1, 2, False)],
)
def test_batch_normalisation_needs_two_values(patch: int, batch: int, levels: int, taken: bool) -> None:
    given = {"train": {"patch": patch, "batch_size": batch, "levels": levels}}
    if taken:
        resolve_config(file_values=given)
    else:
        with pytest.raises(BadInputError, match=r"^configuration: train: a patch of .* batch normalisation needs two"):
            resolve_config(file_values=given)


def test_short_trainings_are_logged_often_enough_for_a_curve() -> None:
    def every(iterations: int, log_every: int) -> int:
        return resolve_config(options={"train.iterations": iterations, "train.log_every": log_every}).train.logged_every

    assert every(10_000, 50) == 50
    assert every(100, 50) == 50
    assert every(99, 50) == 24
    assert every(40, 50) == 10
    assert every(1, 50) == 1


def test_a_misspelt_metric_is_one_sentence() -> None:
    with pytest.raises(BadInputError) as error:
        resolve_config(assignments=["evaluate.metrics=[hd95]"])
    assert (
        "'hd95': one of dice, hd95_mm, surface_dice, volume_ml, ece or ace was expected; did you mean hd95_mm?"
        in str(error.value)
    )
    assert "at least one was expected" not in str(error.value)
    with pytest.raises(BadInputError, match="at least one was expected"):
        resolve_config(assignments=["evaluate.metrics=[]"])


def test_records_keep_what_was_in_force_before_a_default_changed() -> None:
    earlier = resolve_config(file_values=as_recorded({"train": {"filters": 4}}))
    assert (earlier.train.batch_norm, earlier.predict.mode, earlier.train.filters) == ("running", "sub_volumes", 4)
    chosen = resolve_config(file_values=as_recorded({"predict": {"mode": "whole_volume", "overlap": 0.25}}))
    assert (chosen.predict.mode, chosen.predict.overlap) == ("whole_volume", 0.25)
    assert resolve_config().predict.mode == "auto"
