import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from viscera.core.anatomy import ABDOMEN, CLASS_NAMES
from viscera.core.config import Config, LossConfig, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.core.progress import Progress
from viscera.core.resolve import with_settings
from viscera.doctor.diagnosis import diagnose, diagnose_run, run_advice
from viscera.doctor.diagnosis_text import diagnosis_text, run_diagnosis_text
from viscera.doctor.probe_text import COLUMNS
from viscera.io.runlog import RunFolder, RunStatus
from viscera.io.store import Store
from viscera.metrics.learning import LoggedStep
from viscera.stages.prepare import prepare

Configure = Callable[..., Config]


def test_counts_and_weights_are_those_of_the_training_cases(tiny_store: Store, tiny_config: Configure) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    counts = tiny_store.voxel_counts().astype(float)
    assert found.classes == CLASS_NAMES
    assert found.voxel_counts == tuple(counts)
    assert found.cases == 4
    assert found.cases_with_class == (4,) * 8
    assert sum(found.fractions) == pytest.approx(1)
    assert list(found.weights["uniform"]) == [1] * 8
    assert found.weights["simple"] == pytest.approx(counts.sum() / (8 * counts + 1))
    assert found.weights["square"] == pytest.approx(counts.sum() / (8 * counts**2 + 1))


def test_the_loss_settings_count(tiny_store: Store, tiny_config: Configure) -> None:
    counts = tiny_store.voxel_counts("original").astype(float)
    loss = LossConfig(epsilon=0, numerator="volumes", counts="original")
    found = diagnose(tiny_store.path, tiny_config(loss=loss.model_dump()))
    assert found.weights["simple"] == pytest.approx(4 / (8 * counts))


def test_an_absent_class_is_shown(
    tmp_path: Path,
    make_nnunet: Callable[..., Path],
    make_case: Callable[..., tuple[np.ndarray, np.ndarray]],
    tiny_config: Configure,
) -> None:
    hu, labels = make_case(0)
    raw = make_nnunet(
        tmp_path / "raw", {"a": (hu, labels), "b": (hu, np.where(labels == 6, 0, labels).astype(np.uint8))}
    )
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0))
    assert diagnose(tmp_path / "s", tiny_config()).cases_with_class == (2, 2, 2, 2, 2, 2, 1, 2)


def test_a_class_of_no_training_case_and_one_of_a_single_case_are_not_called_failing(
    tmp_path: Path,
    make_nnunet: Callable[..., Path],
    make_case: Callable[..., tuple[np.ndarray, np.ndarray]],
    tiny_config: Configure,
) -> None:
    """Of five cases none has a pancreas; of the gallbladder one has a single voxel, in the corner of the scan."""
    cases = {}
    for number in range(5):
        hu, labels = make_case(number)
        labels = np.where(labels >= 6, 0, labels).astype(np.uint8)
        if number == 0:
            labels[0, 0, 0] = 6
        cases[f"case_{number}"] = (hu, labels)
    prepare(make_nnunet(tmp_path / "raw", cases), tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0))
    config = with_settings(tiny_config(patch=4), {"study.weightings": ["simple"]}, "test")
    found = diagnose(tmp_path / "s", config)
    assert found.cases_with_class[6:] == (1, 0)
    for arm in found.arms:
        assert (arm.absent, arm.unmet) == (("pancreas",), ("gallbladder",))
        assert "pancreas" not in arm.failing
        assert arm.failing_chance_low[6] < 0.01  # the miniature has seen it in no patch, and cannot tell
        assert arm.failing_chance[6] < arm.failing_chance[7] == 1  # no batch that was looked at has a gallbladder
    assert not [each for each in found.advice if "pancreas (" in each]
    (said,) = [each for each in found.advice if each.startswith("pancreas")]
    assert said.startswith("pancreas: not in the training cases (no label map has it), so no training can learn it.")
    (rare,) = [each for each in found.advice if "fewer than half of the mini-batches" in each]
    assert "gallbladder" in rare
    text = diagnosis_text(found)
    rows = [line.split()[1:] for line in text.splitlines() if line.startswith("pancreas ")]
    assert [set(row) == {"–"} for row in rows] == [False, False, True, True]  # counts, weights, gradients, chances
    assert "–: in none of the training patches that were looked at" in " ".join(text.split())


