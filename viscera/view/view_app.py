"""What the viewer's page asks for, and what it is answered. No address is ever a file's path: cases are numbered."""

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import viscera
from viscera.core.config import TrainConfig
from viscera.core.errors import BadInputError, VisceraError, case_error
from viscera.core.geometry import AxisOrder
from viscera.core.scan import LabelMap, Volume
from viscera.io.files import sha256
from viscera.io.remote.mirror_index import Seen
from viscera.view.case_images import CaseImages, length_of, nifti_pieces, planes
from viscera.view.corrections import (
    Correction,
    changes,
    most_bytes,
    newest,
    read_upload,
    said,
    save_correction,
    user,
    when,
)
from viscera.view.gallery import Gallery, ShownCase, guarded
from viscera.view.given_beside import corrected_layer
from viscera.view.organ_rows import difference, organ_table
from viscera.view.organ_surfaces import surfaces_bytes
from viscera.view.training_patches import TrainingPatches, heat
from viscera.view.view_guard import Guard

log = logging.getLogger(__name__)
_BYTES, _MOST_DIGITS = "application/octet-stream", 10
_STILL_S, _UPLOAD_S = 30, 900  # that an upload may stand still, and take in all
_CHANGED = (
    "another window or program has changed its labels since they were opened here, and what was drawn has none of "
    "these changes. Earlier corrections stay in the history."
)
_CLOSE = {"connection": "close"}  # what is still to come is not read
_PAGE: Mapping[str, str] = {  # every file of the page, and its type
    "index.html": "text/html; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "training_patches.js": "text/javascript; charset=utf-8",
    "pen.js": "text/javascript; charset=utf-8",
    "organ_list.js": "text/javascript; charset=utf-8",
    "niivue_calls.js": "text/javascript; charset=utf-8",
    "niivue.umd.js": "text/javascript; charset=utf-8",
    "LICENSES-niivue.txt": "text/plain; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def view_app(gallery: Gallery, token: str, train: TrainConfig | None = None) -> Guard:
    """The application (ASGI), whose addresses begin with the token; `train` says which patches a store's are."""
    answers = _Answers(gallery, train or TrainConfig())
    threading.Thread(target=answers.images.prepare, args=(0,), daemon=True).start()  # while the browser opens
    register_url_convertor("number", _Number())
    case = "/api/cases/{case:number}"
    routes = [
        Route("/", _page("index.html")),
        *(Route(f"/{name}", _page(name)) for name in _PAGE),
        Route("/api/gallery", _answer(answers.gallery_json)),
        Route(f"{case}", _answer(answers.case_json)),
        Route(f"{case}/scan", _answer(answers.scan)),
        Route(f"{case}/labels/{{layer:number}}", _answer(answers.labels)),
        Route(f"{case}/labels/{{layer:number}}/organs", _answer(answers.organs)),
        Route(f"{case}/labels/{{layer:number}}/surfaces", _answer(answers.surfaces)),
        Route(f"{case}/labels/{{layer:number}}/difference", _answer(answers.difference)),
        Route(f"{case}/labels/{{layer:number}}/correction", _upload(answers), methods=["POST"]),
        Route("/api/patches", _answer(answers.patches, "step")),
        Route(f"{case}/coverage", _answer(answers.coverage, "steps")),
    ]
    return Guard(Starlette(routes=routes), token)


def _page(name: str) -> Callable[[Request], Response]:
    def page(_: Request) -> Response:
        content = (files("viscera.view") / "page" / name).read_bytes()
        return Response(content, media_type=_PAGE[name])

    return page


def _answer(make: Callable[..., Response], *numbers: str) -> Callable[[Request], Any]:
    """An endpoint, with whole `numbers` of its query; whatever cannot be done becomes a sentence, as in a terminal."""

    async def answer(request: Request) -> Response:
        try:
            given = {name: _whole(name, request.query_params.get(name, "")) for name in numbers}
            return await run_in_threadpool(make, **request.path_params, **given)
        except HTTPException:
            raise
        except (VisceraError, OSError, MemoryError, ValueError) as error:
            explained = case_error("viewer", error)
            if not isinstance(error, VisceraError | OSError | MemoryError):
                log.exception("a defect of viscera:")
            return JSONResponse({"error": str(explained)}, status_code=422)

    return answer


def _upload(answers: "_Answers") -> Callable[[Request], Any]:
    """The endpoint that a mended label map is sent to: no more of it is read than a label map of the case has."""

    async def upload(request: Request) -> Response:
        case, layer = request.path_params["case"], request.path_params["layer"]
        too_much = JSONResponse({"error": "more was sent than a label map of this scan."}, 413, _CLOSE)
        try:
            most = most_bytes(await run_in_threadpool(answers.images.grid, case))
            if not 0 <= _announced(request) <= most:
                return too_much
            content = bytearray()
            async for piece in _in_time(request.stream()):
                content += piece
                if len(content) > most:
                    return too_much
            return await run_in_threadpool(answers.save, case, layer, bytes(content))
        except ClientDisconnect:
            return Response(status_code=400)
        except TimeoutError:
            return JSONResponse({"error": "the label map did not come whole in time."}, 408, _CLOSE)
        except (VisceraError, OSError, MemoryError) as error:
            return JSONResponse({"error": str(case_error("viewer", error))}, status_code=422)

    return upload


def _announced(request: Request) -> int:
    """Bytes that are said to come; 0 where it is not said, -1 for what is no number."""
    said = request.headers.get("content-length", "0")
    return int(said) if said.isascii() and said.isdigit() and len(said) <= _MOST_DIGITS else -1


async def _in_time(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What is uploaded; TimeoutError where it stands still, or takes for ever."""
    async with asyncio.timeout(_UPLOAD_S):
        while True:
            try:
                piece = await asyncio.wait_for(anext(pieces), _STILL_S)
            except StopAsyncIteration:
                return
            yield piece


class _Number(Convertor[int]):
    """In an address: a whole number of few digits."""

    regex = f"[0-9]{{1,{_MOST_DIGITS}}}"

    def convert(self, value: str) -> int:
        """As it is read."""
        return int(value)

    def to_string(self, value: int) -> str:
        """As it is written."""
        return str(value)


class _Json(JSONResponse):
    """JSON without NaN and infinities, which it has not: files of others may say them, and then nothing is known."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - whatever JSON can hold
        """As bytes."""
        return super().render(_finite(content))


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise BadInputError(f"{name}={text[:20]!r}: a whole number was expected.")
    return int(text)


class _Answers:
    """Of one gallery."""

    def __init__(self, gallery: Gallery, train: TrainConfig) -> None:
        self.gallery, self.images, self.train = gallery, CaseImages(gallery), train

    def gallery_json(self) -> Response:
        """What there is to see: kind, classes, and a line a case."""
        gallery = self.images.gallery
        return _Json(
            {
                "version": viscera.__version__,
                "kind": gallery.kind,
                "name": _own_name(gallery.path),
                "classes": [{"label": c.label, "name": c.title, "colour": c.rgb} for c in gallery.classes.classes],
                "cases": [_line(case) for case in gallery.cases],
                "user": user(),
                "corrections": None if gallery.corrections is None else str(gallery.corrections),
                "has_patches": gallery.store is not None and bool(gallery.store.names("train")),
            }
        )

    def case_json(self, case: int) -> Response:
        """Where a case lies, and which label maps it has, corrections of other viewers among them."""
        shown = self._with_newest(case)
        return _Json(
            {
                "name": shown.name,
                "geometry": self.images.grid(case).to_json(),
                "has_scan": shown.scan is not None,
                "can_be_mended": self.gallery.corrections is not None
                and bool(shown.layers)
                and not self.images.is_without_own_scan(case),
                "notes": self.images.notes(case),
                "layers": [
                    {"title": each.title, "role": each.role, "unlabelled": list(each.unlabelled)}
                    for each in shown.layers
                ],
            }
        )

    def scan(self, case: int) -> Response:
        """The scan as NIfTI, whole HU, axes to the right, to the front and up."""
        volume = self.images.scan(case)
        return StreamingResponse(nifti_pieces(volume), media_type=_BYTES, headers=_length(length_of(volume)))

    def labels(self, case: int, layer: int) -> Response:
        """A byte a voxel of the scan, the first axis fastest, and which state of the case that is."""
        headers = {"x-version": self._version(case, layer)}  # before it is read: rather too old than too new
        labels = self.images.labels(case, layer).labels
        return StreamingResponse(planes(labels), media_type=_BYTES, headers=headers | _length(labels.size))

    def organs(self, case: int, layer: int) -> Response:
        """The table of organs."""
        return _Json(organ_table(self.images, case, layer))

    def surfaces(self, case: int, layer: int) -> Response:
        """The organs as triangles, as `surfaces_bytes` packs them."""
        found = surfaces_bytes(self.images.labels(case, layer), self.gallery.classes)
        return Response(found, media_type=_BYTES)

    def difference(self, case: int, layer: int) -> Response:
        """A byte a voxel: how the label map differs from the reference, as `organ_rows.difference` writes it."""
        shown = self.images.case(case)
        truth = next((at for at, each in enumerate(shown.layers) if each.role == "reference"), None)
        if truth is None:
            raise HTTPException(404, "no reference")
        pair = self.images.labels(case, layer), self.images.labels(case, truth)
        found = difference(*pair, shown.layers[truth], self.gallery.classes)
        return StreamingResponse(planes(found), media_type=_BYTES, headers=_length(found.size))

    def save(self, case: int, layer: int, content: bytes) -> Response:
        """Save a mended label map; what was saved of it."""
        folder, shown = self.gallery.corrections, self.images.case(case)
        if folder is None or layer >= len(shown.layers) or shown.layers[layer].role == "reference":
            raise BadInputError(f"{shown.name}: labels of this kind are not mended here.")
        if self.images.is_without_own_scan(case):
            raise BadInputError(f"{shown.name}: the scan is missing or lies on another grid. Give it with --scans.")
        grid = self.images.grid(case)
        told, labels = read_upload(content, grid)
        if told.get("of") and told["of"] != self._version(case, layer):
            return JSONResponse({"error": f"{shown.name}: {_CHANGED}"}, 409)
        before = self.images.labels(case, layer)
        organs = changes(before.labels, labels, self.gallery.classes)
        source = shown.layers[layer].files[0]
        about = Correction(
            *(shown.name, 0, said(told.get("who")) or user(), when(), said(told.get("note"))),
            *(source.name, sha256(source), organs),
        )
        original = shown.layers[0].read().geometry
        mended = LabelMap(labels, grid).in_order_of(original)
        scan = self.images.scan(case)
        volume = Volume(AxisOrder.between(scan.geometry, original).apply(scan.hu), original)
        saved = save_correction(folder, shown, mended, volume, about, self.gallery.classes)
        self._with_newest(case)
        return JSONResponse({"number": saved.number, "organs": organs, "folder": str(folder)})

    def _with_newest(self, case: int) -> ShownCase:
        """A case with its newest correction, whoever saved that."""
        shown = self.images.case(case)
        others = tuple(each for each in shown.layers if each.role != "correction")
        if self.gallery.corrections is not None and others and len(others) == len(shown.layers):
            corrected = corrected_layer(self.gallery.corrections, shown.name, self.gallery.classes)
            if corrected:
                come = (guarded(layer, self.gallery.roots) for layer in corrected)
                shown = replace(shown, layers=(others[0], *come, *others[1:]))
                self.images.exchange(case, shown)
        return shown

    def _version(self, case: int, layer: int) -> str:
        """Another one where the label map, or the newest correction of the case, was written anew."""
        path = newest(self.gallery.corrections, self.images.case(case).name)
        return f"{self.images.version(case, layer)}/{Seen.of(path) if path else None}"

    def patches(self, step: int) -> Response:
        """The patches of one step of a training."""
        return JSONResponse(self._patches.of_step(step))

    def coverage(self, case: int, steps: int) -> Response:
        """A byte a voxel: how often the patches of so many steps hold it, 255 for the number in `x-most`."""
        found, most = heat(self._patches.coverage(self.images.case(case).name, steps))
        return StreamingResponse(planes(found), media_type=_BYTES, headers={**_length(found.size), "x-most": str(most)})

    @cached_property
    def _patches(self) -> TrainingPatches:
        if self.gallery.store is None:
            raise BadInputError(f"{self.gallery.path}: patches are cut from a store; this is none.")
        return TrainingPatches(self.gallery.store.of_fold(self.train.fold), self.train)


def _own_name(path: Path) -> str:
    return path.name or path.resolve().name or str(path)


def _length(number: int) -> dict[str, str]:
    return {"content-length": str(number)}


def _line(case: ShownCase) -> dict[str, Any]:
    return {
        "name": case.name,
        "split": case.split,
        "flags": {organ.replace("_", " "): list(reasons) for organ, reasons in case.flagged.items()},
        "confidence": None if case.least_confidence == 1 else round(case.least_confidence, 3),
        "has_reference": case.reference is not None,
    }
