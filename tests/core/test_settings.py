"""Factors and spacings: one for all axes or three, in any of the ways they can be written."""

import pytest
from pydantic import ValidationError

from viscera.core.config import Config, PrepareConfig, TrainConfig
from viscera.core.resolve import resolve_config
from viscera.core.settings import ANOTHER_MODEL, differences, fields_of


def test_whose_business_a_field_is_stands_at_the_field() -> None:
    roles = {key: role for key, _, role in fields_of(Config)}
    of_training = {key.removeprefix("train.") for key, role in roles.items() if role != "method" and "train." in key}
    machine = {"device", "resident", "capture", "memory_layout", "diagnose", "deterministic"}
    machine |= {"checkpoint_every", "log_every", "validate_every", "track"}
    assert of_training == machine | {"iterations", "weighting", "learning_rate", "seed", "fold"}
    assert {roles[f"train.{field}"] for field in machine} == {"machine"}
    assert roles["train.iterations"] == "schedule"
    assert {role for key, role in roles.items() if key.startswith("study.")} == {"grid", "machine"}
    assert all(field.description for _, field, _ in fields_of(Config))


def test_a_run_on_another_machine_is_no_other_model() -> None:
    elsewhere = TrainConfig(device="cuda:1", resident="never", log_every=7, iterations=20_000, diagnose=False)
    assert differences(TrainConfig(), elsewhere, ANOTHER_MODEL) == []
    assert len(differences(TrainConfig(), elsewhere)) == 5
    assert differences(TrainConfig(), TrainConfig(precision="float32"), ANOTHER_MODEL) != []


def test_what_differs_is_written_as_people_write_it() -> None:
    """As in a file of settings or after `--set`: no Python."""
    before = Config()
    now = resolve_config(
        assignments=[
            "predict.mirror_axes=R,S",
            "prepare.spacing_mm=1.5,1.5,3",
            "predict.cleanup.largest_component=[liver, spleen]",
            "train.diagnose=false",
            "train.fold=0",
            "train.augment.low_resolution=1,1,3",
            "study.weights={steep: {power: 0.5}}",
        ]
    )
    assert differences(before, now) == [
        "prepare.spacing_mm none (now 1.5,1.5,3)",
        "train.fold none (now 0)",
        "train.diagnose true (now false)",
        "train.augment.low_resolution 2 (now 1,1,3)",
        "predict.mirror_axes none (now R,S)",
        "predict.cleanup.largest_component none (now liver,spleen)",
        "study.weights none (now {steep: {power: 0.5, counts_of: none}})",
    ]
    one, two = (TrainConfig(learning_rate=rate) for rate in (0.1234567890123, 0.1234567890124))
    assert differences(one, two) == ["learning_rate 0.1234567890123 (now 0.1234567890124)"]


def prepare_of(**settings: object) -> PrepareConfig:
    return PrepareConfig.model_validate(settings)


@pytest.mark.parametrize("written", [4, "4", (4, 4, 4), [4, 4, 4], "4,4,4", " 4 4 4 ", 4.0])
def test_one_factor_is_one_factor_however_it_is_written(written: object) -> None:
    assert prepare_of(downsample=written).downsample == 4
    assert not differences(prepare_of(), prepare_of(downsample=written))


@pytest.mark.parametrize("written", [(4, 4, 1), [4, 4, 1], "4,4,1", "4 4 1", "4, 4, 1"])
def test_three_factors(written: object) -> None:
    assert prepare_of(downsample=written).downsample == (4, 4, 1)


@pytest.mark.parametrize(
    ("written", "spacing"),
    [
        (None, None),
        (3, 3.0),
        ("1.5", 1.5),
        ("1.5,1.5,3", (1.5, 1.5, 3)),
        ([2, 2, 2], 2.0),
        ([0.7, 0.7, 5], (0.7, 0.7, 5)),
    ],
)
def test_spacings(written: object, spacing: object) -> None:
    assert prepare_of(spacing_mm=written).spacing_mm == spacing


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "", "a", "4,4", [4, 4], "4,4,0", [4, 4, 4, 4], "nan", {}])
def test_what_is_no_factor(wrong: object) -> None:
    with pytest.raises(ValidationError, match="expected"):
        prepare_of(downsample=wrong)


@pytest.mark.parametrize("wrong", [0, -1, True, "", "inf", float("nan"), "1,1", [1, 1, -1]])
def test_what_is_no_spacing(wrong: object) -> None:
    with pytest.raises(ValidationError, match="a voxel size in mm was expected"):
        prepare_of(spacing_mm=wrong)


def test_what_is_written_is_read_again() -> None:
    config = resolve_config(assignments=["prepare.downsample=4,4,1", "prepare.spacing_mm=[1.5, 1.5, 3]"])
    assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        ({"downsample": 4, "downsample_axes": "all"}, 4),
        ({"downsample": 4, "downsample_axes": "in_plane"}, (4, 4, 1)),
        ({"downsample": 1, "downsample_axes": "in_plane"}, 1),
        ({"downsample_axes": "in_plane"}, (4, 4, 1)),
    ],
)
def test_settings_of_earlier_stores_and_runs(earlier: dict[str, object], now: object) -> None:
    assert resolve_config(file_values={"prepare": earlier}).prepare == prepare_of(downsample=now)


def test_in_plane_goes_with_one_factor() -> None:
    with pytest.raises(ValidationError, match="goes with one factor"):
        prepare_of(downsample=(4, 4, 2), downsample_axes="in_plane")
