"""Each claim's verdict on studies made for it; the answers are in how the studies are made."""

import dataclasses
from collections.abc import Callable

import pytest

from tests.fabricated_studies import FIVE_SEEDS, PAPER_PERCENT, words_of
from viscera.core.arms import Arm
from viscera.engine.fusion import FusionRecord
from viscera.io.scores import ScoreRow
from viscera.study.report.claim_rules import MINUS, PAPER_SETTINGS, Evidence, Setting
from viscera.study.report.claims_section import CLAIMS_SECTION
from viscera.study.report.ledger import Entry, ledger
from viscera.study.results import FusedResult, RunResult, StudyResult

StudyMaker = Callable[..., StudyResult]
# foreground Dice of the paper's six models, rounded
AS_IN_PAPER = {
    ("uniform", 0.001): 0.87,
    ("simple", 0.001): 0.71,
    ("square", 0.001): 0.39,
    ("uniform", 0.01): 0.85,
    ("simple", 0.01): 0.89,
    ("square", 0.01): 0.76,
}


@pytest.fixture
def study_of_dice(study_of_dice: StudyMaker) -> StudyMaker:
    """Studies of five seeds, unless a test says otherwise: with fewer there is no verdict."""
    return lambda dice, **options: study_of_dice(dice, **{"study.seeds": FIVE_SEEDS, **options})


def dice_of(means: dict[tuple[str, float], float], luck: float = 0.0) -> Callable[[Arm, int, int, str], float | None]:
    """Every organ alike; each case is 0.3 points below the one before it; simple gains `luck` with every seed."""

    def dice(arm: Arm, seed: int, case: int, _organ: str) -> float | None:
        mean = means.get((str(arm.weighting), arm.learning_rate))
        if mean is None:
            return None
        return mean - 0.003 * case + (luck * seed if arm.weighting == "simple" else 0.0)

    return dice


def entries(study: StudyResult, fused: tuple[ScoreRow, ...] = ()) -> dict[str, Entry]:
    """The ledger of a study, with the scores of combined models beside it."""
    combined = FusedResult(record_of_fusion(), fused, ()) if fused else None
    whole = dataclasses.replace(study, fused=combined)
    return {entry.claim: entry for entry in ledger(Evidence(whole, "original"))}


def words(study: StudyResult, fused: tuple[ScoreRow, ...] = ()) -> dict[str, str]:
    return {number: entry.word for number, entry in entries(study, fused).items()}


def trained_on(sooner: StudyResult, later: StudyResult) -> StudyResult:
    """One study that was first trained as far as the one, then as far as the other."""
    stages = [each.record.all_stages[-1] for each in (sooner, later)]
    runs = tuple(
        dataclasses.replace(run, earlier={stages[0]: before.scores or ()})
        for run, before in zip(later.runs, sooner.runs, strict=True)
    )
    return dataclasses.replace(later, record=later.record.model_copy(update={"stages": tuple(stages)}), runs=runs)


def record_of_fusion() -> FusionRecord:
    return FusionRecord(
        version="0.1.0",
        chosen_on=("a",),
        organs={},
        evidence="own",
        settled_by="weights",
        below=(),
        models={},
        iterations=20_000,
        inputs_sha256="",
    )


# ---------------------------------------------------------------------------------------------- the plain claims
def test_a_study_like_the_paper_supports_what_the_paper_claims(study_of_dice: StudyMaker) -> None:
    found = entries(study_of_dice(dice_of(AS_IN_PAPER)))
    assert [found[n].word for n in "12345"] == ["supported"] * 5
    assert found["1"].verdict == "supported on these cases"
    assert found["1"].data == "clinical CT: 12 test cases, 5 seeds, 300 iterations"
    assert "+16.0" in found["1"].numbers  # 0.87 - 0.71
    assert "+32.0" in found["1"].numbers  # 0.71 - 0.39


