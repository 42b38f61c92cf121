"""From predictions and references to scores.csv."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.layout_examples import EXAMPLES, ORGANS, write_example
from tests.layout_examples import save_labels as save
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import EvaluateConfig, PrepareConfig
from viscera.core.errors import BadInputError
from viscera.io.scores import ScoreRow, read_scores
from viscera.io.store import Store
from viscera.stages.evaluate import evaluate
from viscera.stages.prepare import prepare

MakeDataSet = Callable[..., Path]
MakeCase = Callable[..., tuple[np.ndarray, np.ndarray]]
DICE = EvaluateConfig(metrics=("dice",))
METRICS = ["dice"] * 8 + ["hd95_mm"] * 7 + ["surface_dice"] * 7 + ["volume_ml"] * 7 + ["reference_volume_ml"] * 7


def test_two_files(tmp_path: Path) -> None:
    prediction, reference = np.zeros((2, 20, 1, 3), dtype=np.uint8)
    prediction[0:10, 0, 0], reference[5:15, 0, 0] = 3, 3  # ten voxels each, five shared: 2 * 5 / 20
    prediction[0, 0, 1], reference[0:2, 0, 1] = 4, 4  # 2 * 1 / 3
    reference[0, 0, 2] = 5  # missed
    evaluate(
        save(tmp_path / "p.nii.gz", prediction), save(tmp_path / "r.nii", reference), tmp_path / "o" / "scores.csv"
    )
    lines = (tmp_path / "o" / "scores.csv").read_text().splitlines()
    assert lines[0] == "case,organ,grid,metric,value"
    assert [line.split(",")[3] for line in lines[1:]] == METRICS
    assert [line.split(",")[1] for line in lines[1:9]] == list(CLASS_NAMES)
    assert "p,liver,original,dice,0.500000" in lines
    assert "p,spleen,original,dice,0.666667" in lines
    assert "p,stomach,original,dice,0.000000" in lines
    assert "p,pancreas,original,dice," in lines
    assert "p,liver,original,hd95_mm,8.000000" in lines  # 10 mm at the very end, which is 3 % of the surface
    assert "p,stomach,original,hd95_mm,inf" in lines
    assert "p,stomach,original,surface_dice,0.000000" in lines
    assert "p,pancreas,original,hd95_mm," in lines
    assert "p,liver,original,volume_ml,0.100000" in lines  # ten voxels of 0.01 mL
    assert "p,spleen,original,reference_volume_ml,0.020000" in lines
    assert "p,pancreas,original,volume_ml,0.000000" in lines
    found = {(row.organ, row.metric): row.value for row in read_scores(tmp_path / "o" / "scores.csv")}
    assert found["stomach", "hd95_mm"] == math.inf


@pytest.mark.parametrize("codes", ["LPS", "AIL", "SRP"])
def test_label_maps_of_other_axis_orders_are_compared_in_the_patient(tmp_path: Path, codes: str) -> None:
    prediction, reference = np.random.default_rng(0).integers(0, 8, (2, 7, 6, 5)).astype(np.uint8)
    expected = evaluate(
        save(tmp_path / "p.nii.gz", prediction), save(tmp_path / "r.nii.gz", reference), tmp_path / "a.csv"
    )
    image = nib.load(tmp_path / "p.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    save(tmp_path / "p.nii.gz", np.asarray(turned.dataobj), turned.affine)
    assert evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz", tmp_path / "b.csv") == expected


def test_which_class_the_voxels_of_each_class_are_called_where_it_is_wanted(tmp_path: Path) -> None:
    prediction, reference = np.zeros((2, 20, 1, 3), dtype=np.uint8)
    prediction[0:10, 0, 0], reference[5:15, 0, 0] = 3, 5  # five voxels of the stomach are called liver, five background
    files = save(tmp_path / "p.nii.gz", prediction), save(tmp_path / "r.nii", reference)
    evaluate(*files, tmp_path / "scores.csv", DICE)
    assert not (tmp_path / "confusion.csv").exists()
    evaluate(*files, tmp_path / "scores.csv", DICE, confusion=tmp_path / "confusion.csv")
    assert (tmp_path / "confusion.csv").read_text().splitlines()[1:] == [
        "p,background,background,45",
        "p,background,liver,5",
        "p,stomach,background,5",
        "p,stomach,liver,5",
    ]


def test_folders_are_paired_by_name(tmp_path: Path, make_case: MakeCase) -> None:
    for name in ("b", "a.1"):
        save(tmp_path / "p" / f"{name}.nii.gz", make_case(1)[1])
        save(tmp_path / "r" / f"{name}.nii.gz", make_case(1)[1])
    save(tmp_path / "r" / "more.nii.gz", make_case(2)[1])
    (tmp_path / "p" / "b.json").write_text("{}")
    told: list[str] = []
    rows = evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", progress=lambda at: told.append(at.detail))
    assert [row.case for row in rows] == ["a.1"] * len(METRICS) + ["b"] * len(METRICS)
    assert all(row.value == 1 for row in rows if row.metric in {"dice", "surface_dice"})
    assert all(row.value == 0 for row in rows if row.metric == "hd95_mm")
    assert told == ["a.1", "b", ""]


def test_references_of_an_nnunet_data_set_are_mapped_by_name(
    tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    hu, labels = make_case(0)
    numbers = np.array([0, 17, 16, 15, 14, 13, 12, 11], dtype=np.uint8)
    names = {name: int(numbers[n]) for n, name in enumerate(CLASS_NAMES)}
    raw = make_nnunet(tmp_path / "raw", {"x": (hu, numbers[labels])}, names=names)
    save(tmp_path / "p" / "x.nii.gz", labels, nib.load(raw / "labelsTr" / "x.nii.gz").affine)
    assert all(row.value == 1 for row in evaluate(tmp_path / "p", raw, tmp_path / "s.csv", DICE))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith("synapse8")])
def test_references_of_any_layout_and_organs_that_they_do_not_label_have_no_score(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    example = EXAMPLES[name]
    data = write_example(tmp_path / "data", name)
    truth = np.zeros((8, 8, 8), dtype=np.uint8)
    for number, organ in enumerate(ORGANS, start=1):
        truth[number] = 0 if organ == "liver" else number
    for case in example.cases:
        save(tmp_path / "p" / f"{case}.nii.gz", truth)
    rows = evaluate(tmp_path / "p", data, tmp_path / "s.csv")
    assert {row.case for row in rows} == set(example.cases)
    for row in rows:
        if row.organ != "background" and row.metric == "dice":
            assert row.value == (None if row.organ in example.unlabelled else float(row.organ != "liver"))
    assert ("not labelled in every case" in caplog.text) == bool(example.unlabelled)


def test_the_label_folder_of_a_data_set_is_read_by_the_data_sets_numbers(tmp_path: Path) -> None:
    data = write_example(tmp_path / "data", "word")
    save(tmp_path / "p" / "word_0014.nii.gz", np.zeros((8, 8, 8)))
    rows = evaluate(tmp_path / "p", data / "labelsTs", tmp_path / "s.csv")
    dice = {row.organ: row.value for row in rows if row.metric == "dice"}
    assert (dice["liver"], dice["artery"]) == (0, None)


NUMBERS = {"background": 0, "liver": 1, "spleen": 2, "pancreas": 3, "gallbladder": 4, "aorta": 5} | {
    "portal_vein": 6,
    "stomach": 7,
}


@pytest.fixture
def other_numbers(tmp_path: Path) -> Path:
    """An nnU-Net folder whose numbers are not ours, and perfect predictions in `p`."""
    ours = np.zeros((8, 8, 8), dtype=np.uint8)
    theirs = ours.copy()
    for number, organ in enumerate(ORGANS, start=1):
        ours[number], theirs[number] = number, NUMBERS["aorta" if organ == "artery" else organ]
    save(tmp_path / "p" / "a.nii.gz", ours)
    save(tmp_path / "DS" / "labelsTr" / "a.nii.gz", theirs)
    save(tmp_path / "DS" / "imagesTr" / "a_0000.nii.gz", ours)
    (tmp_path / "DS" / "dataset.json").write_text(json.dumps({"labels": NUMBERS, "file_ending": ".nii.gz"}))
    return tmp_path / "DS"


@pytest.mark.parametrize("place", ["labelsTr", "labelsTs", "gt_segmentations", "a link", "here", "one file", "."])
def test_references_are_read_by_the_names_that_lie_beside_them(
    other_numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    predictions, references = tmp_path / "p", other_numbers / place
    if place in {"labelsTs", "gt_segmentations"}:
        (other_numbers / "labelsTr").rename(references)
    elif place == "a link":
        references = tmp_path / "refs"
        references.symlink_to(other_numbers / "labelsTr")
    elif place == "here":
        monkeypatch.chdir(other_numbers / "labelsTr")
        references = Path()
    elif place == "one file":
        predictions, references = predictions / "a.nii.gz", other_numbers / "labelsTr" / "a.nii.gz"
    rows = evaluate(predictions, references, tmp_path / "s.csv", DICE)
    assert [row.value for row in rows] == [1.0] * 8


def test_a_layout_explains_a_plain_folder_of_label_maps(tmp_path: Path) -> None:
    truth = np.zeros((8, 8, 8), dtype=np.uint8)
    truth[1], truth[3] = 8, 6  # aorta and liver of BTCV
    save(tmp_path / "r" / "a.nii.gz", truth)
    save(tmp_path / "p" / "a.nii.gz", np.select([truth == 8, truth == 6], [1, 3]))
    rows = evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", DICE, layout="btcv")
    assert {row.organ: row.value for row in rows if row.organ in {"artery", "liver"}} == {"artery": 1, "liver": 1}
    with pytest.raises(BadInputError, match="There is no layout 'nonsense'"):
        evaluate(tmp_path / "p", tmp_path / "r", tmp_path / "s.csv", DICE, layout="nonsense")


@pytest.mark.parametrize("folder", ["nn", "nn/fold_0/validation"])
def test_predictions_of_nnunet_are_read_by_their_names(other_numbers: Path, tmp_path: Path, folder: str) -> None:
    shutil.copytree(other_numbers / "labelsTr", tmp_path / folder)
    for name in ("dataset.json", "plans.json"):
        shutil.copy(other_numbers / "dataset.json", tmp_path / "nn" / name)
    rows = evaluate(tmp_path / folder, other_numbers, tmp_path / "s.csv", DICE)
    assert [row.value for row in rows] == [1.0] * 8


@pytest.mark.parametrize("as_folder", [False, True])
def test_reference_label_maps_of_numbers_that_are_given(tmp_path: Path, as_folder: bool) -> None:
    prediction = np.zeros((8, 8, 8), dtype=np.uint8)
    prediction[0:2], prediction[3:5], prediction[6] = 3, 4, 7
    reference = np.select([prediction == 3, prediction == 4], [6, 1])  # and the pancreas is not labelled
    ours = save(tmp_path / "p" / "a.nii.gz", prediction)
    truth = save(tmp_path / "r" / "a.nii.gz", reference)
    places = (ours.parent, truth.parent) if as_folder else (ours, truth)
    numbers = {"background": 0, "spleen": 1, "left kidney": 3, "liver": 6}
    rows = evaluate(*places, tmp_path / "scores.csv", DICE, numbers=numbers)
    scores = {row.organ: row.value for row in rows}
    assert (scores["liver"], scores["spleen"], scores["pancreas"]) == (1.0, 1.0, None)
    with pytest.raises(BadInputError, match="label numbers 6 are not in the table"):
        evaluate(*places, tmp_path / "scores.csv", DICE, numbers={"spleen": 1})


def test_references_that_cannot_be_told_apart_need_the_layout(tmp_path: Path) -> None:
    data = write_example(tmp_path / "data", "synapse8")
    save(tmp_path / "p" / "img0001.nii.gz", np.zeros((8, 8, 8)))
    with pytest.raises(BadInputError, match="--layout NAME"):
        evaluate(tmp_path / "p", data, tmp_path / "s.csv")
    assert evaluate(tmp_path / "p", data, tmp_path / "s.csv", layout="synapse8")


def test_references_need_no_scans(tmp_path: Path, raw: Path) -> None:
    shutil.rmtree(raw / "imagesTr")
    shutil.copytree(raw / "labelsTr", tmp_path / "p")
    rows = evaluate(tmp_path / "p", raw, tmp_path / "s.csv")
    assert {row.value for row in rows if row.metric == "dice"} == {1}


def test_a_stores_test_cases_must_all_be_predicted(tiny_store: Store, answers: Path, tmp_path: Path) -> None:
    (name,) = tiny_store.names("test")
    rows = evaluate(answers, tiny_store.path, tmp_path / "s.csv", DICE)
    assert {row.case for row in rows} == {name}
    assert {row.organ: row.value for row in rows}["spleen"] == 0
    (answers / f"{name}.nii.gz").rename(answers / f"{tiny_store.names('train')[0]}.nii.gz")
    (tmp_path / "s.csv").unlink()
    with pytest.raises(BadInputError, match=f"test case {name} has no prediction"):
        evaluate(answers, tiny_store.path, tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_of_a_store_one_part_is_scored(
    tiny_store: Store, answers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = tiny_store.names("train")
    for name in seen:
        truth = tiny_store.original_labels(name)
        save(answers / f"{name}.nii.gz", truth.labels, truth.geometry.affine)
    rows = evaluate(answers, tiny_store.path, tmp_path / "s.csv", DICE)
    assert {row.case for row in rows} == {*seen, *tiny_store.names("test")}
    assert f"{len(seen)} of {len(seen) + 1} scored cases are not in the test set, but in the means" in caplog.text
    caplog.clear()
    rows = evaluate(answers, tiny_store.path, tmp_path / "s.csv", DICE, split="test")
    assert {row.case for row in rows} == set(tiny_store.names("test"))
    assert not caplog.text
    rows = evaluate(answers, tiny_store.path, tmp_path / "s.csv", DICE, split="train")
    assert {row.case for row in rows} == set(seen)


def test_a_part_of_the_store_without_predictions_is_one_sentence(
    tiny_store: Store, answers: Path, tmp_path: Path
) -> None:
    assert tiny_store.names("validation")  # and none of them is predicted
    message = r"none of the predictions is of a validation case\. It has .* 1 validation"
    with pytest.raises(BadInputError, match=message):
        evaluate(answers, tiny_store.path, tmp_path / "s.csv", DICE, split="validation", summary=tmp_path / "s.json")
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("method", ["nearest", "majority"])
def test_on_both_grids_the_truth_scores_1(tiny_raw: Path, tmp_path: Path, method: str) -> None:
    config = PrepareConfig.model_validate({"downsample": 3, "label_downsampling": method, "test_fraction": 0.4})
    store = prepare(tiny_raw, tmp_path / "store", config)
    for name in store.names("test"):
        shutil.copytree(tiny_raw / "labelsTr", tmp_path / "p", dirs_exist_ok=True)
        rows = evaluate(tmp_path / "p", store.path, tmp_path / "s.csv", EvaluateConfig(grid="both"))
        assert all(row.value in {1, None} for row in rows if row.metric in {"dice", "surface_dice"})
        assert all(row.value in {0, None} for row in rows if row.metric == "hd95_mm")
        assert [row.grid for row in rows if row.case == name] == ["original"] * 36 + ["prepared"] * 36
        sizes = [[r.value for r in rows if r.metric == metric] for metric in ("volume_ml", "reference_volume_ml")]
        assert sizes[0] == sizes[1]
    rows = evaluate(tmp_path / "p", store.path, tmp_path / "s.csv", EvaluateConfig(grid="prepared"))
    assert {row.grid for row in rows} == {"prepared"}


def test_the_prepared_grid_needs_a_store(answers: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="need a store as the references"):
        evaluate(answers, answers, tmp_path / "s.csv", EvaluateConfig(grid="prepared"))


def lacking_liver(make_nnunet: MakeDataSet, make_case: MakeCase, folder: Path) -> Path:
    names = {"no_liver" if name == "liver" else name: number for number, name in enumerate(CLASS_NAMES)}
    return make_nnunet(folder, {f"c{n}": make_case(n) for n in range(3)}, names=names)


@pytest.mark.parametrize("absent", ["undefined", "one"])
def test_what_a_case_does_not_label_is_undefined(
    tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase, absent: str
) -> None:
    raw = lacking_liver(make_nnunet, make_case, tmp_path / "raw")
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=2, test_fraction=0.9), partial=True)
    config = EvaluateConfig.model_validate({"grid": "both", "absent": absent})
    rows = evaluate(raw / "labelsTr", tmp_path / "s", tmp_path / "scores.csv", config)  # with livers, as a model would
    assert all(row.value is None for row in rows if row.organ == "liver")
    best = {"dice": 1, "surface_dice": 1, "hd95_mm": 0}
    assert all(row.value == best[row.metric] for row in rows if row.organ != "liver" and row.metric in best)
    assert f"{store.names('test')[0]},liver,original,dice,\n" in (tmp_path / "scores.csv").read_text()


def test_a_data_set_that_lacks_an_organ_as_the_reference(
    tmp_path: Path, make_nnunet: MakeDataSet, make_case: MakeCase
) -> None:
    raw = lacking_liver(make_nnunet, make_case, tmp_path / "raw")
    rows = evaluate(raw / "labelsTr", raw, tmp_path / "scores.csv", DICE)
    assert [row.value for row in rows if row.organ == "liver"] == [None] * 3
    assert [row.value for row in rows if row.organ == "background"] == [1] * 3


def test_the_summary_is_nnunets(tiny_store: Store, answers: Path, tmp_path: Path) -> None:
    (name,) = tiny_store.names("test")
    evaluate(
        answers, tiny_store.path, tmp_path / "s.csv", EvaluateConfig(grid="both"), summary=tmp_path / "o" / "s.json"
    )
    summary = json.loads((tmp_path / "o" / "s.json").read_text())
    assert list(summary) == ["foreground_mean", "mean", "metric_per_case"]
    (case,) = summary["metric_per_case"]
    assert case["prediction_file"] == str(answers / f"{name}.nii.gz")
    assert case["reference_file"] == str(tiny_store.original_labels_path(name))
    assert Path(case["reference_file"]).exists()
    truth = tiny_store.original_labels(name).labels
    assert list(case["metrics"]) == list(summary["mean"]) == [str(label) for label in range(1, 8)]
    spleen = case["metrics"]["4"]  # taken out
    assert (spleen["TP"], spleen["FN"], spleen["Dice"]) == (0, int((truth == 4).sum()), 0)
    assert (spleen["TN"], spleen["n_pred"]) == (int((truth != 4).sum()), 0)
    assert case["metrics"]["3"]["n_ref"] == case["metrics"]["3"]["TP"] == int((truth == 3).sum())
    assert summary["foreground_mean"]["Dice"] == pytest.approx(6 / 7)


def test_the_summary_of_what_is_on_the_prepared_grid_alone(tiny_raw: Path, tmp_path: Path) -> None:
    store = prepare(tiny_raw, tmp_path / "store", PrepareConfig(downsample=2, test_fraction=0.2))
    shutil.copytree(tiny_raw / "labelsTr", tmp_path / "p")
    evaluate(
        tmp_path / "p", store.path, tmp_path / "s.csv", EvaluateConfig(grid="prepared"), summary=tmp_path / "s.json"
    )
    case = json.loads((tmp_path / "s.json").read_text())["metric_per_case"][0]
    assert case["metrics"]["1"]["TP"] + case["metrics"]["1"]["TN"] == np.prod(store.geometry("case_0").shape)


def test_tolerances_are_of_organs_that_there_are(answers: Path, tmp_path: Path) -> None:
    for wrong in ({"livr": 3.0}, {"background": 1.0}):
        with pytest.raises(BadInputError, match=f"there is no {next(iter(wrong))}. There are: artery, "):
            evaluate(answers, answers, tmp_path / "s.csv", EvaluateConfig(tolerance_mm=wrong))


def test_tolerances_change_the_surface_dice(tmp_path: Path) -> None:
    prediction, reference = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    prediction[1:5, 2:6, 2:6], reference[2:6, 2:6, 2:6] = 3, 3  # the liver lies 2 mm off
    pair = save(tmp_path / "p.nii.gz", prediction), save(tmp_path / "r.nii.gz", reference)

    def liver(**settings: object) -> float | None:
        config = EvaluateConfig.model_validate({"metrics": ["surface_dice"], **settings})
        rows: list[ScoreRow] = evaluate(*pair, tmp_path / "s.csv", config)
        return next(row.value for row in rows if row.organ == "liver")

    exact = liver(tolerance_mm=0)
    assert exact is not None
    assert 0 < exact < 1
    assert liver() == liver(tolerance_mm={"spleen": 0.0}) == liver(tolerance_mm=2) == 1  # FLARE22: 5 mm
    assert liver(tolerance_mm={"liver": 1.9}) == liver(tolerance_mm=1.9) == exact


def test_what_lies_in_folders_beside_is_not_looked_into(tmp_path: Path) -> None:
    """Here one scan twice, packed and not, which no data set may have."""
    labels = np.full((4, 4, 4), 3, dtype=np.uint8)
    (tmp_path / "here").mkdir()
    (tmp_path / "beside").mkdir()
    for name in ("beside/ct.nii", "beside/ct.nii.gz", "beside/answer.nii", "here/p.nii", "here/r.nii"):
        save(tmp_path / name, labels)
    evaluate(tmp_path / "here" / "p.nii", tmp_path / "here" / "r.nii", tmp_path / "o" / "scores.csv")
    assert "p,liver,original,dice,1.000000" in (tmp_path / "o" / "scores.csv").read_text()


def test_packed_label_maps_and_pairs(tmp_path: Path) -> None:
    labels = np.full((4, 4, 4), 3, dtype=np.uint8)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "references").mkdir()
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "predictions" / "a.nii.bz2")
    nib.save(nib.Nifti1Pair(labels, np.eye(4)), tmp_path / "references" / "a.img")
    evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "scores.csv")
    assert "a,liver,original,dice,1.000000" in (tmp_path / "scores.csv").read_text()
