"""The viewer's server, attacked: who is let in, what can be reached, and what its answers allow a browser."""

import contextlib
import gc
import http.client
import json
import math
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nibabel as nib
import numpy as np
import pytest

from viscera.core.errors import BadInputError
from viscera.view.open_gallery import open_gallery

pytest.importorskip("uvicorn", reason="needs starlette and uvicorn: pip install 'viscera[view]'")

from viscera.view.view_server import ViewServer, _Impatient, serve


def ask(server: ViewServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request; the path goes out as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in named, skip_accept_encoding=True)
    for name, value in named.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def own(server: ViewServer) -> str:
    return f"/{server.token}"


def test_the_page_and_all_that_it_needs_are_there(server: ViewServer) -> None:
    for path in ("/", "/viewer.js", "/viewer.css", "/niivue.umd.js", "/niivue_calls.js", "/LICENSES-niivue.txt"):
        status, headers, body = ask(server, own(server) + path)
        assert (status, bool(body)) == (200, True), path
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_answers_over_a_connection_that_is_kept_do_not_wait_for_each_other(server: ViewServer) -> None:
    """With Nagle's algorithm each waits for the client's acknowledgement, which on Linux comes 40 ms later."""
    connection, took = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20), []
    for _ in range(20):
        began = time.perf_counter()
        connection.request("GET", f"{own(server)}/viewer.css")
        assert connection.getresponse().read()
        took.append(time.perf_counter() - began)
    connection.close()
    assert min(took[10:]) < 0.03


def test_of_a_connection_that_is_closed_nothing_is_kept(server: ViewServer) -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, _Impatient) for each in gc.get_objects())

    before = kept()
    for _ in range(20):
        ask(server, own(server) + "/viewer.css")
    deadline = time.monotonic() + 5  # a connection is looked at again after ten seconds
    while kept() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept() <= before


def test_only_this_machine_can_connect(server: ViewServer) -> None:
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with pytest.raises(OSError):  # noqa: PT011 - refused, or unreachable
            socket.create_connection((str(address), server.port), timeout=2)
    assert server.url.startswith("http://127.0.0.1:")


def test_the_token_is_long_random_and_needed(server: ViewServer, predicted: Path) -> None:
    assert len(server.token) >= 32
    other = ViewServer(open_gallery(predicted))
    assert other.token != server.token
    other.close()
    for path in ("/", "/api/gallery", "/wrong/api/gallery", f"/{server.token[:-1]}/api/gallery", f"/{server.token}x/"):
        status, _, body = ask(server, path)
        assert status == 404
        assert b"phantom" not in body
    assert server.token not in ask(server, "/")[2].decode()


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%252f..%252fetc%252fpasswd",
        "/..\\..\\etc\\passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "//etc/passwd",
        "/viewer.js/../../view_app.py",
        "/view_app.py",
        "/page/index.html",
        "/viewer.js%00.css",
        "/api/cases/-1/scan",
        "/api/cases/99/scan",
        "/api/cases/0/labels/9",
        "/api/cases/0/labels/..%2f..",
        "/api/cases/../gallery",
        "/api/cases/1e0",
        "/api/cases/99999999999999999999999999/scan",
        f"/api/cases/{'9' * 6000}/scan",
        "/api/cases/%D9%A1",
    ],
)
def test_no_file_is_reached_by_its_path(server: ViewServer, path: str) -> None:
    status, _, body = ask(server, own(server) + path)
    assert status in {400, 404, 422}, path
    assert b"root:" not in body
    assert b"import " not in body
    assert b"Traceback" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]"])
def test_a_name_that_was_made_to_lead_here_is_refused(server: ViewServer, host: str) -> None:
    assert ask(server, f"{own(server)}/api/gallery", Host=host)[0] in {400, 403}


@pytest.mark.parametrize("host", ["localhost:8888", "127.0.0.1:9", "LOCALHOST", "[::1]:80"])
def test_a_forwarded_port_of_this_machine_is_let_in(server: ViewServer, host: str) -> None:
    assert ask(server, f"{own(server)}/api/gallery", Host=host)[0] == 200


