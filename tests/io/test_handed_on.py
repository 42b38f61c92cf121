"""What a record keeps of a message: no folder of anybody, and which file it was."""

from pathlib import Path

import pytest

from viscera.io.handed_on import as_handed_on, as_kept_in_run


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("/home/anna/ct/labelsTr/a.nii.gz: truncated.", "ct/labelsTr/a.nii.gz: truncated."),
        ("/home/anna/ct: no cases. Give another folder.", "ct: no cases. Give another folder."),
        ("/home/anna/ct", "ct"),
        ("/home/anna/ct_2/a.nii.gz: truncated.", "a.nii.gz: truncated."),
        ("/home/Anna B/x y.nii.gz: 3 mm (not as /home/anna/ct/a.nii.gz).", "x y.nii.gz: 3 mm (not as ct/a.nii.gz)."),
        ("a.nii.gz: it links to '/mnt/patients/a.nii.gz'.", "a.nii.gz: it links to 'a.nii.gz'."),
        ("s3://bucket/anna/a.nii.gz: truncated.", "a.nii.gz: truncated."),
        ("out of memory (3 GiB). Lower --patch.", "out of memory (3 GiB). Lower --patch."),
        ("a: 3 mm/voxel, 1 / 2, and/or ../x", "a: 3 mm/voxel, 1 / 2, and/or ../x"),
    ],
)  # fmt: skip
def test_files_of_a_place_are_named_within_it_and_others_by_their_names(said: str, kept: str) -> None:
    assert as_handed_on(said, Path("/home/anna/ct")) == kept


def test_however_a_place_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, data = tmp_path / "anna" / "work", tmp_path / "anna" / "data"
    work.mkdir(parents=True)
    data.mkdir()
    monkeypatch.chdir(work)
    for given in (Path("../data"), data, work / ".." / "data"):
        assert as_handed_on(f"{given}/a.csv: empty, see {data}/b.csv", given) == "data/a.csv: empty, see data/b.csv"
    assert as_handed_on(f"a.csv: empty, see {work}/b.csv", Path()) == "a.csv: empty, see work/b.csv"


@pytest.mark.parametrize("store", ["/home/anna/store", "store"])
def test_a_run_keeps_no_name_of_a_case(store: str) -> None:
    said = f"{store}/cases/Anna B: 7/image.npy: another process has deleted it, see /tmp/runs/one/run.json."
    kept = "store/cases/…/image.npy: another process has deleted it, see one/run.json."
    assert as_kept_in_run(said, Path("/tmp/runs/one"), Path(store)) == kept  # noqa: S108 - nothing is written
