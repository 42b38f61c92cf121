"""Flags: each rule on its own, worked by hand."""

import dataclasses

import pytest

from viscera.core.scan import OrganFacts
from viscera.engine.trust import (
    HeldOut,
    OrganRange,
    TrainingRanges,
    failures_among,
    least_confidence,
    most_entropy,
    reasons_not_to_trust,
)

WHOLE = OrganFacts(volume_ml=1500, mean_hu=100, cut_off=False, large_fragments=1, confidence=0.9)
# three whole livers, 1200 to 1600 mL, 90 to 110 HU: 960 to 2000 mL and 70 to 130 HU are like them
SEEN = [dataclasses.replace(WHOLE, volume_ml=v, mean_hu=h) for v, h in ((1200, 90), (1600, 110), (1500, 100))]
TRAINING = TrainingRanges({"liver": OrganRange.of(SEEN), "spleen": OrganRange.of(SEEN)}, least_confidence=0.6)


def reasons(**changed: object) -> tuple[str, ...]:
    return reasons_not_to_trust({"liver": dataclasses.replace(WHOLE, **changed)}, TRAINING)["liver"]  # type: ignore[arg-type]


def test_an_organ_like_those_of_training_is_not_flagged() -> None:
    assert reasons() == ()
    assert reasons(volume_ml=960.1, mean_hu=70) == ()
    assert reasons(volume_ml=1999, mean_hu=130) == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"volume_ml": 900}, "volume 900 mL outside 960 to 2000"),
        ({"volume_ml": 2100}, "volume 2100 mL outside 960 to 2000"),
        ({"mean_hu": 45}, "HU 45 outside 70 to 130"),
        ({"large_fragments": 2}, "2 large fragments"),
        ({"cut_off": True}, "cut off by the field of view"),
        ({"confidence": 0.5}, "low confidence (0.50, below 0.60)"),
        ({"confidence": 0.5988}, "low confidence (0.599, below 0.600)"),
        ({"mean_hu": 130.3}, "HU 130.3 outside 70.0 to 130.0"),
        ({"volume_ml": 0, "mean_hu": None, "confidence": None}, "not found"),
    ],
)
def test_each_reason(changed: dict[str, object], reason: str) -> None:
    assert reasons(**changed) == (reason,)


def test_a_part_of_an_organ_may_be_small() -> None:
    assert reasons(volume_ml=300, cut_off=True) == ("cut off by the field of view",)


def test_what_is_usual_in_training_is_no_reason() -> None:
    # the aorta runs out of every abdominal scan; an organ that half of the patients lack may be missing
    cut = OrganRange.of([dataclasses.replace(WHOLE, cut_off=True)] * 2)
    assert cut.volume_ml is None
    assert reasons_not_to_trust(
        {"aorta": dataclasses.replace(WHOLE, cut_off=True)}, TrainingRanges({"aorta": cut})
    ) == {"aorta": ()}
    gone = OrganFacts(0, None, cut_off=False, large_fragments=0)
    assert reasons_not_to_trust({"liver": gone}, TrainingRanges({"liver": OrganRange.of([WHOLE, gone])})) == {
        "liver": ()
    }


def test_two_organs_of_other_hu_make_another_phase() -> None:
    facts = {"liver": WHOLE, "spleen": dataclasses.replace(WHOLE, mean_hu=170)}
    assert reasons_not_to_trust(facts, TRAINING) == {"liver": (), "spleen": ("HU 170 outside 70 to 130",)}
    facts["liver"] = dataclasses.replace(WHOLE, mean_hu=40)
    found = reasons_not_to_trust(facts, TRAINING)
    more = {**facts, **{f"spleen {n}": WHOLE for n in range(3)}}  # two of five are badly segmented organs, no phase
    assert reasons_not_to_trust(more, TRAINING)["liver"] == ("HU 40 outside 70 to 130",)
    assert all(each[-1] == "contrast phase unlike training (HU of liver, spleen)" for each in found.values())


def test_spacing_concerns_every_organ_and_an_unknown_organ_has_no_reasons_of_its_own() -> None:
    found = reasons_not_to_trust({"liver": WHOLE, "kidney": WHOLE}, TRAINING, ["liver", "kidney"])
    assert found == {"liver": ("spacing unlike training",), "kidney": ("spacing unlike training",)}


@pytest.mark.parametrize("cases", [[], [OrganFacts(0, None, cut_off=False, large_fragments=0)]])
def test_an_organ_that_training_never_saw_is_flagged_where_it_is_found(cases: list[OrganFacts]) -> None:
    # nothing in the loss keeps a model from calling background so
    training = TrainingRanges({"liver": OrganRange.of(cases)})
    assert reasons_not_to_trust({"liver": WHOLE}, training) == {"liver": ("in no training case",)}
    absent = OrganFacts(0, None, cut_off=False, large_fragments=0)
    assert reasons_not_to_trust({"liver": absent}, training) == {"liver": ()}


def test_least_confidence_by_hand() -> None:
    assert least_confidence([0.5, 0.9], [0.8, 0.9]) == 0  # nothing fails
    # of those from 0.6 on none of two fails; from 0.4 on one of three does
    assert least_confidence([0.2, 0.4, 0.6, 0.8], [0.1, 0.3, 0.7, 0.9]) == 0.6
    assert least_confidence([0.9, 0.8], [0.1, 0.9]) == 1  # the surest one fails
    assert least_confidence([], []) == 0


def test_failures_by_hand() -> None:
    assert failures_among([0.9, 0.4, 0.3, 0.6], [False, False, True, True]) == (1, 2, 1, 2)


def test_the_most_undecided_that_did_not_fail_is_the_measure_and_a_quarter_more_is_a_reason() -> None:
    held_out = [HeldOut("liver", 0.9, 0.1, 0.8), HeldOut("liver", 0.8, 0.2, 0.5), HeldOut("liver", 0.5, 0.9, 0.49)]
    held_out.append(HeldOut("spleen", 0.5, 0.9, 0.1))
    assert most_entropy(held_out) == {"liver": 0.2}
    training = dataclasses.replace(TRAINING, most_entropy=most_entropy(held_out))
    facts = {organ: dataclasses.replace(WHOLE, entropy=0.26) for organ in ("liver", "spleen")}
    found = reasons_not_to_trust(facts, training)
    assert found == {"liver": ("undecided (entropy 0.26, above 0.25)",), "spleen": ()}
    facts["liver"] = dataclasses.replace(WHOLE, entropy=0.25)
    assert reasons_not_to_trust(facts, training)["liver"] == ()
    other = dataclasses.replace(TRAINING, most_entropy={"liver": 0.4, "spleen": 0.3})
    joined = TrainingRanges.joined([training, other])
    assert joined.most_entropy == {"liver": 0.4}  # of what all know
    assert TrainingRanges.of_organs({"liver": training, "spleen": other}).most_entropy == {"liver": 0.2, "spleen": 0.3}