def test_two_hosts_in_one_request_are_refused(server: ViewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        lines = [f"GET {own(server)}/api/gallery HTTP/1.1", "Host: localhost", "Host: evil.example", "", ""]
        raw.sendall("\r\n".join(lines).encode())
        assert raw.recv(100).split()[1] in {b"400", b"403"}


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"),
        *("http://[", "http://", "", "//", "ftp://127.0.0.1:{port}", "http://x@127.0.0.1:{port}"),
        "http://127.0.0.1:{port}/",
    ],
)
def test_pages_of_others_can_neither_read_nor_write(server: ViewServer, origin: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        origin = origin.format(port=server.port)
        status, headers, _ = ask(server, f"{own(server)}/api/gallery", method, Origin=origin)
        assert status == 403, (method, origin)
        assert not [name for name in headers if name.startswith("access-control")]


def test_what_another_site_embeds_is_refused_and_a_link_to_the_page_is_not(server: ViewServer) -> None:
    embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    assert ask(server, f"{own(server)}/api/cases/0/scan", **embedded)[0] == 403
    opened = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(server, f"{own(server)}/", **opened)[0] == 200
    assert ask(server, f"{own(server)}/", **opened, Sec_Fetch_Dest="document")[0] == 200
    for framed in ("iframe", "object", "embed"):
        assert ask(server, f"{own(server)}/", **opened, Sec_Fetch_Dest=framed)[0] == 403
    assert ask(server, f"{own(server)}/api/gallery", **opened)[0] == 403


def test_writing_needs_the_pages_own_origin(server: ViewServer) -> None:
    assert ask(server, f"{own(server)}/api/gallery", "POST")[0] == 403
    mine = f"http://127.0.0.1:{server.port}"
    assert ask(server, f"{own(server)}/api/gallery", "POST", Origin=mine)[0] == 405


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere" / "secret.nii.gz"
    secret.parent.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), secret)
    given = tmp_path / "given"
    given.mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), given / "own.nii.gz")
    (given / "linked.nii.gz").symlink_to(secret)
    (given / "inside.nii.gz").symlink_to(given / "own.nii.gz")
    with ViewServer(open_gallery(given)).running() as server:
        names = [each["name"] for each in json.loads(ask(server, f"{own(server)}/api/gallery")[2])["cases"]]
        answers = {name: ask(server, f"{own(server)}/api/cases/{at}/scan") for at, name in enumerate(names)}
    assert {name: status for name, (status, _, _) in answers.items()} == {"own": 200, "inside": 200, "linked": 422}
    assert "outside of the folders that were given" in json.loads(answers["linked"][2])["error"]


def test_a_folder_that_is_given_by_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), tmp_path / "real" / "own.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    gallery = open_gallery(tmp_path / "link")
    scan = gallery.cases[0].scan
    assert scan is not None
    assert scan.read().hu.shape == (4, 4, 4)


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b" + os.urandom(50))
    with ViewServer(open_gallery(tmp_path)).running() as server:
        status, _, body = ask(server, f"{own(server)}/api/cases/0/scan")
    assert status == 422
    assert "broken.nii.gz" in json.loads(body)["error"]


def test_a_port_that_is_taken_is_refused(server: ViewServer, predicted: Path) -> None:
    with pytest.raises(BadInputError, match=f"port {server.port} is not available"):
        ViewServer(open_gallery(predicted), server.port)


