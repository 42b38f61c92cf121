"""Commands on data: phantom, prepare, check, series."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from viscera.cli import arguments as shared
from viscera.cli.arguments import Address, AsJson, Classes, DataSet, Jobs, KeyFile, Launcher, Layout, Part, class_file
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal
from viscera.core.shard import Shard
from viscera.core.wording import counted

app = new_app("")
_REFUSALS = 3  # that a check names
_PREPARING = (
    "prepare.downsample prepare.spacing_mm prepare.test_fraction prepare.validation_fraction prepare.folds prepare.seed"
)


@command(app, "phantom", writes=("out",))
def phantom(
    call: Call,
    out: Annotated[Path, "Folder for the data set, in nnU-Net's raw layout."],
    cases: Annotated[int, typer.Option(min=1, metavar="N", help="Number of scans to write.")],
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Seed of the phantoms: another seed gives other patients.")
    ] = 0,
    shape: shared.Shape = (128, 128, 96),
    spacing_mm: shared.VoxelSize = None,
    jobs: Jobs = 1,
) -> None:
    """Write synthetic CT scans with labels, to try things out.

    They show a procedural abdomen: a phantom, not patients. A scan of a seed is always the same.

    Examples:
        viscera phantom data --cases 20
        viscera phantom data --cases 8 --shape 48 36 36 --seed 1
    """
    from viscera.stages.phantom import make_phantoms as make

    with end_on_signal():  # and with it the processes
        there = make(out, cases, seed=seed, shape=shape, spacing_mm=spacing_mm, jobs=jobs, progress=call.display.update)
    more = f", more than the {cases} asked for; none is removed" if there > cases else ""
    call.display.note(f"{counted(there, 'phantom case')} in {out}{more}")


@command(app, "prepare", _PREPARING, writes=("store",))
def prepare(
    call: Call,
    source: DataSet,
    store: Annotated[Path, "Folder of the store to make or to extend."],
    layout: Layout = "auto",
    classes: Classes = None,
    partial: Annotated[bool, "Accept a data set that does not label all organs."] = False,
    split: Annotated[
        Path | None,
        "JSON file that lists the cases of train, validation and test, or of each fold (also nnU-Net's "
        "splits_final.json); by default they are drawn at random.",
    ] = None,
    pseudonyms: KeyFile = None,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Turn labelled scans into a store, ready for training.

    Scans are brought onto the network's grid and split into training, validation and test cases; voxels of every class
    are counted. Cases that cannot be read are left out, with the reason in quarantine.csv.

    Examples:
        viscera prepare DATA store --validation-fraction 0.1
        viscera prepare DATA store --spacing-mm 3 --folds 5 --jobs 4
    """
    from viscera.io.splits import sizes_text, split_sizes
    from viscera.stages import prepare as stage

    if {"prepare.downsample", "prepare.spacing_mm"} <= call.options.keys():
        raise typer.BadParameter("give --downsample or --spacing-mm, not both")
    data: dict[str, Any] = {"layout": layout, "classes": class_file(classes), "partial": partial}
    data |= {"split_file": split, "jobs": jobs, "shard": Shard.parse(shard) if shard else None}
    data["pseudonyms"] = pseudonyms
    settings, seen = call.config().prepare, call.display.update
    data["without_folds"] = not settings.folds and "prepare.folds" in call.settings_given()
    with end_on_signal(), shared.spread(call, launcher, address) as over:  # and with it the processes
        built = stage.prepare(source, store, settings, **data, spread=over, progress=seen)
    sizes = split_sizes(built)
    if sum(sizes.values()) < len(built.names()):
        call.display.note(
            f"{store}: {counted(len(built.names()), 'case')} so far; the split is drawn when all parts are done"
        )
        return
    folds = f", {built.manifest.prepare.folds} folds" if built.manifest.prepare.folds else ""
    call.display.note(f"{store}: {sizes_text(sizes)}{folds}")
    call.display.note(f"{store}: {stage.grids_text(built)}")
    if ignored := stage.ignored_text(built):
        call.display.note(f"{store}: {ignored}")


@command(app, "check", writes=("out",))
def check(
    call: Call,
    source: DataSet,
    out: Annotated[Path, "Folder for the tables and the page with pictures."] = Path("check"),
    layout: Layout = "auto",
    classes: Classes = None,
    pseudonyms: KeyFile = None,
    as_json: AsJson = False,
    jobs: Jobs = 1,
    shard: Part = None,
    launcher: Launcher = "local",
    address: Address = None,
) -> None:
    """Check a labelled data set before training.

    Scans and labels are measured, what is suspicious is named, and a page shows it with pictures.

    Examples:
        viscera check DATA
        viscera check DATA --out check --jobs 4
    """
    from viscera.check import check_stage as stage
    from viscera.check.check_tables import check_text

    part = Shard.parse(shard) if shard else None
    how: dict[str, Any] = {"layout": layout, "classes": class_file(classes), "jobs": jobs, "shard": part}
    how["pseudonyms"] = pseudonyms
    with end_on_signal(), shared.spread(call, launcher, address) as over:  # and with it the processes
        found = stage.check(source, out, **how, spread=over, progress=call.display.update)
    refused = stage.refused_by_prepare(source, layout, how["classes"], pseudonyms)
    for reason in refused[:_REFUSALS]:
        call.display.note(f"`viscera prepare` will refuse this: {reason}")
    if len(refused) > _REFUSALS:
        call.display.note(f"`viscera prepare` will refuse {len(refused) - _REFUSALS} more cases for similar reasons.")
    if as_json:
        call.result(json.dumps(asdict(found), indent=1))
    elif found.parts_missing:
        call.say(f"{check_text(found)}\nPart {shard}; tables and pictures are written when all parts are done.")
    else:
        call.say(f"{check_text(found)}\nPictures and tables: {out / stage.PAGE}")
    stage.refuse_unread(found, out, part)


@command(app, "series")
def list_series(
    call: Call, path: Annotated[Path, "Folder or zip file of DICOM images."], as_json: AsJson = False
) -> None:
    """List the DICOM series in a folder or zip file.

    A star marks the one that would be read; of the others it says why not.

    Examples:
        viscera series DICOM_FOLDER
        viscera series scans.zip --json
    """
    from viscera.io import scans

    with end_on_signal():
        listing = scans.list_series(path)
    call.result(json.dumps(scans.series_json(listing), indent=1) if as_json else scans.series_table(listing))