def test_the_reverse_is_contradicted(study_of_dice: StudyMaker) -> None:
    reverse = {
        ("uniform", 0.001): 0.40,
        ("simple", 0.001): 0.70,
        ("square", 0.001): 0.87,
        ("uniform", 0.01): 0.85,
        ("simple", 0.01): 0.60,
        ("square", 0.01): 0.76,
        ("square", 0.1): 0.30,
    }
    study = study_of_dice(dice_of(reverse), **{"study.learning_rates": (0.001, 0.01, 0.1)})
    found = entries(study)
    assert [found[n].word for n in "123456"] == ["contradicted"] * 6
    assert found["6"].verdict == "contradicted on these cases"
    assert f"{MINUS}46.0" in found["6"].numbers


def test_the_papers_own_table_would_support_claims_one_to_five(study_of_dice: StudyMaker) -> None:
    """The margins are such that twelve patients who all look like Table 1 support what the paper says of it."""

    def dice(arm: Arm, _seed: int, case: int, organ: str) -> float | None:
        at = PAPER_SETTINGS.index(Setting(str(arm.weighting), arm.learning_rate))
        return PAPER_PERCENT[organ][at] / 100 + 1e-4 * case

    assert [words(study_of_dice(dice))[n] for n in "12345"] == ["supported"] * 5


def test_one_reversed_part_contradicts_a_claim_of_two(study_of_dice: StudyMaker) -> None:
    # uniform > simple holds, simple > square does not
    assert words(study_of_dice(dice_of({**AS_IN_PAPER, ("square", 0.001): 0.80})))["1"] == "contradicted"
    reason = entries(study_of_dice(dice_of({**AS_IN_PAPER, ("square", 0.001): 0.80})))["1"].reason
    assert reason == f"The reverse is shown for simple {MINUS} square at 0.001."