def test_no_browser_takes_over_a_terminal_without_a_screen(
    predicted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(ViewServer, "run", lambda _: time.sleep(0.2))
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    serve(open_gallery(predicted), said.append)
    assert opened == []
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("has_home", [True, False])
def test_who_sees_how_the_browser_is_started_does_not_learn_the_token(
    predicted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_home: bool
) -> None:
    """It is given a file of this user's alone, which leads to the page, and is gone afterwards."""
    said, seen, files = list[str](), threading.Event(), list[tuple[str, int, str]]()

    def browser(address: str) -> None:
        path = Path(url2pathname(urlsplit(address).path))
        files.append((address, path.stat().st_mode & 0o777, path.read_text()))
        seen.set()

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr(ViewServer, "run", lambda _: seen.wait(10))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("HOME", str(tmp_path if has_home else tmp_path / "missing"))
    serve(open_gallery(predicted), said.append)
    ((address, mode, content),) = files
    url = said[0].splitlines()[0]
    assert url.split("/")[3] not in address
    assert mode == 0o600
    assert f'content="0; url={url}"' in content
    assert has_home == (Path(url2pathname(urlsplit(address).path)).parent == tmp_path)
    assert not Path(url2pathname(urlsplit(address).path)).exists()


def test_slow_and_large_requests_do_not_stop_others(server: ViewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: local")  # and no more
        assert ask(server, f"{own(server)}/api/gallery")[0] == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as large:
        large.sendall(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert large.recv(100).split()[1] in {b"400", b"404", b"414", b"431"}
    assert ask(server, f"{own(server)}/api/gallery")[0] == 200


def test_half_requests_give_their_places_back(predicted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many connections as are served at once, each with half a request: others are served again soon."""
    monkeypatch.setattr("viscera.view.view_server._WHOLE_S", 0.2)
    with ViewServer(open_gallery(predicted)).running() as server, contextlib.ExitStack() as held:
        for _ in range(64):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: local")
        deadline = time.monotonic() + 10
        while ask(server, f"{own(server)}/api/gallery")[0] != 200:
            assert time.monotonic() < deadline


def test_uploads_that_stand_still_or_are_announced_too_large_end(
    predicted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viscera.view.view_app._STILL_S", 0.1)
    with ViewServer(open_gallery(predicted)).running() as server:
        mine = f"http://127.0.0.1:{server.port}"
        start = f"POST {own(server)}/api/cases/0/labels/0/correction HTTP/1.1\r\nHost: localhost\r\n"
        start = start.replace("localhost", f"127.0.0.1:{server.port}") + f"Origin: {mine}\r\n"
        for length, expected in (("1000", b"408"), ("9" * 9, b"413"), ("9" * 15, b"413")):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
                raw.sendall(f"{start}Content-Length: {length}\r\n\r\nabc".encode())
                assert raw.recv(4096).split()[1] == expected, length
                while raw.recv(4096):  # and the connection is closed
                    pass
        assert ask(server, f"{own(server)}/api/gallery")[0] == 200


def test_numbers_that_json_does_not_have_are_nothing(predicted: Path, tmp_path: Path) -> None:
    """Records and tables come from anywhere: the page is there all the same."""
    shutil.copytree(predicted, tmp_path / "p")
    record = next((tmp_path / "p").glob("*.json"))
    value = json.loads(record.read_text())
    value.pop("checksum", None)
    value["measurements"]["liver"]["facts"] |= {"confidence": math.nan, "mean_hu": math.inf}
    record.write_text(json.dumps(value))
    (tmp_path / "p" / "scores.csv").write_text("case,organ,grid,metric,value\nphantom_000,liver,original,dice,nan\n")
    with ViewServer(open_gallery(tmp_path / "p")).running() as server:
        for path in ("gallery", "cases/0", "cases/0/labels/0/organs", "cases/1/labels/0/organs"):
            status, _, body = ask(server, f"{own(server)}/api/{path}")
            assert status == 200, body
            json.loads(body, parse_constant=pytest.fail)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc of Linux")
def test_many_requests_leave_no_threads_and_files_open(server: ViewServer) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    paths = ("/api/gallery", "/api/cases/0", "/api/cases/1/labels/0", "/api/cases/7/scan", "/nothing")
    after = []
    for number in range(300):
        ask(server, own(server) + paths[number % len(paths)])
        if number in {99, 299}:
            after.append(held())
    assert after[1][0] <= after[0][0] + 1
    assert after[1][1] <= after[0][1] + 2


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"OPTIONS * HTTP/1.1", b"Host: 127.0.0.1"),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1", b"Host: 127.0.0.1"),
        (b"TRACE /TOKEN/ HTTP/1.1", b"Host: 127.0.0.1\r\nOrigin: http://127.0.0.1"),
        (b"PRI * HTTP/2.0", b""),
        (b"GET /TOKEN/ HTTP/1.0", b""),  # without a host
        (b"GET http://evil.example/TOKEN/api/gallery HTTP/1.1", b"Host: 127.0.0.1"),
        (b"GET //TOKEN/api/gallery HTTP/1.1", b"Host: 127.0.0.1"),
        (b"GET /\xff\xfe/ HTTP/1.1", b"Host: 127.0.0.1"),
        (b"GET /TOKEN/api/cases/%ED%A0%80 HTTP/1.1", b"Host: 127.0.0.1"),
        (b"GET /TOKEN/ HTTP/1.1", b"Host: 127.0.0.1\r\nContent-Length: -5"),
        (b"POST /TOKEN/api/gallery HTTP/1.1", b"Host: 127.0.0.1\r\nContent-Length: 99999999999"),
    ],
)
def test_odd_requests_get_a_refusal_and_no_traceback(
    server: ViewServer, caplog: pytest.LogCaptureFixture, start: bytes, more: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(start.replace(b"TOKEN", server.token.encode()) + b"\r\n" + more + b"\r\n" * bool(more) + b"\r\n")
        status = raw.recv(4096).split()[1]
    assert 400 <= int(status) < 500
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_websockets_are_refused(server: ViewServer) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    status = ask(server, f"{own(server)}/", **upgrade, Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==")[0]
    assert status != 101
