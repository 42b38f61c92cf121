"""URLs as arguments: what is refused, what is said, and what becomes of results that cannot be sent."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import refused, run
from tests.object_store import ObjectStore, another_machine
from viscera.cli.mirrored_arguments import mirrored
from viscera.cli.terminal import Display
from viscera.core.errors import BadInputError, InterruptedRunError, RunFailedError, VisceraError
from viscera.io.remote.remote_folder import RemoteFolder

pytest.importorskip("s3fs")


class Heard(Display):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said = list[str]()

    def _write(self, text: str) -> None:
        self.said.append(text)


def command(given: Mapping[str, Any], display: Display | None = None, name: str = "train") -> Any:
    return mirrored(name, given, ("run",), display or Heard(), is_first=True)


def test_paths_stay_what_they_are(tmp_path: Path) -> None:
    given = {"store": tmp_path, "run": Path("file:///x/y"), "steps": 3, "text": "s3://bucket/x", "none": None}
    with command(given) as here:
        assert here == {**given, "run": Path("/x/y")}


def test_long_commands_send_what_they_have_so_far(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCERA_UPLOAD_EVERY_S", "0.05")
    with command({"run": Path(f"{store_of_objects.url}/run")}) as here:
        here["run"].mkdir()
        (here["run"] / "last.pt").write_bytes(b"1")
        deadline = time.monotonic() + 20
        while "run/last.pt" not in store_of_objects.objects and time.monotonic() < deadline:
            time.sleep(0.02)
        assert store_of_objects.objects == {"run/last.pt": b"1"}


def worked(url: Path, display: Display, work: Callable[[Path], object]) -> None:
    with command({"run": url}, display) as here:
        work(here["run"])


def failure(url: Path, display: Display, work: Callable[[Path], object]) -> VisceraError:
    with pytest.raises(VisceraError) as caught:
        worked(url, display, work)
    return caught.value


def written(folder: Path, content: bytes = b"1") -> Path:
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(content)
    return folder


def raised(error: Exception) -> None:
    raise error


@contextmanager
def nothing_can_be_sent() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteFolder, "send", lambda *_: raised(BadInputError("no way")))
        yield


@pytest.mark.parametrize("error", [None, BadInputError("no"), KeyboardInterrupt(), SystemExit(143), ValueError()])
def test_results_are_sent_however_the_command_ends(store_of_objects: ObjectStore, error: BaseException | None) -> None:
    def work(run: Path) -> None:
        written(run)
        if error is not None:
            raise error

    display = Heard()
    with pytest.raises(type(error)) if error is not None else nullcontext():
        worked(Path(f"{store_of_objects.url}/run"), display, work)
    assert store_of_objects.objects == {"run/x": b"1"}
    assert display.said == []


def test_messages_name_the_url(store_of_objects: ObjectStore) -> None:
    url, display = f"{store_of_objects.url}/run", Heard()

    def stopped(run: Path) -> None:
        display.note(f"{run}: noted")
        raise InterruptedRunError(f"{run}/x: stopped")

    assert str(failure(Path(url), display, stopped)) == f"{url}/x: stopped"
    assert str(failure(Path(url), display, lambda run: (run / "y").read_bytes())).startswith(f"{url}/y: ")
    assert display.said == [f"{url}: noted"]


def test_what_cannot_be_sent_is_here_and_sent_by_the_same_command(store_of_objects: ObjectStore) -> None:
    url, display, runs = Path(f"{store_of_objects.url}/run"), Heard(), list[Path]()
    with nothing_can_be_sent():
        why = failure(url, display, lambda run: runs.append(written(run)))
    assert isinstance(why, RunFailedError)
    assert str(why) == (
        f"no way So not all results were sent to {store_of_objects.url}/run; they are complete in {runs[0]}. Run the "
        "same command again to send them."
    )
    assert store_of_objects.objects == {}
    assert "exists" in str(failure(url, display, lambda run: raised(BadInputError(f"{run}: this run exists."))))
    assert store_of_objects.objects == {"run/x": b"1"}
    assert "sent what the last command could not send (1 file)" in display.said[-1]


def test_a_command_that_failed_says_its_own_reason(store_of_objects: ObjectStore) -> None:
    display = Heard()
    with nothing_can_be_sent():
        url = Path(f"{store_of_objects.url}/run")

        def diverge(run: Path) -> None:
            written(run)
            raise RunFailedError("diverged")

        why = failure(url, display, diverge)
    assert str(why) == "diverged"
    assert len(display.said) == 1
    assert "no way So not all results were sent" in display.said[0]


def test_another_writer_is_noticed(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, display = Path(f"{store_of_objects.url}/run"), Heard()

    def beside_another(run: Path) -> None:
        written(run, b"here")
        with monkeypatch.context() as patch:
            another_machine(patch, tmp_path)
            worked(url, display, lambda run: written(run, b"there"))

    why = failure(url, display, beside_another)
    assert isinstance(why, BadInputError)
    assert "run/x: another process has written it since" in str(why)
    assert f"complete in {tmp_path / 'cache'}" in str(why)
    assert store_of_objects.objects == {"run/x": b"there"}


def said_in_time(display: Heard, number: int) -> None:
    deadline = time.monotonic() + 20
    while len(display.said) < number and time.monotonic() < deadline:
        time.sleep(0.02)


def test_another_writer_is_told_of_at_once(store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCERA_UPLOAD_EVERY_S", "0.05")
    url, display, heard = Path(f"{store_of_objects.url}/run"), Heard(), list[str]()
    display.quiet = True

    def beside_another(run: Path) -> None:
        store_of_objects.write("run/x", b"there")
        written(run, b"here")
        said_in_time(display, 1)
        time.sleep(0.3)
        heard.extend(display.said)

    why = failure(url, display, beside_another)
    assert len(heard) == 1  # once
    assert "run/x: another process has written it since" in heard[0]
    assert "Nothing more is sent" in heard[0]
    assert "another process has written it since" in str(why)
    assert store_of_objects.objects == {"run/x": b"there"}


def test_each_time_in_which_nothing_can_be_sent_is_told_of(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCERA_UPLOAD_EVERY_S", "0.05")
    display = Heard()

    def twice_cut_off(run: Path) -> None:
        with nothing_can_be_sent():
            written(run)
            said_in_time(display, 1)
            time.sleep(0.3)
        while store_of_objects.objects != {"run/x": b"1"}:
            time.sleep(0.02)
        with nothing_can_be_sent():
            (run / "x").write_bytes(b"22")
            said_in_time(display, 2)

    worked(Path(f"{store_of_objects.url}/run"), display, twice_cut_off)
    assert len(display.said) == 2
    assert all("it is tried again: no way" in text for text in display.said)
    assert store_of_objects.objects == {"run/x": b"22"}


def test_what_may_not_be_written_is_said_before_anything_is_done(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RemoteFolder(f"{store_of_objects.url}/run")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(folder._fs, "pipe_file", refuse)
    with pytest.raises(BadInputError, match="writing is not permitted"), command({"run": Path(folder.url)}):
        pytest.fail("the command began")


def test_other_processes_of_a_training_send_nothing(store_of_objects: ObjectStore) -> None:
    given = {"run": Path(f"{store_of_objects.url}/run")}
    with mirrored("train", given, ("run",), Heard(), is_first=False) as here:
        here["run"].mkdir(parents=True)
        (here["run"] / "x").write_bytes(b"1")
    assert store_of_objects.objects == {}
    assert store_of_objects.wire.count("PUT") == 0


def test_pods_that_number_themselves_send_and_report(
    store_of_objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of `train` several processes work together; the variables may stand in any pod."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = run("phantom", f"{store_of_objects.url}/data", "--cases", 1, "--shape", 16, 16, 16)
    assert result.exit_code == 0
    assert "data/dataset.json" in store_of_objects.objects
    assert store_of_objects.url in result.output


def test_several_paths_may_be_urls(store_of_objects: ObjectStore, tmp_path: Path) -> None:
    for part in ("1", "2"):
        store_of_objects.write(f"part{part}/scores.csv", part.encode())
    parts = [Path(f"{store_of_objects.url}/part{part}") for part in ("1", "2")]
    with command({"parts": [*parts, tmp_path]}, name="merge") as here:
        assert [(folder / "scores.csv").read_text() for folder in here["parts"][:2]] == ["1", "2"]
        assert here["parts"][2] == tmp_path


def test_of_parts_that_are_merged_the_tables_travel_alone(store_of_objects: ObjectStore) -> None:
    at, measured = store_of_objects.url, "case,organ,voxels\n"
    for number in (1, 2):
        store_of_objects.write(f"part{number}/measurements.csv", f"{measured}c{number},liver,5\n".encode())
        store_of_objects.write(f"part{number}/c{number}.nii.gz", b"a label map" * 1000)
        store_of_objects.write(f"part{number}/deep/scores.csv", b"of something else")
    store_of_objects.write("all/quarantine.csv", b"case,reason\nc1,no space\n")
    store_of_objects.write("all/c1.nii.gz", b"a label map")
    with command({"store": Path(f"{at}/part1")}) as here:
        assert (here["store"] / "c1.nii.gz").exists()  # of a command that reads all
    store_of_objects.wire.requests.clear()
    assert run("merge", f"{at}/part1", f"{at}/part2", "--out", f"{at}/all").exit_code == 0
    assert [line for line in store_of_objects.wire.requests if ".nii.gz" in line or "deep" in line] == []
    assert store_of_objects.read("all/measurements.csv").decode() == f"{measured}c1,liver,5\nc2,liver,5\n"
    assert sorted(name for name in store_of_objects.objects if name.startswith("all/")) == [
        "all/c1.nii.gz",
        "all/measurements.csv",
        "all/measurements.csv.sha256",
    ]
    with command({"store": Path(f"{at}/part1")}) as here:
        assert (here["store"] / "c1.nii.gz").exists()
    said = refused(3, "merge", f"{at}/part1", f"{at}/part3", "--out", f"{at}/all")
    assert said.startswith(f"viscera: {at}/part3: there is none of ")
    assert "scores.csv, summary.json" in said


def test_one_url_as_input_and_output_is_one_folder(store_of_objects: ObjectStore) -> None:
    store_of_objects.write("run/x", b"1")
    url = Path(f"{store_of_objects.url}/run")
    with command({"store": url, "run": url}) as here:
        assert here["store"] == here["run"]
        (here["run"] / "y").write_bytes(b"2")
    assert store_of_objects.objects == {"run/x": b"1", "run/y": b"2"}


def test_what_several_machines_would_need_is_refused() -> None:
    url = Path("s3://bucket/x")
    with (
        pytest.raises(BadInputError, match="--launcher ray needs files"),
        command({"source": url, "launcher": "ray"}, name="predict"),
    ):
        pass
    with (
        pytest.raises(BadInputError, match=r"s3://bucket/x: the parts of a job array"),
        command({"run": url, "shard": "1/2"}, name="prepare"),
    ):
        pass


@pytest.mark.usefixtures("store_of_objects")
def test_commands_refuse_what_is_not_there() -> None:
    message = refused(3, "train", "s3://no-such-bucket/store", "run")
    assert message == (
        "viscera: s3://no-such-bucket/store: there is no such bucket. Check its name, AWS_ENDPOINT_URL_S3 and "
        "AWS_REGION."
    )
    assert "no such kind of address" in refused(3, "doctor", "nonsense://x/y")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "s3://AKID:hush@bucket/store", "run"],
        ["train", "s3://AKID:hush@bucket/store", "run", "one", "too", "many"],
        ["check", "data", "--out=s3://bucket/x?X-Amz-Signature=hush"],
        ["check", "data", "--out", "s3://bucket/x?X-Amz-Signature=hush", "--nonsense"],
    ],
)
def test_secrets_on_the_command_line_are_not_repeated(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 3
    assert "hush" not in result.output
    assert "credentials are taken from the environment" in result.stderr