def test_a_difference_below_the_margin_is_neither(study_of_dice: StudyMaker) -> None:
    """Square gains 5 points on average, the margin itself: half of the cases lie above, half below."""

    def dice(arm: Arm, _seed: int, case: int, _organ: str) -> float | None:
        around = 0.01 * (case // 2 + 1) * (1 if case % 2 else -1)
        gain = 0.0 if arm.learning_rate == 0.001 else (0.25 if arm.weighting == "simple" else 0.05 + around)
        return 0.5 + gain

    found = entries(study_of_dice(dice))
    assert found["3"].word == "undecided"
    assert "Neither the claim nor its reverse is shown" in found["3"].reason


@pytest.mark.parametrize(("shift", "word"), [(0.0, "supported"), (0.02, "supported"), (0.07, "contradicted")])
def test_hardly_depends_means_within_five_points(study_of_dice: StudyMaker, shift: float, word: str) -> None:
    means = {**AS_IN_PAPER, ("uniform", 0.01): AS_IN_PAPER["uniform", 0.001] - shift}
    assert words(study_of_dice(dice_of(means)))["5"] == word
    means = {**AS_IN_PAPER, ("uniform", 0.01): AS_IN_PAPER["uniform", 0.001] + shift}
    assert words(study_of_dice(dice_of(means)))["5"] == word


def test_the_large_organs_alone_decide_the_second_claim(study_of_dice: StudyMaker) -> None:
    def dice(arm: Arm, _seed: int, case: int, organ: str) -> float | None:
        failing = arm.learning_rate == 0.001 and arm.weighting != "uniform" and organ in {"liver", "spleen"}
        return (0.2 if failing else 0.9) - 0.001 * case

    assert words(study_of_dice(dice))["2"] == "contradicted"  # stomach does not fail


def test_powers_of_one_and_two_are_simple_and_square(study_of_dice: StudyMaker) -> None:
    names = {"1.0": "simple", "2.0": "square"}

    def dice(arm: Arm, _seed: int, case: int, _organ: str) -> float | None:
        named = names.get(str(arm.weighting), str(arm.weighting))
        return AS_IN_PAPER[named, arm.learning_rate] - 0.003 * case

    study = study_of_dice(dice, **{"study.weightings": ("uniform", 1.0, 2.0)})
    assert words(study)["1"] == "supported"


# ------------------------------------------------------------------------------------------- too little to decide
def test_few_cases_decide_nothing_and_it_is_said_how_many_would(study_of_dice: StudyMaker) -> None:
    found = entries(study_of_dice(dice_of(AS_IN_PAPER), cases=7))
    assert found["1"].word == "undecided"
    assert found["1"].verdict == "undecided on these cases"
    # five claims are tested: 5 · 2 / 2^8 = 0.039 is the first below 0.05; with seven cases it is 0.078
    assert "7 can show nothing" in found["1"].reason
    assert "it takes 8 or more" in found["1"].reason
    assert words(study_of_dice(dice_of(AS_IN_PAPER), cases=8))["1"] == "supported"


def test_a_missing_arm_leaves_its_claims_undecided(study_of_dice: StudyMaker) -> None:
    found = entries(study_of_dice(dice_of({k: v for k, v in AS_IN_PAPER.items() if k != ("square", 0.01)})))
    assert "No finished and scored run: square at 0.01" in found["4"].result
    assert found["3"].word == found["4"].word == "undecided"
    assert found["1"].word == "supported"
    assert "Not in this study: square at 0.1" in found["6"].result
    smaller = entries(study_of_dice(dice_of(AS_IN_PAPER), **{"study.weightings": ("uniform",)}))
    assert "Not in this study: simple at 0.001, square at 0.001" in smaller["1"].result
    assert smaller["5"].word == "supported"


def test_nothing_scored_leaves_all_undecided(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(lambda *_: None)
    assert {entry.word for entry in ledger(Evidence(study, ""))} == {"undecided"}
    assert "0 of 11 lines could be tested" in words_of(study, CLAIMS_SECTION)


def test_runs_that_are_not_finished_do_not_count(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER))
    cut = study.runs[0]
    assert cut.status is not None
    status = cut.status.model_copy(update={"state": "running"})
    one = (RunResult(cut.arm, cut.seed, status, cut.curve, cut.scores), *study.runs[1:])
    assert entries(StudyResult(study.record, one))["1"].models == "supported"  # four seeds are left
    runs = tuple(dataclasses.replace(run, status=status) if run.arm == cut.arm else run for run in study.runs)
    found = entries(StudyResult(study.record, runs))
    assert found["1"].word == "undecided"
    assert "uniform at 0.001" in found["1"].reason


# ---------------------------------------------------------------------------------------------------------- seeds
def test_five_seeds_that_agree_speak_of_more_than_these_models(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER))
    book = ledger(Evidence(study, "original"))
    assert book[0].verdict == "supported on these cases"
    assert "5 seeds" in book[0].data
    assert "these models" not in words_of(study, CLAIMS_SECTION).lower()


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2, 3)])
def test_fewer_seeds_speak_of_these_models_alone(study_of_dice: StudyMaker, seeds: tuple[int, ...]) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER), **{"study.seeds": seeds})
    found = entries(study)
    assert {entry.word for entry in found.values()} == {"undecided"}
    assert [found[n].models for n in "12345"] == ["supported"] * 5
    assert found["1"].verdict == "undecided on these cases; these models support it"
    assert "It takes 5 seeds or more (--seeds)." in found["1"].reason
    said = words_of(study, CLAIMS_SECTION)
    assert "0 supported, 0 contradicted, 5 left undecided by the numbers, of which these models support 5" in said
    assert "no line is a verdict about weightings" in said


def test_seeds_that_disagree_leave_it_undecided(study_of_dice: StudyMaker) -> None:
    # simple rises by 15 points a seed: 71 to 131 % against uniform's 87 %; the mean over seeds is above
    means = {**AS_IN_PAPER, ("square", 0.001): 0.1}
    found = entries(study_of_dice(dice_of(means, luck=0.15)))
    assert found["1"].word == "undecided"
    assert "These models show the reverse (p = 0.00098), but the trainings vary" in found["1"].reason