def test_a_store_without_training_cases_is_bad_input(tmp_path: Path, tiny_config: Configure) -> None:
    Store.create(tmp_path / "s", PrepareConfig(), "")
    with pytest.raises(BadInputError, match="no training case in this store"):
        diagnose(tmp_path / "s", tiny_config())
    with pytest.raises(BadInputError, match="this is not a store"):
        diagnose(tmp_path, tiny_config())


def test_weights_under_both_readings_of_n_and_how_often_classes_are_seen(
    tiny_store: Store, tiny_config: Configure
) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    counts = tiny_store.voxel_counts().astype(float)
    assert found.weights_by_numerator["voxels"] == found.weights
    assert found.weights_by_numerator["volumes"]["square"] == pytest.approx(4 / (8 * counts**2 + 1))
    # windows of 8 voxels in scans of 14 begin at 0 to 6; organ 4 lies at 6 and 7, in all of them, organ 1 at 0 and 1
    assert found.windows_with_class[4] == 1
    assert found.windows_with_class[1] == pytest.approx(2 / 7, abs=0.08)
    # two windows a batch, each with the organ independently of the other
    once = 1 - (1 - found.windows_with_class[1]) ** 2
    assert found.batches_with_class[1] == pytest.approx(once, abs=0.1)


def test_every_arm_is_forecast(tiny_store: Store, tiny_config: Configure) -> None:
    config = tiny_config()
    found = diagnose(tiny_store.path, config)
    assert [arm.arm for arm in found.arms] == [
        f"{weighting}_lr{rate}" for rate in (0.001, 0.01) for weighting in ("uniform", "simple", "square")
    ]
    for arm in found.arms:
        assert sum(arm.gradient_share) == pytest.approx(1)
        assert 0 < arm.step_kept <= 1
    uniform, simple, square = found.arms[:3]
    # the largest class has the smallest weight: its share falls from arm to arm
    assert uniform.gradient_share[0] > simple.gradient_share[0] > square.gradient_share[0]


def test_classes_whose_names_begin_alike_have_rows_of_their_own(tiny_store: Store, tiny_config: Configure) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    names = ("background", "left_kidney", "left_adrenal_gland", *found.classes[3:])
    lines = diagnosis_text(dataclasses.replace(found, classes=names)).splitlines()
    for title in ("left kidney", "left adrenal gland"):
        assert (
            sum(line.startswith(f"{title}  ") for line in lines) == 5
        )  # counts, weights, gradients, chances in two parts


def test_the_text_has_arms_as_columns_equal_ones_once_and_fits_80_columns(
    tiny_store: Store, tiny_config: Configure, tiny_run: Path
) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    text = diagnosis_text(found)
    assert max(map(len, text.splitlines())) <= COLUMNS == 80
    assert text.startswith("Forecast for 6 iterations, patches of 8 voxels, 2 per step, 2 filters, 2 levels.")
    _, gradients = text.split("share of each class in the gradient", 1)
    header = gradients.split("\n\n")[1].splitlines()[0].split()
    assert header == ["class", "uniform", "simple", "square"]  # whatever the rate
    twelve = tuple(dataclasses.replace(arm, arm=f"{arm.arm}_v{n}") for n in (1, 2) for arm in found.arms)
    many = diagnosis_text(dataclasses.replace(found, arms=twelve))
    assert max(map(len, many.splitlines())) <= COLUMNS
    assert max(map(len, run_diagnosis_text(diagnose_run(tiny_run)).splitlines())) <= COLUMNS


def test_a_forecast_says_how_far_it_is(tiny_store: Store, tiny_config: Configure) -> None:
    seen: list[Progress] = []
    diagnose(tiny_store.path, tiny_config(), seen.append)
    assert [each.done for each in seen if each.job == "doctor"] == [0, 1, 2, 3]
    assert [each for each in seen if each.job == "miniature" and each.done == each.total == 6]


