"""Folds that a file gives: nnU-Net's `splits_final.json` in a data set, the same or our own form with `--split`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import refused, run
from viscera.core.config import PrepareConfig
from viscera.core.errors import BadInputError
from viscera.io.store import Store
from viscera.stages.prepare import prepare

HELD_OUT = [["case_0", "case_3"], ["case_1"], ["case_2", "case_4"]]  # by fold: patients 0 and 3 are one person, say
FOLD_OF = {"case_0": 0, "case_3": 0, "case_1": 1, "case_2": 2, "case_4": 2}
AS_THEY_ARE = PrepareConfig(downsample=1)
THREE = PrepareConfig(downsample=1, folds=3)
FOUR_CASES = [[name for name in held if name != "case_4"] for held in HELD_OUT]
RANDOM_80_20 = [  # as of many files: folds that were drawn one by one
    {"train": ["case_0", "case_1", "case_2", "case_4"], "val": ["case_3"]},
    {"train": ["case_0", "case_1", "case_2", "case_4"], "val": ["case_3"]},
]


def as_nnunet(held_out: list[list[str]]) -> list[dict[str, list[str]]]:
    every = [name for held in held_out for name in held]
    return [{"train": [name for name in every if name not in held], "val": held} for held in held_out]


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def folds_of(store: Store) -> dict[str, int | None]:
    return {name: record.fold for name, record in store.manifest.cases.items()}


def without(raw: Path, *cases: str) -> None:
    for case in cases:
        (raw / "imagesTr" / f"{case}_0000.nii.gz").unlink()
        (raw / "labelsTr" / f"{case}.nii.gz").unlink()


def moved_to_tests(raw: Path, case: str) -> None:
    for kind, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (raw / f"{kind}Ts").mkdir()
        (raw / f"{kind}Tr" / f"{case}{ending}").rename(raw / f"{kind}Ts" / f"{case}{ending}")


def test_the_folds_of_a_data_set_are_taken(raw: Path, tmp_path: Path) -> None:
    written(raw / "splits_final.json", as_nnunet(HELD_OUT))
    said = run("prepare", raw, tmp_path / "s", "--downsample", 1, "--folds", 3)
    assert said.exit_code == 0, said.output
    store = Store.open(tmp_path / "s")
    assert folds_of(store) == FOLD_OF
    assert [store.of_fold(fold).names("validation") for fold in range(3)] == HELD_OUT
    assert store.names("validation") == HELD_OUT[0]  # without --fold, as before
    assert store.names("test") == []  # a test case of a patient whose other scan is in a fold would be seen in training
    said_in = " ".join(said.stderr.split())
    assert f"the folds are those of {raw / 'splits_final.json'}; no case of it is drawn for testing" in said_in
    assert run("prepare", raw, tmp_path / "s", "--downsample", 1, "--folds", 3).exit_code == 0
    assert Store.open(tmp_path / "s").manifest == store.manifest


@pytest.mark.parametrize("folds", [AS_THEY_ARE, THREE])
@pytest.mark.parametrize("value", [as_nnunet(HELD_OUT), {"folds": HELD_OUT}])
def test_a_split_file_may_give_folds(raw: Path, tmp_path: Path, folds: PrepareConfig, value: object) -> None:
    written(raw / "splits_final.json", as_nnunet([["case_4"], ["case_0", "case_1", "case_2", "case_3"]]))
    path = written(tmp_path / "mine.json", value)
    store = prepare(raw, tmp_path / "s", folds, split_file=path)
    assert (folds_of(store), store.manifest.prepare.folds) == (FOLD_OF, 3)
    assert (store.names("validation"), store.names("test")) == (HELD_OUT[0], [])


def test_files_may_be_named(raw: Path, tmp_path: Path) -> None:
    value = [
        {part: [f"labelsTr/{name}.nii.gz" for name in names] for part, names in fold.items()}
        for fold in as_nnunet(HELD_OUT)
    ]
    assert folds_of(prepare(raw, tmp_path / "s", THREE, split_file=written(tmp_path / "f.json", value))) == FOLD_OF


def test_one_element_or_no_folds_is_a_split(raw: Path, tmp_path: Path) -> None:
    one = written(tmp_path / "one.json", as_nnunet(HELD_OUT)[:1])
    store = prepare(raw, tmp_path / "one", AS_THEY_ARE, split_file=one)
    assert (store.names("validation"), store.names("test"), set(folds_of(store).values())) == (HELD_OUT[0], [], {None})
    for name, value in (
        ("nnunet", RANDOM_80_20),
        ("ours", {"folds": [["case_3"], HELD_OUT[1], HELD_OUT[2], ["case_0"]]}),
    ):
        path = written(tmp_path / f"{name}.json", value)
        how = ("--downsample", 1, "--split", path, "--folds", 0)
        assert run("prepare", raw, tmp_path / name, *how).exit_code == 0
        assert Store.open(tmp_path / name).names("validation") == ["case_3"]
        assert set(folds_of(Store.open(tmp_path / name)).values()) == {None}


def test_test_cases_are_those_of_the_file_or_of_the_folders(raw: Path, tmp_path: Path) -> None:
    ours = written(tmp_path / "ours.json", {"folds": FOUR_CASES, "test": ["case_4"]})
    store = prepare(raw, tmp_path / "ours", AS_THEY_ARE, split_file=ours)
    assert (store.names("test"), folds_of(store)["case_4"]) == (["case_4"], None)
    moved_to_tests(raw, "case_4")
    nnunet = written(raw / "splits_final.json", as_nnunet(FOUR_CASES))
    for name, split_file in (("own", None), ("given", nnunet)):
        store = prepare(raw, tmp_path / name, THREE, split_file=split_file)
        assert (store.names("test"), folds_of(store)) == (["case_4"], {**FOLD_OF, "case_4": None})
    written(nnunet, as_nnunet(HELD_OUT))
    with pytest.raises(BadInputError, match=r"names case_4, test cases of the data set by their folder\. Correct it"):
        prepare(raw, tmp_path / "no", THREE)


def test_another_number_of_folds_is_refused(raw: Path, tmp_path: Path) -> None:
    path = written(raw / "splits_final.json", as_nnunet(HELD_OUT))
    for how in ((), ("--split", path)):
        said = refused(3, "prepare", raw, tmp_path / "s", "--downsample", 1, "--folds", 5, *how)
        assert f"{path}: it gives 3 folds, and 5 were expected" in said
        assert "Give --folds 3, or a file of 5 folds with --split." in said
    written(path, as_nnunet(HELD_OUT)[:1])
    assert "it gives 1 fold, and 5 were expected" in refused(
        3, "prepare", raw, tmp_path / "s", "--downsample", 1, "--folds", 5
    )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (as_nnunet([["case_0"], ["case_0", "case_1"], HELD_OUT[2]]), "case_0 is in fold 0 and in fold 1"),
        (as_nnunet([["case_0"], [], ["case_1", "case_2", "case_3", "case_4"]]), "fold 1 holds out no case"),
        (as_nnunet(FOUR_CASES), "no fold of it holds out case_4, and each case that is no test case"),
        (  # one that all folds train on, as nnU-Net takes it
            [{**fold, "train": [*fold["train"], "case_4"]} for fold in as_nnunet(FOUR_CASES)],
            "no fold of it holds out case_4",
        ),
        (
            [*as_nnunet(HELD_OUT)[:2], {"train": ["case_0", "case_1"], "val": HELD_OUT[2]}],
            "fold 2 leaves out case_3, which other folds name",
        ),
        (
            [*as_nnunet(HELD_OUT)[:2], {"train": ["case_0", "case_1", "case_2", "case_3"], "val": HELD_OUT[2]}],
            "case_2 in `train` and in `val` of fold 2",
        ),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_folds_that_are_no_cross_validation_are_refused(
    raw: Path, tmp_path: Path, value: object, message: str, *, own: bool
) -> None:
    path = written((raw if own else tmp_path) / "splits_final.json", value)
    with pytest.raises(BadInputError, match=rf"splits_final\.json: .*{message}"):
        prepare(raw, tmp_path / "s", THREE, split_file=None if own else path)
    assert not (tmp_path / "s").exists()


def test_folds_that_were_drawn_one_by_one_are_refused(raw: Path, tmp_path: Path) -> None:
    written(raw / "splits_final.json", RANDOM_80_20)
    with pytest.raises(BadInputError, match="case_3 is in fold 0 and in fold 1"):
        prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, folds=2))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"folds": HELD_OUT, "train": []}, "was expected"),
        ({"folds": [0, 1]}, "was expected"),
        ({"folds": ["case_0", "case_1"]}, "was expected"),
        ({"folds": HELD_OUT, "test": [["case_0"]]}, "was expected"),
        ([{"train": []}], "was expected"),
        ([], "was expected"),
        ({"folds": HELD_OUT, "test": ["case_0"]}, "case_0 is in fold 0 and in test"),
        ({"folds": [[name for held in HELD_OUT for name in held]]}, "it gives 1 fold; 2 to 1000 were expected"),
        ({"folds": []}, "it gives 0 folds; 2 to 1000 were expected"),
        ({"folds": [[f"x{n}"] for n in range(1001)]}, "it gives 1,001 folds; 2 to 1000 were expected"),
        ({"folds": FOUR_CASES}, "no fold of it holds out case_4"),
    ],
)
def test_a_file_of_folds_that_does_not_fit_is_refused(raw: Path, tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(BadInputError, match=rf"mine\.json: .*{message}"):
        prepare(raw, tmp_path / "s", AS_THEY_ARE, split_file=written(tmp_path / "mine.json", value))
    assert not (tmp_path / "s").exists()


def test_an_extended_store_keeps_the_folds_of_its_cases(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = Path(shutil.copytree(raw, tmp_path / "few"))
    without(few, "case_4")
    written(few / "splits_final.json", as_nnunet(FOUR_CASES))
    prepare(few, tmp_path / "s", THREE)
    caplog.clear()
    path = written(raw / "splits_final.json", as_nnunet([["case_0", "case_3"], ["case_2", "case_4"], ["case_1"]]))
    store = prepare(raw, tmp_path / "s", AS_THEY_ARE)  # nnU-Net draws the folds of a larger data set anew
    assert folds_of(store) == {**FOLD_OF, "case_4": 1}
    assert f"keeps the folds of its cases, also of case_1, case_2, which {path} has in others" in caplog.text
    with pytest.raises(BadInputError, match="holds out case_1, case_2 in another fold than the store does"):
        prepare(raw, tmp_path / "s", THREE, split_file=path)
    with pytest.raises(BadInputError, match="it gives 2 folds, and 3 were expected, by --folds or as the store has"):
        prepare(raw, tmp_path / "s", AS_THEY_ARE, split_file=written(path, as_nnunet([["case_0"], ["case_1"]])))
    assert Store.open(tmp_path / "s").manifest == store.manifest


def test_folds_can_be_given_later(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0.2))
    (test,) = store.names("test")
    path = written(tmp_path / "folds.json", as_nnunet(HELD_OUT))
    later = PrepareConfig(downsample=1, test_fraction=0.2, folds=3)
    with pytest.raises(BadInputError, match=f"moves {test}, but models may have been trained"):
        prepare(raw, tmp_path / "s", later, split_file=path)
    shutil.copy(path, raw / "splits_final.json")
    drawn = prepare(raw, tmp_path / "s", later)
    assert folds_of(drawn) == {**FOLD_OF, test: None}
    assert {n: r.split for n, r in drawn.manifest.cases.items()} == {
        n: r.split for n, r in store.manifest.cases.items()
    }
    assert f"{test} is in no fold of the store, though in one of {raw / 'splits_final.json'}" in caplog.text
    whole = {"folds": [[name for name in held if name != test] for held in HELD_OUT], "test": [test]}
    again = prepare(raw, tmp_path / "s", later, split_file=written(path, whole))  # the same, said by a file
    assert again.manifest == drawn.manifest


def test_a_second_data_set_without_a_file_is_drawn_into_the_folds(
    raw: Path, tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., object]
) -> None:
    written(raw / "splits_final.json", as_nnunet(HELD_OUT))
    prepare(raw, tmp_path / "s", PrepareConfig(downsample=1, folds=3, test_fraction=0))
    other = make_nnunet(tmp_path / "other", {"new": make_case(7)})
    store = prepare(other, tmp_path / "s", PrepareConfig(downsample=1, test_fraction=0))
    assert folds_of(store) == {**FOLD_OF, "new": 1}  # which has fewest


def test_one_file_for_several_data_sets_can_leave_out_one_at_a_time(
    raw: Path, tmp_path: Path, make_nnunet: Callable[..., Path], make_case: Callable[..., object]
) -> None:
    other = make_nnunet(tmp_path / "other", {"x": make_case(7), "y": make_case(8)})
    path = written(tmp_path / "folds.json", {"folds": [["x", "y"], [*FOLD_OF]]})
    for data in (raw, other):
        store = prepare(data, tmp_path / "s", AS_THEY_ARE, split_file=path)
    assert [store.of_fold(fold).names("validation") for fold in (0, 1)] == [["x", "y"], [*sorted(FOLD_OF)]]


def test_folds_under_pseudonyms(raw: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    written(raw / "splits_final.json", as_nnunet(HELD_OUT))
    store = prepare(raw, tmp_path / "s", THREE, pseudonyms=keys)
    held = [len(store.of_fold(fold).names("validation")) for fold in range(3)]
    assert (held, set(store.names()) & set(FOLD_OF)) == ([2, 1, 2], set())


@pytest.mark.parametrize("are_given", [False, True])
def test_no_folds_and_another_number_are_refused_alike(raw: Path, tmp_path: Path, *, are_given: bool) -> None:
    if are_given:
        written(raw / "splits_final.json", as_nnunet(HELD_OUT))
    how = ("prepare", raw, tmp_path / "s", "--downsample", 1, "--test-fraction", 0)
    assert "0 test cases, 3 folds" in run(*how, "--folds", 3).stderr
    another = "it gives 3 folds, and 4 were expected" if are_given else "prepared with folds 3 (now 4)"
    assert another in refused(3, *how, "--folds", 4)
    assert "prepared with folds 3 (now 0, the default)" in refused(3, *how, "--folds", 0)
    assert "prepared with folds 3 (now 0, the default)" in refused(3, *how, "--set", "prepare.folds=0")
    assert run(*how).exit_code == 0  # none are said: those that it has
    assert Store.open(tmp_path / "s").manifest.prepare.folds == 3
