"""Tables of parts, joined: what one call would have written; contradictions are named, and nothing is written then."""

import json
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from viscera.core.config import EvaluateConfig
from viscera.core.errors import BadInputError
from viscera.core.shard import Shard
from viscera.io.job_parts import begin_part, end_part
from viscera.stages.evaluate import evaluate
from viscera.stages.merge import merge

DICE = EvaluateConfig(metrics=("dice",))


def scored(predictions: Path, references: Path, out: Path, shard: Shard | None = None) -> None:
    evaluate(predictions, references, out / "scores.csv", DICE, summary=out / "summary.json", shard=shard)


def test_scores_of_parts_become_those_of_one_call(predictions: Path, tiny_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="1 of 4 cases was left out"):
        scored(predictions, tiny_raw, tmp_path / "whole")
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        if number == 2:
            with pytest.raises(BadInputError):  # the damaged one, which is this part's only case
                scored(predictions, tiny_raw, part, Shard(2, 3))
        else:
            scored(predictions, tiny_raw, part, Shard(number, 3))
    written = merge(parts, tmp_path / "joined")
    assert [path.name for path in written] == ["scores.csv", "summary.json", "quarantine.csv"]
    for name in ("scores.csv", "summary.json", "quarantine.csv"):
        assert (tmp_path / "joined" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    merge(parts, tmp_path / "joined")  # again, over its own


def test_parts_of_another_list_and_missing_ones(
    predictions: Path, tiny_raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (predictions / "case_1.nii.gz").unlink(missing_ok=True)
    names = sorted(path.name for path in predictions.glob("*.nii.gz"))
    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    with suppress(BadInputError):  # of the damaged one
        scored(predictions, tiny_raw, parts[0], Shard(1, 2))
    merge(parts[:1], tmp_path / "o")
    assert (
        "evaluate --shard: of 2 parts these are not done, or not given: 2. Their cases are in no table." in caplog.text
    )
    (predictions / names[0]).unlink()
    with suppress(BadInputError):
        scored(predictions, tiny_raw, parts[1], Shard(2, 2))
    gone = names[0].removesuffix(".nii.gz")
    with pytest.raises(BadInputError, match=rf"part2: evaluate --shard began .* than in .*part1 \(gone: {gone}\)"):
        merge(parts, tmp_path / "o")


def test_a_part_without_a_scan_is_a_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = table(tmp_path / "a", "measurements.csv", MEASURED, "c1,liver,5")
    (tmp_path / "b").mkdir()
    for number, part in enumerate((a, tmp_path / "b"), start=1):
        begin_part(part, "predict", Shard(number, 2), ["c1"])
        end_part(part, "predict", Shard(number, 2))
    assert [path.name for path in merge([a, tmp_path / "b"], tmp_path / "o")] == ["measurements.csv"]
    assert caplog.text == ""


def table(folder: Path, name: str, *rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([*rows, ""]))
    return folder


SCORES = "case,organ,grid,metric,value"
MEASURED = "case,organ,voxels"


def test_measurements_are_in_the_order_of_cases(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "measurements.csv", MEASURED, "c1,liver,5", "c1,spleen,6", "c3,liver,7")
    b = table(tmp_path / "b", "measurements.csv", MEASURED, "c2,liver,8")
    merge([a, b], tmp_path / "o")
    rows = (tmp_path / "o" / "measurements.csv").read_text().splitlines()
    assert rows == [MEASURED, "c1,liver,5", "c1,spleen,6", "c2,liver,8", "c3,liver,7"]


def test_a_case_in_two_parts_must_be_the_same_in_both(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "scores.csv", SCORES, "c1,liver,original,dice,0.500000", "c2,liver,original,dice,")
    b = table(tmp_path / "b", "scores.csv", SCORES, "c1,liver,original,dice,0.500000")
    merge([a, b], tmp_path / "o")
    assert len((tmp_path / "o" / "scores.csv").read_text().splitlines()) == 3
    other = table(tmp_path / "other", "scores.csv", SCORES, "c1,liver,original,dice,0.400000")
    with pytest.raises(BadInputError, match=r"other/scores\.csv: says something else of c1 than .*a/scores\.csv"):
        merge([a, other], tmp_path / "o")
    assert len((tmp_path / "o" / "scores.csv").read_text().splitlines()) == 3


def test_a_case_that_another_part_has_done_is_not_left_out(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "quarantine.csv", "case,reason", "c1,no space", "c9,truncated")
    b = table(tmp_path / "b", "scores.csv", SCORES, "c1,liver,original,dice,0.500000")
    merge([a, b], tmp_path / "o")
    assert (tmp_path / "o" / "quarantine.csv").read_text().splitlines() == ["case,reason", "c9,truncated"]
    c = table(tmp_path / "c", "scores.csv", SCORES, "c9,liver,original,dice,0.500000")
    merge([a, b, c], tmp_path / "o")
    assert not (tmp_path / "o" / "quarantine.csv").exists()


def test_what_was_left_out_is_known_by_the_name_of_its_scan_too(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "quarantine.csv", "case,reason", "b_0000.nii.gz,truncated")
    b = table(tmp_path / "b", "measurements.csv", MEASURED, "b,liver,5")
    merge([a, b], tmp_path / "o")
    assert not (tmp_path / "o" / "quarantine.csv").exists()


def test_what_was_measured_and_could_not_be_scored_is_left_out(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "scores.csv", SCORES, "c1,liver,original,dice,0.500000")
    table(a, "measurements.csv", MEASURED, "c1,liver,5", "x,liver,5")
    table(a, "quarantine.csv", "case,reason", "x,no reference")
    merge([a], tmp_path / "o")
    assert (tmp_path / "o" / "quarantine.csv").read_text().splitlines()[1] == "x,no reference"
    (a / "quarantine.csv").unlink()  # mended
    merge([a], tmp_path / "o")
    assert not (tmp_path / "o" / "quarantine.csv").exists()


def test_more_parts_than_cases(predictions: Path, tiny_raw: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"part{number}" for number in range(1, 7)]
    for number, part in enumerate(parts, start=1):
        with pytest.raises(BadInputError) if number == 2 else nullcontext():
            scored(predictions, tiny_raw, part, Shard(number, 6))
    assert [path.name for path in merge(parts, tmp_path / "o")] == ["scores.csv", "summary.json", "quarantine.csv"]


def test_two_parts_in_one_folder_are_refused_before_anything_is_scored(
    predictions: Path, tiny_raw: Path, tmp_path: Path
) -> None:
    scored(predictions, tiny_raw, tmp_path / "o", Shard(1, 4))
    before = (tmp_path / "o" / "scores.csv").read_bytes()
    with pytest.raises(BadInputError, match=r"scores\.csv: it has the scores of another part .*a folder of its own"):
        scored(predictions, tiny_raw, tmp_path / "o", Shard(3, 4))
    assert (tmp_path / "o" / "scores.csv").read_bytes() == before
    scored(predictions, tiny_raw, tmp_path / "o", Shard(1, 4))  # again


@pytest.mark.parametrize(
    "metrics", [{}, "x", {"1": {}}, {"1": {"Dice": 1.0}, "2": {"IoU": 1.0}}], ids=["none", "text", "empty", "unequal"]
)
def test_a_summary_that_is_damaged(metrics: object, tmp_path: Path) -> None:
    entry = {"metrics": metrics, "prediction_file": "a.nii.gz", "reference_file": "a.nii.gz"}
    table(tmp_path / "s", "summary.json", json.dumps({"metric_per_case": [entry]}))
    with pytest.raises(BadInputError, match=r"s/summary\.json: damaged .*evaluate again"):
        merge([tmp_path / "s"], tmp_path / "o")


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "scores.csv", SCORES, "c1,liver,original,dice,0.500000")
    with pytest.raises(BadInputError, match=r"nothing: none of scores\.csv, .* is in this folder"):
        merge([a, tmp_path / "nothing"], tmp_path / "o")
    with pytest.raises(BadInputError, match="one of the parts"):
        merge([a], a)
    table(tmp_path / "mine", "scores.csv", "pupil,mark", "me,1")
    with pytest.raises(BadInputError, match=r"mine/scores\.csv: exists, and is not a table of scores"):
        merge([a], tmp_path / "mine")
    with pytest.raises(BadInputError, match=r"mine/scores\.csv: this is not a table of scores"):
        merge([tmp_path / "mine"], tmp_path / "o")
    table(tmp_path / "s", "summary.json", json.dumps({"metric_per_case": 3}))
    with pytest.raises(BadInputError, match=r"s/summary\.json: damaged .*evaluate again"):
        merge([tmp_path / "s"], tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_other_columns_are_another_version(tmp_path: Path) -> None:
    a = table(tmp_path / "a", "measurements.csv", MEASURED, "c1,liver,5")
    b = table(tmp_path / "b", "measurements.csv", f"{MEASURED},colour", "c2,liver,8,red")
    with pytest.raises(BadInputError, match=r"b/measurements\.csv: its columns are not those of .*a/measurements\.csv"):
        merge([a, b], tmp_path / "o")
    damaged = table(tmp_path / "d", "measurements.csv", "a,b", "1,2")
    with pytest.raises(BadInputError, match=r"d/measurements\.csv: its first column is not the case"):
        merge([damaged], tmp_path / "o")
