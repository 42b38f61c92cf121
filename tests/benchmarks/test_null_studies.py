"""The simulation of null studies: its shortcuts against what the report does, and its page."""

import json
from itertools import combinations

import numpy as np
import pytest

from benchmarks import null_studies
from benchmarks.null_luck import LUCK, SCENARIOS, Scenario, crossed_of_means
from benchmarks.null_missing import ALPHA, TESTS
from benchmarks.null_studies import figures, stars, verdicts
from benchmarks.null_studies_page import PAGE, limit, page
from benchmarks.record import RESULTS
from viscera.metrics.crossed import components, crossed_means
from viscera.metrics.paired_tests import paired_tests
from viscera.metrics.statistics import holm
from viscera.study.report.claim_rules import Part, Reading, settle, within
from viscera.study.report.claims import ALIKE


def test_means_alone_give_the_crossed_analysis() -> None:
    values = np.random.default_rng(0).standard_normal((9, 5, 4))
    short, whole = crossed_of_means(values.mean(axis=1), values.mean(axis=0)), crossed_means(values)
    for one, other in zip(short.interval(0.999), whole.interval(0.999), strict=True):
        assert one == pytest.approx(other)


def test_scenarios_have_the_variances_that_they_name() -> None:
    differences = LUCK.arms(np.random.default_rng(1), (200, 2, 12, 6, 1))[..., 0]
    found = np.mean([components(of) or () for of in differences[:, 0] - differences[:, 1]], axis=0)
    assert found == pytest.approx(LUCK.of_difference, rel=0.15)
    for scenario in SCENARIOS:
        values = scenario.arms(np.random.default_rng(2), (200, 2, 30, 10, 2))
        assert values[:, 0].mean() - values[:, 1].mean() == pytest.approx(0, abs=0.6), scenario.name


def test_stars_are_those_of_the_whole_family_tested_and_corrected() -> None:
    """A scenario with true differences between arms, so that there are some: by every p of the report, and Holm."""
    strong = Scenario("strong", patients=0.5, luck=1.5, residual=0.5)
    generator = np.random.default_rng([16, 6, *strong.name.encode()])
    values = strong.arms(generator, (40, 6, 16, 6, 7))
    pairs = np.array(list(combinations(range(6), 2)))
    wrong = dict.fromkeys(("ranks", "now"), 0)
    for of_study in values:
        of_pairs = of_study[pairs[:, 0]] - of_study[pairs[:, 1]]
        tests = paired_tests(of_pairs.transpose(1, 2, 0, 3).reshape(16, 6, TESTS), draws=21_000)
        wrong["ranks"] += bool((holm(tests.ranks.two_sided) < ALPHA).any())
        wrong["now"] += bool((holm(tests.deciding.two_sided) < ALPHA).any())
    found = stars(strong, 16, 6, 40)
    assert {name: round(40 * found[name]) for name in wrong} == wrong
    assert wrong["ranks"] > 20


def test_verdicts_are_those_of_the_ledger() -> None:
    """Ten studies of loud luck: the same contrasts, settled as the report settles them."""
    loud = Scenario("loud", patients=1.0, luck=3.0, residual=1.0)
    differences = loud.arms(np.random.default_rng([8, 5, *loud.name.encode()]), (10, 2, 8, 5, 16))
    settled = 0
    for of_study in differences[:, 0] - differences[:, 1]:
        contrasts = [null_studies._contrast(of_study[:, :, k]) for k in range(16)]
        claims: dict[int, tuple[Part, ...]] = {}
        for of, contrast in zip(null_studies._PARTS, contrasts, strict=True):
            claims[of] = (*claims.get(of, ()), Part(contrast))
        claims[5] = within(null_studies._contrast(of_study[:, :, null_studies._CLAIM_5] + ALIKE), ALIKE)
        settled += any(verdict.word != "undecided" for verdict in settle([Reading(parts) for parts in claims.values()]))
    assert verdicts(loud, 8, 5, 10)["now"] == settled / 10


def test_a_few_studies_of_each_kind_make_a_page() -> None:
    found = figures(quick=True)
    text = page({**found, "date": "2026-01-01", "versions": {"numpy": "2", "scipy": "1"}})
    assert "none given" in text
    assert all(0 <= row["now"] <= 0.25 for row in [*found["stars"], *found["missing"]])


def test_what_is_published_keeps_what_it_promises() -> None:
    """Five seeds and more: stars and verdicts at most alpha within error; intervals of 93 %.

    But for what the page names: trainings that end in one of two optima, which five seeds cannot tell from a
    difference, and means of arms whose rare failures are missing among the seeds.
    """
    found = json.loads((RESULTS / "null_studies.json").read_text())
    for row in [*found["stars"], *found["verdicts"]]:
        if row["seeds"] >= 5 and (row["scenario"], row["patients"], row["seeds"]) != ("two optima", 37, 5):
            assert row["now"] <= limit(ALPHA, row["studies"]), row
    enough = [row for row in found["coverage"] if row["seeds"] >= 5]
    assert min(row["difference"] for row in enough) >= 0.93
    for row in found["missing"]:
        assert row["now"] <= limit(ALPHA, row["studies"]), row
        assert min(row["difference"], row["arm"]) >= 0.93, row
    assert min(row["arm"] for row in enough if row["scenario"] != "one training in ten fails") >= 0.93
    assert PAGE.read_text() == page(found)
