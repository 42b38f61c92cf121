from pathlib import Path

import pytest

from viscera.core.addresses import local_path, refuse_secrets, url_of, without_secrets
from viscera.core.errors import BadInputError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket/folder/store", "s3://bucket/folder/store"),
        ("s3://bucket/folder/", "s3://bucket/folder"),
        ("S3://bucket/x", "s3://bucket/x"),
        ("sftp://user@host/x", "sftp://user@host/x"),
        ("memory://x", "memory://x"),
        ("store", None),
        ("./s3:x", None),
        ("/data/s3:/x", None),
        ("c:/data", None),
        ("c://data", None),
        ("file:///data", None),
    ],
)
def test_what_is_a_url(given: str, url: str | None) -> None:
    assert url_of(Path(given)) == url  # a path has lost a slash


def test_what_is_there_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "store").mkdir(parents=True)
    assert url_of(Path("s3://store")) is None


def test_a_path_written_as_a_url_is_a_path() -> None:
    assert local_path(Path("file:///data/x")) == Path("/data/x")
    assert local_path(Path("data/x")) == Path("data/x")


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKID:hush+hush@bucket/x",
        "s3://hush@bucket/x",
        "sftp://user:hush@host/x",
        "https://host/x?X-Amz-Signature=hush",
        "s3://bucket/x?hush",
    ],
)
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        refuse_secrets(url)
    assert "hush" not in str(caught.value)
    assert "environment" in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/x", "sftp://user@host/x", "s3://bucket/a@b:c/x"])
def test_urls_without_secrets_are_not_refused(url: str) -> None:
    refuse_secrets(url)


def test_messages_of_others_lose_what_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush/hush")
    monkeypatch.setenv("FSSPEC_SFTP_PASSWORD", "quiet")
    monkeypatch.setenv("FSSPEC_GS", '{"token": "still", "project": "abdomen"}')
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    said = "still false in the abdomen; failed for hush/hush and quiet"
    assert without_secrets(said) == "… false in the abdomen; failed for … and …"
    said = "at https://me:pw@host/x?X-Amz-Signature=abc&b=1 (403)"
    assert without_secrets(said) == "at https://host/x?… (403)"