def test_an_epsilon_that_drowns_the_gradient_is_named(tiny_store: Store, tiny_config: Configure) -> None:
    found = diagnose(tiny_store.path, tiny_config(adam={"epsilon": 10.0}))
    assert all(arm.step_kept < 0.01 for arm in found.arms)
    assert any("uniform: Adam's epsilon leaves 0." in sentence for sentence in found.advice)
    assert all(arm.step_kept > 0.999 for arm in diagnose(tiny_store.path, tiny_config(adam={"epsilon": 0})).arms)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"optimiser": {"name": "sgd"}, "adam": {"epsilon": 10.0}}, "SGD"),
        ({"loss": {"cross_entropy": 1.0}}, "cross-entropy beside Dice"),
        ({"organ_windows": 0.5}, "patches on organs"),
        ({"average": 0.9}, "averaged weights"),
        ({"optimiser": {"clip_norm": 12.0}}, "weight decay, clipping"),
        ({"levels": 3, "network": {"normalisation": "instance", "deep_supervision": True}}, "another network than"),
    ],
)
def test_nothing_is_forecast_of_what_the_forecast_was_not_made_for(
    settings: dict[str, object], what: str, tiny_store: Store, tiny_config: Configure
) -> None:
    found = diagnose(tiny_store.path, tiny_config(**settings))
    assert all(not arm.failing and arm.unforeseen.startswith(what) for arm in found.arms)
    said = " ".join(found.advice)
    assert f"Which organs will fail is not forecast for arms trained with {what}" in said
    assert not any(word in said for word in ("will most likely", "epsilon", "Fewest organs", "a tenth of"))
    assert "uniform" in diagnosis_text(found)


def test_shares_are_those_of_the_dice_loss(tiny_store: Store, tiny_config: Configure) -> None:
    plain, with_entropy = (
        diagnose(tiny_store.path, tiny_config(loss={"cross_entropy": factor})).arms[0] for factor in (0.0, 1.0)
    )
    assert with_entropy.gradient_share == plain.gradient_share


def test_windows_on_organs_of_a_variant_are_seen(tiny_store: Store, tiny_config: Configure) -> None:
    variants = {"": {}, "organs": {"train.organ_windows": 1.0}}
    config = tiny_config()
    config = config.model_copy(update={"study": config.study.model_copy(update={"variants": variants})})
    by_arm = {arm.arm: arm.gradient_share for arm in diagnose(tiny_store.path, config).arms}
    assert by_arm["uniform_lr0.001"] != by_arm["uniform_lr0.001_organs"]


def test_a_variant_does_not_hide_what_is_said_of_the_plain_arm(tiny_store: Store, tiny_config: Configure) -> None:
    config = tiny_config(adam={"epsilon": 10.0})
    variants = {"variants": {"": {}, "eps0": {"train.adam.epsilon": 0.0}}}
    found = diagnose(tiny_store.path, config.model_copy(update={"study": config.study.model_copy(update=variants)}))
    drowned = [sentence.partition(":")[0] for sentence in found.advice if "Adam's epsilon leaves" in sentence]
    assert drowned == ["uniform", "simple", "square"]


def test_a_run_says_what_happened_to_each_class(tiny_run: Path, tiny_store: Store) -> None:
    found = diagnose_run(tiny_run)
    lines = RunFolder(tiny_run).read_curve()
    assert (found.step, found.iterations) == (6, 6)
    pairs = zip(lines[-1]["dice"].values(), lines[-1]["volume_ratio"].values(), strict=True)
    assert found.dice == tuple(None if ratio is None else dice for dice, ratio in pairs)  # None: no window has it
    assert found.weights == (1.0,) * 8
    assert found.step_kept == pytest.approx(1, abs=0.05)
    assert found.advice
    with pytest.raises(BadInputError, match="neither a store nor a run"):
        diagnose_run(tiny_store.path)


