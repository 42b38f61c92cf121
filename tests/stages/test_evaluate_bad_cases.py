"""What cannot be scored, or should not be: one case or all, and whose truth it is."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.layout_examples import save_labels as save
from viscera.core.anatomy import ABDOMEN, CLASS_NAMES
from viscera.core.config import EvaluateConfig, PrepareConfig
from viscera.core.errors import BadInputError, DefectError
from viscera.io.scores import read_scores
from viscera.io.store import Store
from viscera.stages import evaluate as stage
from viscera.stages.evaluate import evaluate
from viscera.stages.prepare import prepare

MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
DICE = EvaluateConfig(metrics=("dice",))
METRICS = ["dice"] * 8 + ["hd95_mm"] * 7 + ["surface_dice"] * 7 + ["volume_ml"] * 7 + ["reference_volume_ml"] * 7


def test_files_of_something_else_are_not_replaced(tiny_store: Store, answers: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("day,what\n")
    (tmp_path / "plans.json").write_text("{}")
    scores = tmp_path / "s.csv"
    for out, summary, message in (
        (tmp_path / "notes.csv", None, "not a table of scores"),
        (scores, tmp_path / "plans.json", "not a summary in nnU-Net's"),
        (scores, scores, "both the scores and nnU-Net's summary"),
        (tmp_path, None, "this is a folder"),
        (scores, tmp_path, "this is a folder"),
    ):
        with pytest.raises(BadInputError, match=message):
            evaluate(answers, tiny_store.path, out, DICE, summary=summary)
    assert (tmp_path / "notes.csv").read_text() == "day,what\n"
    assert (tmp_path / "plans.json").read_text() == "{}"
    for _ in range(2):
        evaluate(answers, tiny_store.path, scores, DICE, summary=tmp_path / "summary.json")


def test_a_damaged_reference_of_the_store_is_named(tiny_store: Store, answers: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_store.path, tmp_path / "store")
    (name,) = tiny_store.names("test")
    path = tmp_path / "store" / "cases" / name / "labels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(BadInputError, match=rf"{name}/labels\.npy: changed"):
        evaluate(answers, tmp_path / "store", tmp_path / "s.csv", EvaluateConfig(grid="prepared"))


def test_what_cannot_be_compared(tmp_path: Path, make_case: MakeCase) -> None:
    labels = make_case(0)[1]
    p, r = save(tmp_path / "p" / "x.nii.gz", labels), save(tmp_path / "r" / "x.nii.gz", labels)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    names = {name: n for n, name in enumerate(CLASS_NAMES)}
    (tmp_path / "bare" / "dataset.json").write_text(json.dumps({"labels": names}))
    for predictions, references, message in (
        (tmp_path / "empty", r.parent, "no .nii or .nii.gz file"),
        (p.parent, tmp_path / "empty", "empty: the folder is empty"),
        (p.parent, tmp_path / "missing", "missing: there is no such file or folder"),
        (tmp_path / "missing", r, "missing: there is no such file or folder"),
        (p, r.parent, "give two label maps, or two folders"),
        (p.parent, tmp_path / "bare", "bare: no known layout"),
    ):
        with pytest.raises(BadInputError, match=message):
            evaluate(predictions, references, tmp_path / "s.csv")
    save(tmp_path / "p" / "x.nii", labels)
    with pytest.raises(BadInputError, match=r"x\.nii\.gz: x\.nii is of the same case"):
        evaluate(p.parent, r.parent, tmp_path / "s.csv")
    (tmp_path / "p" / "x.nii").unlink()
    for spoiled, message in (
        (save(tmp_path / "q" / "x.nii.gz", labels[1:]), "do not lie on one grid"),
        (save(tmp_path / "u" / "x.nii.gz", labels + 3), "label numbers 8, 9, 10 are not in the table"),
    ):
        with pytest.raises(BadInputError, match=rf"x\.nii\.gz: .*{message}"):
            evaluate(spoiled.parent, r.parent, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_predictions_of_other_classes_are_refused(tmp_path: Path) -> None:
    labels = np.ones((3, 3, 3))
    prediction, reference = save(tmp_path / "p" / "x.nii.gz", labels), save(tmp_path / "r" / "x.nii.gz", labels)
    beside = {"run_sha256": "0", "classes": ["background", "kidney"]}
    (tmp_path / "p" / "x.json").write_text(json.dumps(beside))
    rows = evaluate(prediction, reference, tmp_path / "scores.csv", DICE)
    assert [(row.organ, row.value) for row in rows] == [("background", None), ("kidney", 1)]
    with pytest.raises(BadInputError, match="its labels stand for background, kidney"):
        evaluate(prediction, reference, tmp_path / "scores.csv", classes=ABDOMEN)


# ------------------------------------------------------------------------------------------ one barrier per case


def test_one_bad_case_is_left_out_with_its_reason_and_the_others_are_scored(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[1] = 3
    for name in ("a", "b", "c", "d"):
        save(tmp_path / "p" / f"{name}.nii.gz", labels)
        save(tmp_path / "r" / f"{name}.nii.gz", labels)
    save(tmp_path / "r" / "b.nii.gz", labels[1:])
    (tmp_path / "p" / "c.nii.gz").write_text("no label map")
    (tmp_path / "p" / "d.json").write_text(json.dumps({"run_sha256": "0", "classes": "liver"}))
    with pytest.raises(BadInputError, match=r"3 of 4 cases were left out .*quarantine\.csv"):
        evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "o" / "s.csv", DICE, summary=tmp_path / "o" / "s.json")
    assert {row.case for row in read_scores(tmp_path / "o" / "s.csv")} == {"a"}
    assert len(json.loads((tmp_path / "o" / "s.json").read_text())["metric_per_case"]) == 1
    reasons = (tmp_path / "o" / "quarantine.csv").read_text()
    for reason in (
        "p/b.nii.gz: prediction and reference do not lie on one grid: 4×4×4 and 3×4×4 voxels.",
        "p/c.nii.gz: ",
        "p/d.json: damaged (`classes` is not a list",
    ):
        assert reason in reasons
    for name in ("b", "c"):
        save(tmp_path / "p" / f"{name}.nii.gz", labels)
        save(tmp_path / "r" / f"{name}.nii.gz", labels)
    (tmp_path / "p" / "d.json").unlink()
    evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "o" / "s.csv", DICE)
    assert not (tmp_path / "o" / "quarantine.csv").exists()


@pytest.mark.parametrize("all_or_none", [False, True])
def test_scores_of_an_earlier_evaluation_do_not_stay_where_there_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, all_or_none: bool
) -> None:
    """Two cases of which both, or of models that are compared one, cannot be scored any more."""
    for name in ("a", "b"):
        for folder in ("p", "r"):
            save(tmp_path / folder / f"{name}.nii.gz", np.ones((3, 3, 3)))
    out, files = tmp_path / "o", ("scores.csv", "summary.json")

    def again() -> None:
        evaluate(
            *(tmp_path / "p", tmp_path / "r", out / files[0], DICE), summary=out / files[1], all_or_none=all_or_none
        )

    again()
    assert not caplog.text
    for name in ("a", "b")[: 1 if all_or_none else 2]:
        (tmp_path / "p" / f"{name}.nii.gz").write_text("no label map")
    for _ in range(2):
        with pytest.raises(BadInputError, match=r"of 2 cases w(as|ere) left out"):
            again()
        assert {path.name for path in out.iterdir()} == {"quarantine.csv", "quarantine.csv.sha256"}
    (said,) = caplog.messages
    assert said.startswith(f"{out / files[0]}: was of an earlier evaluation, and is removed")


def test_a_defect_leaves_out_one_case_and_ends_as_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        for folder in ("p", "r"):
            save(tmp_path / folder / f"{name}.nii.gz", np.ones((3, 3, 3)))
    original = stage._pairs

    def broken(job: stage._Task, *rest: Any) -> Any:
        if job.case == "b":
            raise ZeroDivisionError("nobody thought of it")
        return original(job, *rest)

    monkeypatch.setattr(stage, "_pairs", broken)
    with pytest.raises(DefectError, match=r"1 of 3 cases .*a defect of viscera \(ZeroDivisionError: nobody"):
        evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", DICE)
    assert {row.case for row in read_scores(tmp_path / "s.csv")} == {"a", "c"}
    assert "Traceback" in caplog.text
    (tmp_path / "s.csv").unlink()
    with pytest.raises(DefectError):
        evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", DICE, all_or_none=True)
    assert not (tmp_path / "s.csv").exists()


# ------------------------------------------------------------------------------------------ whose truth


def predicted_from(prediction: Path, scan: Path, **more: object) -> None:
    """What `viscera predict` writes beside a label map."""
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    record = {"run_sha256": "0", "input": scan.name, "input_sha256": digest, "series": None, **more}
    prediction.with_name(f"{prediction.name.removesuffix('.nii.gz')}.json").write_text(json.dumps(record))


@pytest.mark.parametrize("kind", ["data set", "labelsTr", "store", "one file"])
def test_the_truth_of_another_scan_of_the_same_name_is_refused(
    tmp_path: Path, raw: Path, kind: str, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    other = make_nnunet(tmp_path / "other", {f"case_{n}": make_case(n + 7) for n in range(5)})
    predictions = tmp_path / "p"
    shutil.copytree(raw / "labelsTr", predictions)
    for number in range(5):
        folder = other if number == 2 else raw
        predicted_from(predictions / f"case_{number}.nii.gz", folder / "imagesTr" / f"case_{number}_0000.nii.gz")
    references = {"data set": raw, "labelsTr": raw / "labelsTr", "one file": raw / "labelsTr" / "case_2.nii.gz"}
    if kind == "store":
        references["store"] = prepare(raw, tmp_path / "store", PrepareConfig(downsample=1, test_fraction=0.9)).path
    given = predictions / "case_2.nii.gz" if kind == "one file" else predictions
    both = r"case_2\.nii\.gz: made from case_2_0000\.nii\.gz \(SHA-256 \w{12}…\), and .*is the truth of another scan"
    with pytest.raises(BadInputError, match=both):
        evaluate(given, references[kind], tmp_path / "s.csv", DICE)
    if kind != "one file":
        assert {row.case for row in read_scores(tmp_path / "s.csv")} == {f"case_{n}" for n in (0, 1, 3, 4)}
    for more in ({"series": "1.2.3"}, {"dicom": True}, {"input": "case_2/image.npy"}, {"input_sha256": None}):
        scan = other / "imagesTr" / "case_2_0000.nii.gz"
        predicted_from(predictions / "case_2.nii.gz", scan, **more)  # of which nothing is known
        assert evaluate(given, references[kind], tmp_path / "s.csv", DICE)


def test_a_data_set_may_hold_training_cases_and_says_so(
    tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(raw / "labelsTr", tmp_path / "p")
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (raw / f"{kind}Ts").mkdir()
        (raw / f"{kind}Tr" / f"case_4{ending}").rename(raw / f"{kind}Ts" / f"case_4{ending}")
    evaluate(tmp_path / "p", raw, tmp_path / "s.csv", DICE)
    assert "4 of 5 scored cases may be training cases, whose scores are too good" in caplog.text
    caplog.clear()
    for number in range(4):
        (tmp_path / "p" / f"case_{number}.nii.gz").unlink()
    evaluate(tmp_path / "p", raw, tmp_path / "s.csv", DICE)
    assert not caplog.text
    with pytest.raises(BadInputError, match="--split test needs a store as the references"):
        evaluate(tmp_path / "p", raw, tmp_path / "s.csv", DICE, split="test")


@pytest.mark.parametrize("what", ["summary", "folder", "quarantine"])
def test_what_cannot_be_written_is_said_before_the_first_case(
    tmp_path: Path, answers: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(stage, "_pairs", lambda *_: pytest.fail("a case was read"))
    (tmp_path / "file").write_text("")
    (tmp_path / "plans.json").write_text('{"metrics": 1}')
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "quarantine.csv").write_text("mine")
    out, summary = {
        "summary": (tmp_path / "s.csv", tmp_path / "plans.json"),
        "folder": (tmp_path / "s.csv", tmp_path / "file" / "summary.json"),
        "quarantine": (tmp_path / "q" / "s.csv", None),
    }[what]
    with pytest.raises(BadInputError):
        evaluate(answers, tiny_store.path, out, DICE, summary=summary)


def test_of_many_cases_without_a_reference_the_number_is_said(tmp_path: Path) -> None:
    for number in range(19):
        save(tmp_path / "p" / f"c{number:02}.nii.gz", np.zeros((4, 4, 4)))
    save(tmp_path / "r" / "other.nii.gz", np.zeros((4, 4, 4)))
    with pytest.raises(BadInputError, match=r"no reference for c00, c01, c02, c03, c04 and 14 more\."):
        evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv")
