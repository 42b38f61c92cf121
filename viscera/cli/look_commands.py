"""Commands to look at things: view, verify."""

import json
from pathlib import Path
from typing import Annotated

import typer

from viscera.cli.arguments import AsJson, KnownClasses, Layout, UsedKeyFile, class_file
from viscera.cli.command import Call, command, new_app
from viscera.cli.terminal import end_on_signal
from viscera.core.errors import BadInputError

app = new_app("")
_NEEDED = {"starlette", "uvicorn"}


@command(app, "view", "preset")
def view(
    call: Call,
    path: Annotated[Path, "A scan, a label map, a folder of them, DICOM images, a data set, a store or a study."],
    scans: Annotated[
        Path | None, "Scans of the label maps at PATH: a file, a folder, a data set or a store; by default none."
    ] = None,
    labels: Annotated[Path | None, "Label maps of the scans at PATH: a file or a folder; by default none."] = None,
    references: Annotated[
        Path | None, "True labels: a label map, a folder of them, a data set or a store; by default none."
    ] = None,
    scores: Annotated[Path | None, "Table of scores; by default scores.csv beside the label maps."] = None,
    layout: Layout = "auto",
    classes: KnownClasses = None,
    pseudonyms: UsedKeyFile = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port of the page; by default a free one.")
    ] = 0,
    no_browser: Annotated[bool, "Print the address and do not open the browser."] = False,
) -> None:
    """Look at scans, labels, predictions, stores and studies in the browser.

    The page is served to this machine alone, under an address with a random token, until Ctrl-C.

    Examples:
        viscera view scan.nii.gz --labels out/scan.nii.gz
        viscera view study
    """
    try:
        from viscera.io.pseudonyms import Pseudonyms
        from viscera.view.given_beside import Beside
        from viscera.view.open_gallery import open_gallery
        from viscera.view.view_server import serve
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _NEEDED:
            raise
        raise BadInputError("the viewer needs starlette and uvicorn: pip install 'viscera[view]'.") from error

    keys = Pseudonyms.open(pseudonyms, [path], is_there=True) if pseudonyms else None
    gallery = open_gallery(path, Beside(scans, labels, references, scores, layout, class_file(classes), keys))
    serve(gallery, call.result, port=port, browser=not no_browser, train=call.config().train)


@command(app, "verify")
def verify(
    call: Call,
    path: Annotated[Path, "A store, a run, a study, an export, a folder of predictions, or one file of them."],
    as_json: AsJson = False,
) -> None:
    """Check every file of an artifact against its checksum.

    Each file that is damaged or missing is named, with the command that makes it again; then the exit code is 3.

    Examples:
        viscera verify store
        viscera verify study --json
    """
    from viscera.stages import verify as stage

    with end_on_signal():
        found = stage.verify(path, progress=call.display.update)
    call.result(json.dumps(stage.verified_json(found), indent=1) if as_json else stage.verified_text(path, found))
    stage.refuse_damaged(path, found)