def test_a_lost_organ_and_its_reason_are_named(tmp_path: Path, tiny_run: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run, run.path)
    dice, shares = dict.fromkeys(CLASS_NAMES, 0.5), dict.fromkeys(CLASS_NAMES, 0.142)
    dying = [
        {"step": n, "dice": {**dice, "liver": 0.0}, "gradient_share": {**shares, "liver": 0.001}} for n in range(1, 9)
    ]
    run.curve_path.write_text("".join(json.dumps(line) + "\n" for line in dying))
    found = diagnose_run(run.path)
    assert [(flag.organ, flag.state, flag.since) for flag in found.flags] == [("liver", "lost", 1)]
    assert "liver: less than a tenth of an equal share of the gradient" in found.advice[0]
    run.curve_path.write_text('{"step": "x"}\n{"step": 2}\n')
    with pytest.raises(BadInputError, match=r"curve\.jsonl: damaged"):
        diagnose_run(run.path)
    run.curve_path.write_text("")
    with pytest.raises(BadInputError, match="nothing was logged yet"):
        diagnose_run(run.path)


def starved(organ: str, dice: float, **outcome: object) -> list[LoggedStep]:
    """A curve at whose end one organ has next to no gradient; all others are learnt."""
    line: dict[str, object] = {
        "dice": dict.fromkeys(CLASS_NAMES, 0.9) | {organ: dice},
        "gradient_share": dict.fromkeys(CLASS_NAMES, 1 / 7) | {organ: 1e-6},
        **{key: {organ: value} for key, value in outcome.items()},
    }
    return [LoggedStep.from_line({"step": n, **line}) for n in range(1, 9)]


def test_a_class_that_vanished_is_not_laid_at_the_weights() -> None:
    """Equal weights are not to blame: the gradient of Eq. 2 at a logit has the class's probability as a factor."""
    curve, train = starved("pancreas", 0.0, volume_ratio=0.0), Config().train
    (equal,) = run_advice(curve, None, train, [1.0] * 8, ABDOMEN)
    assert equal.startswith("pancreas: less than a tenth of an equal share of the gradient, although its weight is")
    assert "next to no probability for a class that is empty" in equal
    assert "train.rate_schedule.warm_up" in equal
    (light,) = run_advice(curve, None, train, [1.0] * 7 + [1e-4], ABDOMEN)
    assert "This is due to the class weights" in light


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"volume_ratio": 60.0, "mostly_called": "pancreas"}, "is predicted over more than 3 times its volume"),
        ({"volume_ratio": 60.0, "mostly_called": "liver"}, "is predicted over more than 3 times its volume"),
        ({"volume_ratio": 0.9, "mostly_called": "liver"}, "is sure of a class, whether it is right or wrong"),
        ({}, "is sure of a class, whether it is right or wrong"),  # volumes were not logged
    ],
)
def test_why_a_class_has_no_gradient_follows_from_its_volume(outcome: dict[str, object], said: str) -> None:
    (advice,) = run_advice(starved("pancreas", 0.03, **outcome), None, Config().train, [1.0] * 8, ABDOMEN)
    assert said in advice
    assert "no probability" not in advice


def test_a_class_of_no_training_case_is_said_to_be_that_and_no_more() -> None:
    """Of simple weights of 1, 2 and so on that of a class without voxels is N: it has no part in the gradient."""
    curve = starved("liver", 0.03, volume_ratio=0.0)
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1e6]
    (said,) = run_advice(curve, None, Config().train, weights, ABDOMEN, ["pancreas"])
    assert said.startswith("liver: less than a tenth of an equal share of the gradient, although its weight is large")


def test_a_class_that_is_predicted_where_none_is_has_no_dice(tmp_path: Path, tiny_run: Path) -> None:
    """Over windows without a pancreas a Dice of 0 says that it was predicted, and nothing of what was learnt."""
    line = {
        "dice": dict.fromkeys(CLASS_NAMES, 0.9) | {"pancreas": 0.0},
        "gradient_share": dict.fromkeys(CLASS_NAMES[:-1], 1 / 7) | {"pancreas": 0.0},
        "volume_ratio": dict.fromkeys(CLASS_NAMES, 1.0) | {"pancreas": None},
        "mostly_called": dict.fromkeys(CLASS_NAMES) | {"pancreas": None},
    }
    found = diagnose_run(with_curve(tiny_run, tmp_path / "run", [{"step": n, **line} for n in range(1, 9)]))
    assert found.dice[-1] is None
    assert not found.flags
    (said,) = found.advice
    assert said.startswith("pancreas: in none of the training patches that are measured")
    assert "failing" not in run_diagnosis_text(found)


