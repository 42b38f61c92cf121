"""The commands, each in this process."""

import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.command_line import TINY, refused, run
from tests.ct_series import STORED, ct_series, save
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import Config
from viscera.core.progress import OnProgress, Progress
from viscera.doctor.diagnosis import diagnose
from viscera.doctor.diagnosis_text import diagnosis_text
from viscera.io.checkpoint import load_checkpoint
from viscera.io.store import Store


@pytest.mark.parametrize(
    ("arguments", "spacing_mm"),
    [
        (["--downsample", "2,3,1"], (4, 6, 2.5)),
        (["--downsample", "2 3 1"], (4, 6, 2.5)),
        (["--downsample", "3"], (6, 6, 7.5)),
        (["--spacing-mm", "3,2.5,5"], (3, 2.5, 5)),
        (["--downsample", "2", "--set", "prepare.downsample_axes=in_plane"], (4, 4, 2.5)),
    ],
)
def test_prepare_with_a_grid_for_each_axis(
    tiny_raw: Path, tmp_path: Path, arguments: list[str], spacing_mm: tuple[float, ...]
) -> None:
    assert run("prepare", tiny_raw, tmp_path / "s", *arguments).exit_code == 0
    store = Store.open(tmp_path / "s")
    assert store.geometry("case_0").spacing_mm == pytest.approx(spacing_mm)
    assert run("prepare", tiny_raw, tmp_path / "s", *arguments).exit_code == 0  # the same settings


