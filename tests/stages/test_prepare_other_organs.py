"""Data sets that label other organs than those to learn: what is refused, what is proposed, and what is named."""

from pathlib import Path

import numpy as np
import pytest

from tests.command_line import refused, run
from tests.conftest import tiny_case, write_nnunet
from tests.layout_examples import write_example
from viscera.core.anatomy import CLASS_NAMES
from viscera.core.config import PrepareConfig
from viscera.io.classes import ClassFile, read_class_file
from viscera.stages.prepare import prepare

AS_THEY_ARE = PrepareConfig(downsample=1)


def with_names(folder: Path, *names: str) -> Path:
    """A data set of one tiny case that labels these, numbered from 1 on."""
    hu, labels = tiny_case(0)
    numbers = {name: number for number, name in enumerate(("background", *names))}
    return write_nnunet(folder, {folder.name: (hu, np.where(labels > len(names), 0, labels))}, names=numbers)


@pytest.fixture
def kidneys(tmp_path: Path) -> Path:
    return with_names(tmp_path / "kidneys", "liver", "kidney", "Milz")


def classes_of(tmp_path: Path, text: str) -> ClassFile:
    (tmp_path / "classes.yaml").write_text(text)
    return read_class_file(tmp_path / "classes.yaml")


def test_both_ways_are_proposed(kidneys: Path, tmp_path: Path) -> None:
    said = refused(3, "prepare", kidneys, tmp_path / "s", "--downsample", 1)
    assert "name no artery, portal_vein, spleen, stomach, gallbladder, pancreas." in said
    assert "Add the missing names to `labels`, name the organs to learn with --classes FILE, or take" in said
    none = with_names(tmp_path / "none", "kidney")
    said = refused(3, "prepare", none, tmp_path / "s", "--downsample", 1, "--partial")
    assert said.endswith("Add the missing names to `labels`, or name the organs to learn with --classes FILE.")


def test_both_ways_are_proposed_for_known_data_sets_and_masks(tmp_path: Path) -> None:
    data = write_example(tmp_path / "data", "word")
    said = refused(3, "prepare", data, tmp_path / "s", "--downsample", 1)
    assert "Name the organs to learn with --classes FILE, take it as it is with --partial, or leave it out." in said


def test_labelled_organs_that_become_background_are_named(kidneys: Path, tmp_path: Path) -> None:
    said = " ".join(run("prepare", kidneys, tmp_path / "s", "--downsample", 1, "--partial").stderr.split())
    assert (
        f"{kidneys}: kidney, Milz are labelled, but not among the classes to learn: these voxels become background."
        in said
    )
    assert "To learn other organs, make a store with --classes FILE." in said


def test_masks_without_a_class_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_example(tmp_path / "data", "totalsegmentator")
    for case in data.iterdir():
        if case.is_dir():
            (case / "segmentations" / "kidney_left.nii.gz").write_bytes(
                (case / "segmentations" / "liver.nii.gz").read_bytes()
            )
    prepare(data, tmp_path / "s", AS_THEY_ARE, partial=True)
    assert "kidney_left" in caplog.text


def test_of_classes_that_somebody_chose_nothing_is_said(
    kidneys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = classes_of(tmp_path, "classes: [liver, kidney]\n")
    assert prepare(kidneys, tmp_path / "s", AS_THEY_ARE, classes=chosen).classes.names[1:] == ("liver", "kidney")
    assert "not among the classes" not in caplog.text


def test_a_data_set_of_our_organs_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for names in ((*CLASS_NAMES[1:], "ignore"), ("liver", "cancer")):  # Decathlon: the tumour counts to the organ
        prepare(with_names(tmp_path / names[-1], *names), tmp_path / "s", AS_THEY_ARE, partial=True)
    assert "not among the classes" not in caplog.text
    prepare(with_names(tmp_path / "two", "liver", "spleen", "cancer"), tmp_path / "s", AS_THEY_ARE, partial=True)
    assert "two: cancer is labelled, but not among the classes" in caplog.text  # of which organ nothing says
