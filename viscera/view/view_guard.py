"""Who is let in: this machine alone, with the token, by its own name, from the viewer's own page."""

import hmac
import re
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_READ = {"GET", "HEAD"}
_SCHEMES = ("http", "https")  # the latter where a proxy of the user's own stands before it
_OTHER_SITES = {"cross-site", "same-site"}
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",  # scans are medical records: the browser keeps no copy
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the address holds the token
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Answers 403 and 404 to whoever is not let in, before anything looks at the request; adds headers to the rest.

    Names: a page elsewhere can have its own name lead to 127.0.0.1 (DNS rebinding); then `Host` is that name. Origins:
    a page elsewhere can send requests here, though it may not read the answers. The token is the first part of the
    path, so that it goes with every request of the page and with none of another.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = 403 if scope["type"] != "http" else self._refusal(scope)
        if status:
            await _refuse(status, scope, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                given = [pair for pair in message.get("headers", []) if pair[0].decode() not in HEADERS]
                message = {**message, "headers": [*given, *ours]}
            await send(message)

        inner = f"/{self.token}"
        await self.app({**scope, "root_path": "", "path": scope["path"][len(inner) :] or "/"}, receive, with_headers)

    def _refusal(self, scope: Scope) -> int:
        """The status to refuse with; 0 where there is nothing to refuse."""
        headers = _headers(scope["headers"])
        host = headers.get("host", [""])
        if len(host) != 1 or _name_of(host[0]) not in _LOOPBACK:
            return 403
        origins = headers.get("origin", [])
        own = {f"{scheme}://{host[0].lower()}" for scheme in _SCHEMES}
        if any(origin.lower() not in own for origin in origins):  # compared as texts: nothing of it is understood
            return 403
        if scope["method"] not in _READ and not origins:
            return 403  # browsers name the origin of whatever they send
        fetched_by = headers.get("sec-fetch-site", [])
        first, _, rest = scope["path"][1:].partition("/")
        is_opened = headers.get("sec-fetch-mode") == ["navigate"] and scope["method"] in _READ and not rest
        is_opened = is_opened and headers.get("sec-fetch-dest", ["document"]) == ["document"]  # in no frame
        if _OTHER_SITES & set(fetched_by) and not is_opened:
            return 403
        return 0 if hmac.compare_digest(first.encode(), self.token.encode()) else 404


def _name_of(host: str) -> str:
    """A `Host` without its port, which differs where a port is forwarded."""
    return re.sub(r":\d{1,5}$", "", host.strip().lower())


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


async def _refuse(status: int, scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    text = {403: b"Not allowed.", 404: b"Not found. Open the address that `viscera view` printed."}[status]
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
