"""Every layout of the table, on a tiny example each, and on the real data that lie beside the checkout."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.layout_examples import EXAMPLES, ORGANS, SHAPE, VOXELS, numbered, plane, save, write_example
from viscera.core.anatomy import ClassTable
from viscera.core.errors import BadInputError
from viscera.io.layouts.labelled_cases import detect_layout, find_cases, fitting
from viscera.io.layouts.layout_table import LAYOUTS, REFUSALS

TWINS = {"synapse8", "synapse8-spleen-first"}  # the same files and numbers for different organs: never told apart


def layout_of(example: str) -> str:
    return example.split(maxsplit=1)[0]


def test_every_layout_that_has_files_has_an_example() -> None:
    assert {layout_of(name) for name in EXAMPLES} == {name for name, layout in LAYOUTS.items() if layout.places}


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in TWINS])
def test_an_example_is_detected_as_itself(tmp_path: Path, name: str) -> None:
    assert detect_layout(write_example(tmp_path, name)).name == layout_of(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_of_the_data_sets_only_those_of_the_same_files_fit_and_of_the_conventions_only_one(
    tmp_path: Path, name: str
) -> None:
    same_files = {
        "synapse8": "btcv synapse8 synapse8-spleen-first",
        "abdomenatlas1.0": "abdomenatlas1.0 abdomenatlas1.1",
    }
    same_files |= {"synapse8-spleen-first": same_files["synapse8"], "btcv": same_files["synapse8"]}
    same_files |= {"abdomenatlas1.1": same_files["abdomenatlas1.0"]}
    layouts = fitting(write_example(tmp_path, name))
    this = LAYOUTS[layout_of(name)]
    data_sets = [layout.name for layout in layouts if layout.is_data_set]
    conventions = [layout.name for layout in layouts if not layout.is_data_set]
    assert data_sets == (same_files.get(this.name, this.name).split() if this.is_data_set else [])
    assert len(conventions) <= 1 if this.is_data_set else conventions == [this.name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_organs_come_out_whatever_their_numbers(tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]
    cases = find_cases(write_example(tmp_path, name), layout_of(name), partial=True)
    assert [case.name for case in cases] == sorted(example.cases)
    for case in cases:
        assert case.numbers.unlabelled == example.unlabelled
        assert case.image == tmp_path / f"{example.cases[case.name][0]}.nii.gz"
        labels = case.read().label_map.labels
        for number, organ in enumerate(ORGANS, start=1):
            assert (labels[number] == (0 if organ in example.unlabelled else number)).all()
        assert (labels[0] == 0).all()
        assert all(path.is_file() for path in case.files.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_partial_a_data_set_that_lacks_organs_is_refused_with_their_names(tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]
    folder = write_example(tmp_path, name)
    if not example.unlabelled:
        assert all(not case.numbers.unlabelled for case in find_cases(folder, layout_of(name)))
        return
    with pytest.raises(BadInputError, match=rf"{', '.join(example.unlabelled)}\. .*--partial"):
        find_cases(folder, layout_of(name))


@pytest.mark.parametrize("name", sorted(TWINS))
def test_8_organs_in_either_order_are_not_guessed(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=r"fit synapse8 and synapse8-spleen-first, .*--layout NAME"):
        find_cases(write_example(tmp_path, name), partial=True)
    numbers = {"liver": 5} | {f"structure {n}": n for n in range(1, 9) if n != 5}
    (case, *_) = find_cases(tmp_path, partial=True, numbers=numbers)
    assert case.read().label_map.voxel_counts().tolist() == [512 - VOXELS, 0, 0, VOXELS, 0, 0, 0, 0]


def test_an_atlas_of_few_numbers_is_not_guessed(tmp_path: Path) -> None:
    write_example(tmp_path, "abdomenatlas1.0")
    for labels in tmp_path.rglob("combined_labels.nii.gz"):
        save(labels, np.minimum(numbered(EXAMPLES["abdomenatlas1.0"]), 6))
    with pytest.raises(BadInputError, match=r"fit abdomenatlas1\.0 and abdomenatlas1\.1, .*--layout NAME"):
        find_cases(tmp_path, partial=True)


def test_one_of_several_label_maps_tells_the_atlas_and_a_broken_one_tells_nothing(tmp_path: Path) -> None:
    first, second = sorted(write_example(tmp_path, "abdomenatlas1.1").rglob("combined_labels.nii.gz"))
    first.write_bytes(b"broken")
    assert detect_layout(tmp_path).name == "abdomenatlas1.1"
    second.write_bytes(b"broken")
    with pytest.raises(BadInputError, match="do not show the numbers"):
        detect_layout(tmp_path)


def test_masks_are_preferred_to_the_combined_map(tmp_path: Path) -> None:
    write_example(write_example(tmp_path, "abdomenatlas1.1"), "abdomenatlas1.1 masks")
    (case, *_) = find_cases(tmp_path)
    assert len(case.masks) == 7
    assert case.read().label_map.voxel_counts()[1:].tolist() == [VOXELS] * 7


def test_an_empty_folder_of_masks_is_none(tmp_path: Path) -> None:
    write_example(tmp_path, "abdomenatlas1.1")
    (tmp_path / "BDMAP_00000001" / "segmentations").mkdir()
    (case, *_) = find_cases(tmp_path)
    assert case.labels.name == "combined_labels.nii.gz"
    assert case.read().label_map.voxel_counts()[1:].tolist() == [VOXELS] * 7


def test_files_of_one_name_in_two_folders_are_kept_apart(tmp_path: Path) -> None:
    (case, *_) = find_cases(write_example(tmp_path, "amos22"), partial=True)
    assert sorted(case.files) == ["imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz"]


def test_mr_of_amos22_is_left_out(tmp_path: Path) -> None:
    write_example(tmp_path, "amos22")
    for folder in ("imagesTr", "labelsTr"):
        save(tmp_path / folder / "amos_0507.nii.gz", plane(0))
    assert [case.name for case in find_cases(tmp_path, partial=True)] == ["amos_0001", "amos_0008", "amos_0500"]
    for path in tmp_path.rglob("amos_0[0-4]*.nii.gz"):
        path.unlink()
    (tmp_path / "imagesTr" / "amos_0500.nii.gz").unlink()
    (tmp_path / "labelsTr" / "amos_0500.nii.gz").unlink()
    with pytest.raises(BadInputError, match=r"amos22 without a case in it.* numbers up to 500"):
        find_cases(tmp_path, "amos22")


def test_tests_of_word_without_their_labels_are_left_out(tmp_path: Path) -> None:
    write_example(tmp_path, "word")
    (tmp_path / "labelsTs" / "word_0014.nii.gz").unlink()
    assert [case.name for case in find_cases(tmp_path, partial=True)] == ["word_0001", "word_0002", "word_0003"]


def test_amos22_in_nnunets_folders_is_taken_by_its_name_without_mr(tmp_path: Path) -> None:
    written = write_example(tmp_path / "as it comes", "amos22")
    for name in ("amos_0001", "amos_0500", "amos_0507"):
        case = "amos_0001" if name == "amos_0507" else name
        for kind, ending in (("images", "_0000"), ("labels", "")):
            target = tmp_path / "raw" / f"{kind}Tr" / f"{name}{ending}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((written / f"{kind}Tr" / f"{case}.nii.gz").read_bytes())
    cases = find_cases(tmp_path / "raw", "amos22", partial=True)
    assert [case.name for case in cases] == ["amos_0001", "amos_0500"]
    assert cases[0].read().label_map.labels.max() == 7


@pytest.mark.parametrize("beside", ["dataset.json", "labels.json", "classes file"])
def test_files_called_as_a_data_sets_with_a_table_that_says_otherwise_are_not_guessed(
    tmp_path: Path, beside: str
) -> None:
    folder = write_example(tmp_path, "amos22")
    numbers = {"background": 0} | {organ: number for number, organ in enumerate(ORGANS, start=1)}
    (folder / "dataset.json").unlink()
    if beside != "classes file":
        (folder / beside).write_text(json.dumps({"labels": numbers}))
    given = numbers if beside == "classes file" else None
    with pytest.raises(
        BadInputError, match=rf"those of amos22, where artery is 8; by .*{beside}.* it is 1\. Say which"
    ):
        find_cases(folder, partial=True, numbers=given)
    assert find_cases(folder, "amos22", partial=True, numbers=given)[0].numbers.mapping[8] == 1
    if beside != "labels.json":
        assert find_cases(folder, "msd", numbers=given)[0].numbers.mapping[1] == 1


def test_a_data_set_arranged_by_a_convention_is_taken_by_its_name(tmp_path: Path) -> None:
    example = EXAMPLES["amos22"]
    for images, labels, name in (
        ("images", "labels", "p"),
        ("imagesTr", "labelsTr", "q"),
        ("imagesTr", "labelsTr", "r"),
    ):
        folder = tmp_path / name
        save(folder / images / f"{name}{'_0000' if name == 'r' else ''}.nii.gz", np.zeros(SHAPE, dtype=np.int16))
        save(folder / labels / f"{name}.nii.gz", numbered(example))
        (case,) = find_cases(folder, "AMOS-22", partial=True)
        assert (case.name, case.numbers.unlabelled) == (name, ("portal_vein",))
        assert case.read().label_map.voxel_counts()[3] == VOXELS


@pytest.mark.parametrize(("name", "numbers"), [("v1", "7 9 5 1 6 4 10"), ("v2", "52 64 5 1 6 4 7")])
def test_one_map_of_totalsegmentator_is_a_preset(tmp_path: Path, name: str, numbers: str) -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for organ, number in enumerate(numbers.split(), start=1):
        labels[organ] = int(number)
    labels[0] = 104 if name == "v1" else 117
    save(tmp_path / "images" / "x.nii.gz", np.zeros(SHAPE, dtype=np.int16))
    save(tmp_path / "labels" / "x.nii.gz", labels)
    (case,) = find_cases(tmp_path, f"totalsegmentator-{name}-map")
    assert case.read().label_map.voxel_counts()[1:].tolist() == [VOXELS] * 7


def test_other_organs_are_found_under_one_name_in_all_data_sets(tmp_path: Path) -> None:
    kidney = ClassTable.of_names(["background", "kidney_left"])
    for name in ("btcv", "amos22", "word", "flare22", "abdomenatlas1.0", "synapse8"):
        (case, *_) = find_cases(write_example(tmp_path / name, name), name, kidney)
        number = {"btcv": 3, "amos22": 3, "word": 3, "flare22": 13, "abdomenatlas1.0": 3, "synapse8": 3}[name]
        assert case.numbers.mapping[number] == 1
        assert not case.numbers.unlabelled


# ------------------------------------------------------------------------------------------ tumours, known refusals


@pytest.mark.parametrize(("organ", "label"), [("liver", 3), ("pancreas", 7)])
@pytest.mark.parametrize("style", ["msd", "nnunet"])
def test_a_tumour_inside_the_only_organ_counts_to_it(tmp_path: Path, organ: str, label: int, style: str) -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:5], labels[3] = 1, 2
    number, suffix = ("0", "") if style == "msd" else ("x", "_0000")
    save(tmp_path / "imagesTr" / f"{organ}_{number}{suffix}.nii.gz", np.zeros(SHAPE, dtype=np.int16))
    save(tmp_path / "labelsTr" / f"{organ}_{number}.nii.gz", labels)
    table = {"0": "background", "1": organ, "2": "cancer"}
    (tmp_path / "dataset.json").write_text(f'{{"labels": {str(table).replace(chr(39), chr(34))}}}')
    (case,) = find_cases(tmp_path, partial=True)
    assert detect_layout(tmp_path).name == style
    assert case.read().label_map.voxel_counts()[label] == 3 * VOXELS
    assert case.numbers.unlabelled == tuple(each for each in ORGANS if each != organ)


def test_a_tumour_beside_several_organs_is_no_organ(tmp_path: Path) -> None:
    write_example(tmp_path, "pairs")
    table = '{"liver": 3, "spleen": 4, "cancer": 5, "a": 1, "b": 2, "c": 6, "d": 7, "e": 8}'
    (tmp_path / "labels.json").write_text(table)
    (case, *_) = find_cases(tmp_path, partial=True)
    assert case.numbers.mapping[5] == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("imagesTr/hepaticvessel_001.nii.gz", "labelsTr/hepaticvessel_001.nii.gz"), "HepaticVessel: .*hepatic veins"),
        (("train_npz/case0005_slice000.npz",), "TransUNet .*clipped .*img/ and label/"),
        (("averaged-training-images/DET0000101_avg.nii.gz",), "cardiac MR"),
    ],
)
def test_known_data_sets_that_cannot_serve_are_refused_with_the_reason(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    for file in files:
        save(tmp_path / file, plane(0)) if file.endswith(".nii.gz") else (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    with pytest.raises(BadInputError, match=message):
        find_cases(tmp_path, partial=True)
    assert len(REFUSALS) == 3


# ------------------------------------------------------------------------------------------ real data


def test_real_masks_become_one_label_map(real_data: Path) -> None:
    folder = real_data / "totalsegmentator_layout"
    (case,) = find_cases(folder)
    assert detect_layout(folder).name == "totalsegmentator"
    assert case.numbers.unlabelled == ()
    labels = case.read().label_map
    masks = ("aorta", "portal_vein_and_splenic_vein", "liver", "spleen", "stomach", "gallbladder", "pancreas")
    for number, mask in enumerate(masks, start=1):
        path = folder / "s0001" / "segmentations" / f"{mask}.nii.gz"
        assert (np.asarray(nib.load(path).dataobj) > 0).tolist() == (labels.labels == number).tolist()


def test_real_nnunet_data_are_detected(real_data: Path) -> None:
    cases = find_cases(real_data / "nnunet_real")
    assert [case.name for case in cases] == ["lidc0001", "ts_example", "ts_slab"]
    assert all(case.numbers.mapping == {n: n for n in range(8)} for case in cases)


@pytest.mark.parametrize("name", ["lidc_full", "ts_dicom", "dicom_seg_examples"])
def test_real_folders_of_something_else_are_refused(real_data: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="no known layout"):
        find_cases(real_data / name)


def test_a_new_data_set_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(tmp_path, "word")
    mine = replace(LAYOUTS["word"], name="mine", places=LAYOUTS["word"].places[:1])
    others = {name: layout for name, layout in LAYOUTS.items() if name != "word"}
    monkeypatch.setattr("viscera.io.layouts.labelled_cases.LAYOUTS", others | {"mine": mine})
    assert detect_layout(tmp_path) == mine
    assert len(find_cases(tmp_path, partial=True)) == 2