def test_prepare_train_predict_evaluate(tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("prepare", tiny_raw, "a store", "--downsample", 1, "--test-fraction", 0.2, "--validation-fraction", 0.2)
    assert said.exit_code == 0
    assert said.stdout == ""
    assert "4 training, 1 validation, 1 test case\n" in said.stderr
    result = run("train", "a store", "run", *TINY, "--checkpoint-every", 2)
    assert result.exit_code == 0, result.output
    assert "this run exists" in refused(3, "train", "a store", "run", *TINY)
    assert run("train", "a store", "run", "--resume", "--iterations", 6).exit_code == 0  # the rest as it was
    checkpoint = load_checkpoint(Path("run/last.pt"))
    assert (checkpoint.step, checkpoint.config.train.filters) == (6, 2)
    assert "filters 2 (now 5)" in refused(3, "train", "a store", "run", "--resume", "--filters", 5)

    scans = tiny_raw / "imagesTr"
    assert run("predict", "run", scans, "out").exit_code == 0
    names = sorted(path.name for path in Path("out").glob("*.nii.gz"))
    assert names == [f"case_{n}.nii.gz" for n in range(6)]
    assert run("predict", "run", "-i", scans, "-o", "again").exit_code == 0
    assert run("predict", "run", "-i", scans, "third").exit_code == 0
    for name in names:
        same = Path("out", name).read_bytes()
        assert Path("again", name).read_bytes() == Path("third", name).read_bytes() == same
    assert run("predict", "run", scans / "case_0_0000.nii.gz", "x.nii", "--set", "predict.overlap=0.1").exit_code == 0
    settings = json.loads(Path("x.json").read_text())["settings"]
    assert settings["overlap"] == 0.1

    result = run("evaluate", "out", "a store", "--out", "s.csv", "--grid", "both")
    assert result.exit_code == 0
    assert len(re.findall(r"^liver( +[01]\.\d{4}| +–| +\d+\.\d)+$", result.stdout, re.MULTILINE)) == 2
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "Original grid\nclass " in result.stdout
    assert "Prepared grid\nclass " in result.stdout
    assert len(Path("s.csv").read_text().splitlines()) == 1 + 6 * 2 * (8 + 4 * 7)
    assert len(json.loads(Path("summary.json").read_text())["metric_per_case"]) == 6
    few = run(
        "evaluate", "out", "a store", "--out", "few/s.csv", "--metrics", "dice,volume_ml", "--summary", "few/n.json"
    )
    assert few.exit_code == 0
    assert {line.split(",")[3] for line in Path("few/s.csv").read_text().splitlines()[1:]} == {
        "dice",
        "volume_ml",
        "reference_volume_ml",
    }
    assert re.search(r"liver +[01]\.\d{4} +\d+\.\d +\d+\.\d", few.stdout)
    assert sorted(path.name for path in Path("few").iterdir()) == ["n.json", "n.json.sha256", "s.csv", "s.csv.sha256"]
    Path("s.csv").unlink()
    told = refused(3, "evaluate", "out", "a store", "--out", "s.csv")
    assert "summary.json: exists, and not from an earlier s.csv. Several tables need a folder each" in told
    assert "give --out s/scores.csv" in told
    assert not Path("s.csv").exists()
    means = json.loads(run("evaluate", "out", "a store", "--out", "j/s.csv", "--json").stdout)
    assert means[0].keys() == {"organ", "grid", "metric", "mean", "cases", "absent", "infinite"}
    assert {each["organ"] for each in means} == set(CLASS_NAMES)
    quiet = run("evaluate", "out", tiny_raw, "--out", "t/t.csv", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_dicom_series_are_listed_and_predicted(tmp_path: Path, tiny_run: Path) -> None:
    folder, thin, thick = tmp_path / "scan", ct_series(), ct_series(STORED[:4], SeriesDescription="thick")
    save(folder / "a", thin)
    save(folder / "b", [*thick, *ct_series(STORED[:1])])

    listed = json.loads(run("series", folder, "--json").stdout)
    assert [(each["uid"], each["images"], each["chosen"]) for each in listed] == [
        (thin[0].SeriesInstanceUID, 6, True),
        (thick[0].SeriesInstanceUID, 4, False),
        (listed[2]["uid"], 1, False),
    ]
    assert listed[0]["geometry"]["shape"] == [48, 40, 6]
    assert "fewer than three images" in listed[2]["passed_over"]
    first, *_ = [line for line in run("series", folder).stdout.splitlines() if line.startswith("*")]
    assert thin[0].SeriesInstanceUID in first
    assert "0.7×0.8×2.5" in first

    result = run("predict", tiny_run, folder, tmp_path / "out")
    assert "which has most images; there are also" in result.stderr
    assert nib.load(tmp_path / "out" / "scan.nii.gz").shape == (48, 40, 6)
    uid = thick[0].SeriesInstanceUID
    assert run("predict", tiny_run, folder, tmp_path / "thick.nii.gz", "--series", uid).exit_code == 0
    assert nib.load(tmp_path / "thick.nii.gz").shape == (48, 40, 4)

    save(folder / "c", ct_series(PatientID="patient 2"))
    assert "as many images" in refused(3, "predict", tiny_run, folder, tmp_path / "out")
    assert "as many images" in run("series", folder).stdout
    assert "there is no such file" in refused(3, "series", tmp_path / "missing")


def test_check(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    result = run("check", raw, "--out", tmp_path / "check")
    assert result.exit_code == 0  # findings are no error
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines[2:7]] == [f"case_{n}" for n in range(5)]
    assert "2×2×2.5" in lines[2]
    assert lines[-1] == f"Pictures and tables: {tmp_path / 'check' / 'index.html'}"
    found = json.loads(run("check", raw, "--out", tmp_path / "check", "--json").stdout)
    assert [case["case"] for case in found["cases"]] == [f"case_{n}" for n in range(5)]
    assert found["cases"][0]["facts"]["orientation"] == "RAS"
    assert run("check", raw, "--out", tmp_path / "check", "--quiet").output == ""


def test_cases_that_cannot_be_read_end_a_check_with_3_after_the_others(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    (raw / "labelsTr" / "case_2.nii.gz").write_bytes(b"no NIfTI")
    result = run("check", raw, "--out", tmp_path / "check")
    assert result.exit_code == 3
    assert "case_4" in result.stdout
    assert "Not read: " in " ".join(result.stdout.split())
    assert "1 of 5 cases could not be read" in result.stderr.splitlines()[-1]
    assert (tmp_path / "check" / "index.html").exists()


def test_parts_of_a_check(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    monkeypatch.chdir(tmp_path)
    first = run("check", raw, "--shard", "1/2")
    assert first.exit_code == 0
    assert "Part 1/2; tables and pictures are written when all parts are done." in first.stdout
    assert not Path("check/index.html").exists()
    assert "Pictures and tables: check/index.html" in run("check", raw, "--shard", "2/2", "--jobs", 2).stdout
    assert "part and number of parts were expected" in refused(2, "check", raw, "--shard", "3/2")


def test_parts_of_an_evaluation_are_merged(tiny_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = tiny_raw / "labelsTr"
    for number in (1, 2):
        out = f"part{number}/scores.csv"
        assert run("evaluate", labels, labels, "--shard", f"{number}/2", "--out", out).exit_code == 0
    assert run("evaluate", labels, labels).exit_code == 0
    assert run("merge", "part1", "part2", "--out", "all").stdout.split() == ["all/scores.csv", "all/summary.json"]
    for name in ("scores.csv", "summary.json"):
        assert Path(name).read_bytes() == Path("all", name).read_bytes()
    assert "Usage: root merge [OPTIONS] PART...\n" in run("merge", "-h").output
    assert "none of scores.csv, summary.json" in refused(3, "merge", "nowhere")


def test_doctor(tiny_store: Store) -> None:
    small = ("--set", "train={iterations: 20, patch: 8, filters: 2, levels: 2}")
    found = json.loads(run("doctor", tiny_store.path, "--json", *small).stdout)
    assert found["classes"] == list(CLASS_NAMES)
    assert found["voxel_counts"] == tiny_store.voxel_counts().tolist()
    assert set(found["weights"]) == {"uniform", "simple", "square"}
    assert found["weights"]["uniform"] == [1] * 8
    said = run("doctor", tiny_store.path, *small)
    assert f"{found['voxel_counts'][3]:,}" in said.stdout
    assert said.stdout.startswith("Forecast for 20 iterations, patches of 8 voxels,")
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert "miniature: 20/20" in said.stderr


def test_doctor_of_a_run(tiny_run: Path) -> None:
    found = json.loads(run("doctor", tiny_run, "--json").stdout)
    assert found["step"] == 6
    assert len(found["gradient_share"]) == 8
    alone = run("doctor", tiny_run).stdout
    ignored = run("doctor", tiny_run, "--preset", "demo", "--fold", "0").stderr
    assert f"{tiny_run}: a run has settings of its own; without effect on it: train.fold, preset demo." in ignored
    assert "Step 6 of 6" in alone
    assert f"viscera doctor {tiny_run} --store STORE" in alone


def test_doctor_probes_a_run_with_its_store(tiny_run: Path, tiny_store: Store, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    text = run("doctor", copy, "--store", tiny_store.path).stdout
    assert "Which class (by its number) the voxels of each class are called, in per cent;\n1 validation case" in text
    assert max(map(len, text.splitlines())) <= 80
    found = json.loads(run("doctor", copy, "--json").stdout)  # kept
    assert len(found["probe"]["voxels"]) == 8
    assert found["no_probe"] == ""
    (copy / "probe.json").unlink()
    assert "Which class the voxels" not in run("doctor", copy, "--no-probe").stdout
    assert "this is not a store" in refused(3, "doctor", copy, "--store", tmp_path)


def test_bad_cases_are_3_at_the_end(raw: Path, tmp_path: Path, tiny_run: Path) -> None:
    (raw / "imagesTr" / "case_1_0000.nii.gz").write_text("no scan")
    message = refused(3, "prepare", raw, tmp_path / "s")
    assert "1 of 5 cases was left out" in message
    assert "not a NIfTI file" in message
    assert Store.open(tmp_path / "s").names() == ["case_0", "case_2", "case_3", "case_4"]
    assert "1 of 5 cases was left out" in refused(3, "predict", tiny_run, raw / "imagesTr", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


def test_a_study_of_options(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def pretend(_store: Path, study: Path, config: Config, *, progress: OnProgress, **_: object) -> Path:
        seen.append(config)
        progress(Progress("uniform_lr0.1 seed 3 train", 10, 10, "loss -0.25"))
        logging.getLogger("viscera").warning("no gallbladder")
        return study / "report" / "index.html"

    monkeypatch.setattr("viscera.study.launch.run_study", pretend)
    arguments = ("study", tiny_store.path, tmp_path / "t", "--weightings", "uniform, square", "--seeds", "3,4")
    result = run(*arguments, "--learning-rates", "0.1,1e-3", "--iterations", 7)
    assert result.stdout == f"{tmp_path / 't' / 'report' / 'index.html'}\n"
    assert "Note: no gallbladder" in result.stderr
    assert "uniform_lr0.1 seed 3 train: 10/10  loss -0.25" in result.stderr
    study = seen[0].study
    assert (study.weightings, study.learning_rates, study.seeds) == (("uniform", "square"), (0.1, 0.001), (3, 4))
    assert (seen[0].train.iterations, study.fuse) == (7, False)
    assert run(*arguments, "--fuse").exit_code == 0
    assert seen[1].study.fuse
    assert run(*arguments, "--quiet").output == ""
    assert "this is not a study" in refused(3, "report", tmp_path)


def test_a_fusion_without_validation_cases_is_refused(raw: Path, tmp_path: Path) -> None:
    assert run("prepare", raw, tmp_path / "s", "--downsample", 1, "--test-fraction", 0.2).exit_code == 0
    message = refused(3, "study", tmp_path / "s", tmp_path / "t", "--fuse", *TINY)
    assert "--fuse" in message
    assert "--validation-fraction" in message
    assert not (tmp_path / "t" / "arms").exists()


def test_find_rate_prints_one_row_a_weighting(tiny_store: Store, tmp_path: Path) -> None:
    settings = ["train.patch=8", "train.batch_size=2", "train.filters=2", "rate_range.steps=20", *TINY[-3::2]]
    assigned = [part for each in settings for part in ("--set", each)]
    result = run("find-rate", tiny_store.path, "--out", tmp_path / "r", "--weightings=uniform,0.5", *assigned)
    lines = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("uniform", "power"))]
    assert lines == ["uniform", "power0.5"]
    assert "suggested rate" in result.stdout
    assert sorted(path.name for path in (tmp_path / "r").glob("*.json")) == ["power0.5.json", "uniform.json"]


def test_prepare_takes_a_class_file(tiny_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("classes: [liver, spleen]")
    result = run("prepare", tiny_raw, tmp_path / "s", "--downsample", 1, "--classes", tmp_path / "classes.yaml")
    assert result.exit_code == 0, result.output
    assert Store.open(tmp_path / "s").classes.names == ("background", "liver", "spleen")
    (tmp_path / "classes.yaml").write_text("organs: [liver]")
    message = refused(3, "prepare", tiny_raw, tmp_path / "t", "--classes", tmp_path / "classes.yaml")
    assert "classes.yaml: there is no key 'organs'" in message


def test_doctor_shows_how_many_cases_label_an_organ_where_not_all_do(
    tiny_store: Store, tiny_config: Callable[..., Config]
) -> None:
    found = diagnose(tiny_store.path, tiny_config())
    assert "labelled" not in diagnosis_text(found)
    partial = dataclasses.replace(
        found, cases_labelling=(4, 4, 4, 1, 4, 4, 4, 4), cases_with_class=(4, 4, 4, 1) + (4,) * 4
    )
    liver, *_ = (line for line in diagnosis_text(partial).splitlines() if line.startswith("liver"))
    assert re.search(r" 1/4 +1/1 ", liver)


def test_a_check_warns_of_what_prepare_will_refuse_in_the_same_words(
    tmp_path: Path, make_nnunet: Callable[..., Path], tiny_raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viscera.check.check_stage.MOST_PICTURES", 0)
    names = {"other" if name == "liver" else name: number for number, name in enumerate(CLASS_NAMES)}
    cases = {f"c{n}": (np.zeros((8, 8, 8), np.int16), np.full((8, 8, 8), n % 8, np.uint8)) for n in range(3)}
    data = make_nnunet(tmp_path / "raw", cases, names=names)
    warned = run("check", data, "--out", tmp_path / "check").stderr
    reason = refused(3, "prepare", data, tmp_path / "s").removeprefix("viscera: ")
    assert f"`viscera prepare` will refuse this: {reason}" in warned
    assert "will refuse" not in run("check", tiny_raw, "--out", tmp_path / "fine").stderr


def test_prepare_takes_a_data_set_that_lacks_an_organ(tmp_path: Path, make_nnunet: Callable[..., Path]) -> None:
    names = {"other" if name == "liver" else name: number for number, name in enumerate(CLASS_NAMES)}
    cases = {f"c{n}": (np.zeros((8, 8, 8), np.int16), np.full((8, 8, 8), n % 8, np.uint8)) for n in range(3)}
    data = make_nnunet(tmp_path / "raw", cases, names=names)
    assert "name no liver" in refused(3, "prepare", data, tmp_path / "s")
    assert run("prepare", data, tmp_path / "s", "--partial").exit_code == 0
    assert Store.open(tmp_path / "s").manifest.cases["c0"].unlabelled == ("liver",)