# ------------------------------------------------------------------------------------- 7: twice as many iterations
def longer(study_of_dice: StudyMaker, sooner: float, now: int = 20_000) -> dict[str, Entry]:
    """Simple and square gain `sooner` between the two stages, uniform a fifth of a point."""
    gained = dict(AS_IN_PAPER)
    for key in gained:
        gained[key] += 0.002 if key[0] == "uniform" else sooner
    sooner_study = study_of_dice(dice_of(AS_IN_PAPER), **{"train.iterations": 10_000})
    return entries(trained_on(sooner_study, study_of_dice(dice_of(gained), **{"train.iterations": now})))


def test_the_seventh_claim_compares_two_stages(study_of_dice: StudyMaker) -> None:
    assert longer(study_of_dice, 0.05)["7"].word == "supported"
    assert longer(study_of_dice, 0.0)["7"].word == "contradicted"  # they did not gain
    without = longer(study_of_dice, 0.05, now=15_000)["7"]
    assert "Scores at 10,000, 15,000 iterations only." in without.reason
    assert "--iterations 20000" in entries(study_of_dice(dice_of(AS_IN_PAPER)))["7"].reason


def test_stages_and_combined_models_of_a_study_are_found(study_of_dice: StudyMaker) -> None:
    sooner = study_of_dice(dice_of(AS_IN_PAPER), **{"train.iterations": 10_000})
    gained = {key: mean + (0.002 if key[0] == "uniform" else 0.05) for key, mean in AS_IN_PAPER.items()}
    later = study_of_dice(dice_of(gained), **{"train.iterations": 20_000})
    book = entries(trained_on(sooner, later), fused_rows(later, 4, 0.02))
    assert book["7"].word == book["9"].models == "supported"
    assert book["1"].data.endswith("20,000 iterations")


# -------------------------------------------------------------------------------------------------- 8: overfitting
@pytest.mark.parametrize(
    ("training", "validation", "word"),
    [
        (0.88, [0.5, 0.8], "supported"),
        (0.99, [0.5, 0.8], "undecided"),  # a gap, but Dice on validation did not fall
        (0.99, [0.8, 0.7], "contradicted"),
        (0.99, [None, None], "undecided"),
    ],
)
def test_overfitting_needs_a_gap_and_a_fall(
    study_of_dice: StudyMaker, training: float, validation: list[float | None], word: str
) -> None:
    def curve_dice(_arm: Arm, _seed: int) -> list[tuple[float, float | None]]:
        return [(0.5, validation[0]), (training, validation[1])]

    study = study_of_dice(lambda _arm, _seed, case, _organ: 0.82 + 0.003 * case, curve_dice=curve_dice)
    found = entries(study)["8"]
    assert found.word == word
    if word == "undecided":
        assert "The gap is large, but it also holds what patches and whole scans differ by" in found.reason
    if validation[0]:
        # 0.8 to 0.7 on every organ is a fall of 10 points
        assert f"at most {10.0 if word == 'contradicted' else 0.0:.1f} points below the best" in found.reason


def test_trained_with_augmentation_it_is_no_test_of_the_eighth(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER), curve_dice=lambda *_: [(0.9, None)], **{"train.augment.enabled": True})
    assert "augmentation" in entries(study)["8"].reason
    assert entries(study)["8"].word == "undecided"


# ---------------------------------------------------------------------------------------------- 9: combined models
def fused_rows(study: StudyResult, arm: int, gain: float) -> tuple[ScoreRow, ...]:
    like = next(run for run in study.runs if run.arm == study.arms[arm])
    return tuple(row._replace(value=(row.value or 0) + gain) for row in like.scores or ())


