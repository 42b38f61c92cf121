"""An object store on this machine, behind a wire that counts what passes, and can be cut."""

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET = "AKIDOFTHETESTS", "a+secret/of-the+tests"
_NUMBERS = itertools.count(1)
_BLOCK = 4096


class Wire:
    """Passes TCP connections on to a server."""

    def __init__(self, port: int) -> None:
        self._to, self.requests = port, list[str]()
        self.left: dict[str, int | None] = {"up": None, "down": None}  # bytes until it is cut
        self.stays_cut = self._is_cut = False  # whether nobody answers from then on
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, method: str) -> int:
        """How many requests of a kind there were."""
        return sum(line.startswith(method) for line in self.requests)

    def forget(self) -> None:
        """Begin to count anew, and cut nothing."""
        self.requests.clear()
        self.left = {"up": None, "down": None}
        self.stays_cut = self._is_cut = False

    def close(self) -> None:
        """Answer nobody any more."""
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                for source, target, way in ((near, far, "up"), (far, near, "down")):
                    threading.Thread(target=self._pass_on, args=(source, target, way), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError), source, target:
            while (block := source.recv(_BLOCK)) and not self._is_cut:
                if way == "up":
                    self.requests += [line for line in block.decode("latin-1").split("\r\n") if " HTTP/1." in line]
                left = self.left[way]
                if left is not None and len(block) >= left:
                    self.left[way], self._is_cut = None, self.stays_cut
                    target.sendall(block[:left])
                    target.shutdown(socket.SHUT_RDWR)
                    source.shutdown(socket.SHUT_RDWR)
                    return
                if left is not None:
                    self.left[way] = left - len(block)
                target.sendall(block)


class ObjectStore:
    """A bucket of a test, as seen by another library."""

    def __init__(self, wire: Wire, client: Any, bucket: str) -> None:
        self.wire, self._client, self.bucket = wire, client, bucket
        client.create_bucket(Bucket=bucket)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def objects(self) -> dict[str, bytes]:
        """What it holds, by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {each["Key"]: self.read(each["Key"]) for page in pages for each in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def write_in_parts(self, key: str, parts: list[bytes]) -> None:
        """As large files are uploaded: the checksum is then not that of the content."""
        where = {"Bucket": self.bucket, "Key": key}
        upload = self._client.create_multipart_upload(**where)["UploadId"]
        sent = [
            {"PartNumber": number, "ETag": self._client.upload_part(**where, UploadId=upload, **part)["ETag"]}
            for number, part in enumerate(({"PartNumber": n, "Body": p} for n, p in enumerate(parts, 1)), 1)
        ]
        self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent})

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)


@pytest.fixture(scope="session")
def server_and_wire() -> Iterator[tuple[int, Wire]]:
    """The port of one server for all tests of a process, and the wire to it."""
    server_of = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    wire = Wire(port)
    yield port, wire
    wire.close()
    server.stop()


@pytest.fixture
def store_of_objects(
    server_and_wire: tuple[int, Wire], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ObjectStore]:
    """An empty bucket, credentials for it in the environment, an empty cache; what fails is tried again at once."""
    boto3 = pytest.importorskip("boto3")
    port, wire = server_and_wire
    wire.forget()
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{wire.port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("viscera.io.remote.remote_folder._WAITS_S", (0.01, 0.02, 0.05))
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")
    yield ObjectStore(wire, client, f"bucket-{next(_NUMBERS)}")
    client.close()


def another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "elsewhere") -> None:
    """From here on, the cache is another, empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