def test_a_run_that_failed_before_it_logged_is_not_waited_for(tmp_path: Path, tiny_run: Path) -> None:
    run = RunFolder(with_curve(tiny_run, tmp_path / "run", []))
    run.write_status(RunStatus(state="failed", step=0, iterations=6, message="weights are not finite after step 1."))
    with pytest.raises(BadInputError) as raised:
        diagnose_run(run.path)
    assert str(raised.value).endswith("The run is failed, at step 0 of 6: weights are not finite after step 1.")


def with_curve(run: Path, copy: Path, lines: list[dict[str, object]]) -> Path:
    shutil.copytree(run, copy, dirs_exist_ok=True)
    RunFolder(copy).curve_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy


@pytest.mark.parametrize("points", [1, 3, 6])
def test_no_verdict_contradicts_the_dice_above_it(tmp_path: Path, tiny_run: Path, points: int) -> None:
    shares = dict.fromkeys(CLASS_NAMES, 0.125)
    zeros = {"background": 0.9} | dict.fromkeys(CLASS_NAMES[1:], 0.0)
    for dice, said in (
        (zeros, "artery, portal vein, liver, spleen, stomach, gallbladder, pancreas: failing (Dice below 0.2)"),
        (zeros | dict.fromkeys(CLASS_NAMES[1:], 0.9) | {"liver": 0.1}, "liver: failing (Dice below 0.2)"),
        (zeros | dict.fromkeys(CLASS_NAMES[1:], 0.9) | {"liver": 0.3}, "liver: weak (Dice below 0.5)"),
        (zeros | dict.fromkeys(CLASS_NAMES[1:], 0.9) | {"liver": None}, "liver: in none of the training patches"),
        ({}, "in none of the training patches"),
        (zeros | dict.fromkeys(CLASS_NAMES[1:], 0.5), "No class is left behind"),
    ):
        for logged in (shares, {}):
            lines: list[dict[str, object]] = [
                {"step": 10 * n, "dice": dice, "gradient_share": logged} for n in range(1, points + 1)
            ]
            advice = " ".join(diagnose_run(with_curve(tiny_run, tmp_path / "run", lines)).advice)
            assert said in advice
            assert ("No class is left behind" in advice) == said.startswith("No class")


def test_statistics_that_hide_what_was_learnt_are_named_with_the_setting(tmp_path: Path, tiny_run: Path) -> None:
    lost: dict[str, object] = {
        "step": 6,
        "dice": {"background": 0.9} | dict.fromkeys(CLASS_NAMES[1:], 0.6) | {"liver": 0.001},
        "dice_batch_statistics": {"background": 0.9} | dict.fromkeys(CLASS_NAMES[1:], 0.68),
    }
    run = with_curve(tiny_run, tmp_path / "run", [lost])
    config = run / "config.yaml"
    said = config.read_text().partition("\n")[2]  # without its checksum
    config.write_text(said.replace("batch_norm: recomputed", "batch_norm: running"))
    (advice,) = diagnose_run(run).advice
    assert "0.51" in advice  # (6 * 0.6 + 0.001) / 7
    assert "0.68" in advice
    assert "liver" in advice
    assert "--set train.batch_norm=recomputed" in advice
    config.write_text(config.read_text().replace("  batch_norm: running\n", ""))  # earlier than the setting
    assert "--set train.batch_norm=recomputed" in diagnose_run(run).advice[0]


def test_other_network_input_is_looked_at_as_it_will_be(tiny_store: Store, tiny_config: Configure) -> None:
    plain, scaled = (
        diagnose(tiny_store.path, tiny_config(intensity={"scaling": scaling})).arms[0].gradient_share
        for scaling in ("unit", "z_score")
    )
    assert plain != scaled
