"""The methods paragraph is about the settings that were used, and the citations are CITATION.cff's."""

import dataclasses
from pathlib import Path

import yaml

import viscera
from tests.fabricated_studies import StudyMaker
from viscera.core.resolve import resolve_config
from viscera.io.runlog import RunStatus
from viscera.io.scores import ScoreRow
from viscera.study.report import methods_section
from viscera.study.report.methods_section import citations, methods
from viscera.study.report.page_section import Report
from viscera.study.results import SplitSizes

CITATION = yaml.safe_load((Path(__file__).parents[3] / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_paragraph_says_what_was_used(make_study: StudyMaker) -> None:
    rows = tuple(ScoreRow(case, "liver", "original", "dice", 0.5) for case in "ab")
    used = {"train.patch": 32, "train.batch_size": 2, "train.batch_norm": "running"}
    config = resolve_config("demo", options=used)
    study = make_study([rows] * 6, dataset="a phantom")
    study = dataclasses.replace(
        study, record=study.record.model_copy(update={"config": config}), split=SplitSizes(10, 0, 2)
    )
    said = methods(Report(study))
    assert "Data: a phantom. They were split into 10 training cases and 2 test cases." in said
    assert "We trained 6 networks (3D U-Net, " in said
    assert "class weights uniform, simple and square" in said
    assert "at learning rates 0.001 and 0.01, with 1 random seed each." in said
    assert "Each of 300 steps used 2 patches of 32³ voxels" in said
    assert "batch_norm running (default recomputed)" in said
    assert "paired two-sided tests over 2 cases" in said
    assert said.endswith("(phantom)")


def test_what_was_not_done_is_not_described(make_study: StudyMaker) -> None:
    said = methods(Report(make_study([None] * 6)))
    assert "Nothing was scored yet." in said
    assert "Holm" not in said
    assert "split" not in said
    assert "phantom" not in said


def test_the_citations_are_those_of_the_repository() -> None:
    paper = CITATION["preferred-citation"]
    assert paper["title"] == methods_section.PAPER_TITLE
    names = tuple(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (names, paper["year"]) == (methods_section.PAPER_AUTHORS, methods_section.PAPER_YEAR)
    assert CITATION["title"] == methods_section.SOFTWARE_TITLE
    text = citations()
    assert text.count("{") == text.count("}")
    assert f"version = {{{viscera.__version__}}}" in text


def test_models_that_were_not_trained_to_the_end_are_not_counted_as_trained(make_study: StudyMaker) -> None:
    rows = tuple(ScoreRow(case, "liver", "original", "dice", 0.5) for case in "ab")
    failed = RunStatus(state="failed", step=131, iterations=300, message="the loss is nan")
    said = methods(Report(make_study([rows] * 6, statuses={2: failed})))
    assert "We planned 6 networks and trained 5 of them to the end (3D U-Net, " in said
    assert "are in no result: 1 of 1 of square, rate 0.001." in said


def test_variants_are_named_with_what_they_change(study_of_dice: StudyMaker) -> None:
    variants = {"": {}, "larger": {"train.batch_size": 6}}
    said = methods(Report(study_of_dice(lambda *_: 0.5, **{"study.variants": variants})))
    assert "We trained 12 networks" in said
    assert "Each weighting and rate was trained in 2 variants: as above; larger (train.batch_size 6)." in said
