"""Weights under a name: what may stand in `study.weights`, and how the training that uses one knows it."""

from typing import Any

import pytest

from viscera.core.arms import Arm, arm_config, arms_of
from viscera.core.config import Config
from viscera.core.errors import BadInputError, UsageError
from viscera.core.named_weights import refuse_other_classes
from viscera.core.resolve import resolve_config

VALUES = {"background": 1, "liver": "0.25"}
SWAPPED = {"power": 2, "counts_of": {"liver": "gallbladder", "gallbladder": "liver"}}


def with_weights(**more: Any) -> Config:
    study = {"weights": {"mine": VALUES, "swapped": SWAPPED}, "weightings": ["square", "mine", "swapped"]}
    return resolve_config(file_values={"study": study, **more})


def test_an_arm_is_called_by_its_weighting_and_its_training_holds_the_values() -> None:
    config = with_weights()
    arms = arms_of(config.study)
    assert [arm.name for arm in arms[:3]] == ["square_lr0.001", "mine_lr0.001", "swapped_lr0.001"]
    assert arms[1].title == "mine, rate 0.001"
    losses = [arm_config(config, arm, 0).train.loss.weights for arm in arms[:3]]
    assert losses == [{}, {"mine": {"background": 1.0, "liver": 0.25}}, {"swapped": {**SWAPPED, "power": 2.0}}]


def test_one_training_takes_a_name_too_and_keeps_what_it_stands_for() -> None:
    train = with_weights(train={"weighting": "mine", "loss": {"schedule": {"to": "swapped"}}}).train
    assert set(train.loss.weights) == {"mine", "swapped"}
    again = resolve_config(file_values={"train": train.model_dump()})
    assert again.train == train


def test_what_study_weights_says_now_counts_over_what_a_run_kept() -> None:
    kept = {"train": {"weighting": "mine", "loss": {"weights": {"mine": {"liver": 3}}}}}
    assert resolve_config(file_values=kept).train.loss.weights == {"mine": {"liver": 3.0}}
    now = resolve_config(base=kept, file_values={"study": {"weights": {"mine": {"liver": 4}}}})
    assert now.train.loss.weights == {"mine": {"liver": 4.0}}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": {"liver": 0}}, "study.weights: a: the weight of liver is 0; a number above 0 was expected."),
        ({"a": {"liver": -1.5}}, "the weight of liver is -1.5"),
        ({"a": {"liver": float("nan")}}, "the weight of liver is nan"),
        ({"a": {"liver": "inf"}}, "the weight of liver is inf"),
        ({"a": {"liver": True}}, "the weight of liver is True"),
        ({"a": {}}, "a: a weight for each class was expected, or power and counts_of"),
        ({"a": 2}, "a: a weight for each class was expected"),
        ({"a": {"power": 3}}, "a: power is 3; a number in"),
        ({"a": {"counts_of": {"liver": "spleen"}}}, "a: power is None"),
        ({"a": {"power": 1, "liver": 2}}, "power and counts_of stand alone; found liver"),
        ({"a": {"power": 1, "counts_of": {"liver": 3}}}, "names for a class the class whose count it takes"),
        ({"square": VALUES}, "'square' is the name of something else"),
        ({"Uniform": VALUES}, "'Uniform' is the name of something else"),
        ({"power2": VALUES}, "'power2' is the name of something else"),
        ({"nan": VALUES}, "'nan' is the name of something else"),
        ({"fused": VALUES}, "'fused' is the name of something else"),
        ({"1.5": VALUES}, "'1.5' is the name of something else"),
        ({2: VALUES}, "'2' is not a valid name"),
        ({"a_b": VALUES}, "'a_b' is not a valid name"),
        (["a"], "names were expected, each with its weights"),
    ],
)
def test_other_weights_are_refused_in_one_sentence(weights: object, message: str) -> None:
    used = {"train": {"weighting": "a"}} if isinstance(weights, dict) and "a" in weights else {}
    with pytest.raises(BadInputError) as refusal:
        resolve_config(file_values={"study": {"weights": weights}, **used})
    assert message in str(refusal.value)
    assert str(refusal.value).count("study.weights") == 1
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("section", [{"train": {"weighting": "mein"}}, {"study": {"weightings": ["mein"]}}])
def test_a_name_that_stands_for_nothing_is_refused(section: dict[str, Any]) -> None:
    values = {"study": {"weights": {"mine": VALUES}, **section.get("study", {})}} | {
        key: value for key, value in section.items() if key != "study"
    }
    with pytest.raises(BadInputError, match=r"weighting[s]? = 'mein': .*a name in study.weights"):
        resolve_config(file_values=values)


def test_as_an_option_that_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"--weighting mein: .*a name in study.weights"):
        resolve_config(file_values={"study": {"weights": {"mine": VALUES}}}, options={"train.weighting": "mein"})
    given = resolve_config(file_values={"study": {"weights": {"mine": VALUES}}}, options={"train.weighting": "mine"})
    assert given.train.loss.weights == {"mine": {"background": 1.0, "liver": 0.25}}


def test_the_classes_are_those_of_the_data() -> None:
    classes = ("background", "liver", "gallbladder")
    with pytest.raises(BadInputError, match=r"study\.weights\.mine: no weight for gallbladder"):
        refuse_other_classes({"mine": VALUES}, classes)
    with pytest.raises(BadInputError, match=r"study\.weights\.mine: there is no class lung here"):
        refuse_other_classes({"mine": {**VALUES, "gallbladder": 1, "lung": 1}}, classes)
    with pytest.raises(BadInputError, match=r"study\.weights\.swapped: there is no class gallbladder here"):
        refuse_other_classes({"swapped": SWAPPED}, classes[:2])
    refuse_other_classes({"swapped": SWAPPED}, classes)


def test_arms_of_other_weightings_are_as_they_were() -> None:
    plain, with_names = resolve_config(), with_weights()
    arm = Arm("simple", 0.01)
    assert arm_config(plain, arm, 3).train == arm_config(with_names, arm, 3).train