def test_the_combination_is_held_against_the_arm_that_validation_picks(study_of_dice: StudyMaker) -> None:
    def curve_dice(arm: Arm, _seed: int) -> list[tuple[float, float | None]]:
        return [(0.9, 0.9 if (arm.weighting, arm.learning_rate) == ("uniform", 0.001) else 0.5)]

    study = study_of_dice(dice_of(AS_IN_PAPER), curve_dice=curve_dice)
    better = entries(study, fused_rows(study, 0, 0.02))["9"]
    assert (better.word, better.models) == ("undecided", "supported")  # one combination has the luck of one training
    assert "a study makes one" in better.reason
    assert "uniform, rate 0.001: +2.0" in better.numbers
    assert entries(study, fused_rows(study, 0, -0.02))["9"].models == "contradicted"
    assert "--fuse" in entries(study)["9"].reason


def test_an_arm_picked_on_test_cannot_contradict_the_ninth(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER))
    worse = entries(study, fused_rows(study, 4, -0.02))["9"]
    assert worse.word == "undecided"
    assert "picked on the test cases" in worse.reason
    assert worse.models == "undecided"
    assert entries(study, fused_rows(study, 4, 0.02))["9"].models == "supported"


# -------------------------------------------------------------------------------------------------- 10: more memory
VARIANTS: dict[str, dict[str, object]] = {
    "": {},
    "batch6": {"train.batch_size": 6},
    "mixed": {"train.batch_size": 6, "train.loss.smoothing": 1e-5},
    "smaller": {"train.batch_size": 1},
}


@pytest.mark.parametrize(("gain", "word"), [(0.03, "supported"), (-0.03, "contradicted")])
def test_larger_batches_alone_test_the_tenth(study_of_dice: StudyMaker, gain: float, word: str) -> None:
    plain = dice_of(AS_IN_PAPER)

    def dice(arm: Arm, seed: int, case: int, organ: str) -> float | None:
        base = plain(Arm(arm.weighting, arm.learning_rate), seed, case, organ)
        return None if base is None else base + {"": 0.0, "batch6": gain}.get(arm.variant, -gain)

    found = entries(study_of_dice(dice, **{"study.variants": VARIANTS, "train.batch_size": 3}))
    assert found["10a"].word == word
    shown = f"batch6 - without, mean of 6 arms: {100 * gain:+.1f}".replace("-", MINUS)
    assert shown in found["10a"].numbers
    assert "mixed" not in found["10a"].numbers
    assert "smaller" not in found["10a"].numbers
    assert found["10b"].word == "undecided"


def test_without_such_a_variant_the_tenth_is_undecided(study_of_dice: StudyMaker) -> None:
    assert "train.batch_size" in entries(study_of_dice(dice_of(AS_IN_PAPER)))["10a"].reason


def test_every_line_names_what_tests_it(study_of_dice: StudyMaker) -> None:
    book = ledger(Evidence(study_of_dice(dice_of(AS_IN_PAPER)), "original"))
    assert [entry.claim for entry in book] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10a", "10b"]
    assert all(len(entry[:6]) == 6 and all(entry[:6]) for entry in book)


def test_every_line_on_a_phantom_says_so(study_of_dice: StudyMaker) -> None:
    study = study_of_dice(dice_of(AS_IN_PAPER), dataset="phantom, 28 cases")
    book = ledger(Evidence(study, "original"))
    assert all("on this phantom" in entry.verdict for entry in book)
    assert all(entry.data.startswith("phantom: 12 test cases") for entry in book)
    assert not any("patient" in text for entry in book for text in entry)
    said = words_of(study, CLAIMS_SECTION)
    assert "no line says anything about patients" in said
    assert "On this phantom, " in said


def test_what_differs_from_the_papers_training_is_noted(study_of_dice: StudyMaker) -> None:
    elsewhere = {"train.resident": "never", "train.device": "cpu", "train.log_every": 7, "train.filters": 8}
    said = words_of(study_of_dice(dice_of(AS_IN_PAPER), **elsewhere), CLAIMS_SECTION)
    noted = said[said.index("viscera's interpretation of the paper") : said.index("The paper's Table 1")]
    assert "iterations 10000 (now 300)" in noted
    assert "filters 32 (now 8)" in noted
    assert not any(setting in noted for setting in ("resident", "device", "log_every"))
