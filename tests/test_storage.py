from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from moto.core import set_initial_no_auth_action_count

from safs_ray import storage
from safs_ray.storage import LOCAL, DamagedError, Folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "first run"


@pytest.fixture(params=["path", "uri", "bucket"])
def folder(request: pytest.FixtureRequest, place: Path) -> Folder:
    """A folder that is not there yet: by its path, by its URI, and in a bucket."""
    if request.param == "bucket":
        uri: str = request.getfixturevalue("bucket")
        return in_bucket(uri, f"{place.parent.parent.name}/runs/first%20run")
    return Folder.at(place if request.param == "path" else place.as_uri())


@pytest.fixture
def local(place: Path) -> Folder:
    return Folder.at(place)


def in_bucket(uri: str, prefix: str) -> Folder:
    return Folder.at(uri.replace("?", f"/{prefix}?"))


def test_a_folder_that_is_not_there_is_empty(folder: Folder) -> None:
    assert not folder.exists()
    assert not folder.exists("a")
    assert folder.names() == []
    assert folder.folders() == []


def test_a_tilde_at_the_beginning_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder.at("~/runs") == Folder.at(Path("~/runs")) == Folder(f"{tmp_path}/runs")
    assert Folder.at("~") == Folder(str(tmp_path))
    assert Folder.at(tmp_path / "a~b/~") == Folder(f"{tmp_path}/a~b/~")
    assert Folder.at("s3://bucket/~/runs").path == "bucket/~/runs"
    with pytest.raises(ValueError, match="there is no user nobody-of-this-name here"):
        Folder.at("~nobody-of-this-name/runs")


def test_what_is_written_is_read(folder: Folder) -> None:
    content = bytes(range(256)) * 3
    folder.write("a.bin", content)
    folder.write("empty", b"")
    assert folder.read("a.bin") == content
    assert folder.read("empty") == b""
    assert folder.exists()
    assert folder.exists("a.bin")
    assert not folder.exists("b.bin")


def test_a_local_file_has_the_content_and_the_usual_permissions(local: Folder, place: Path) -> None:
    local.write("a.bin", b"content")
    (place / "other").write_bytes(b"")
    assert (place / "a.bin").read_bytes() == b"content"
    assert stat.S_IMODE((place / "a.bin").stat().st_mode) == stat.S_IMODE((place / "other").stat().st_mode)


def test_writing_again_replaces_the_whole_content(folder: Folder) -> None:
    folder.write("a", b"a long first content")
    folder.write("a", b"short")
    assert folder.read("a") == b"short"
    assert folder.names() == ["a"]


def test_writing_leaves_nothing_but_the_file(local: Folder, place: Path) -> None:
    local.write("a", b"1")
    assert [path.name for path in place.iterdir()] == ["a"]


def test_names_are_sorted_and_without_hidden_files_and_folders(folder: Folder) -> None:
    for name in ("b", "a", "c10", "c2", ".d.partial"):
        folder.write(name, b"")
    (folder / "inner").write("x", b"")
    assert folder.names() == ["a", "b", "c10", "c2"]


def test_folders_are_sorted_and_without_files_hidden_folders_and_what_is_deeper(folder: Folder) -> None:
    for inner in ("trial 2", "trial 10", "deep/deeper/deepest", ".hidden", "trial 2/more"):
        (folder / inner).write("x", b"")
    folder.write("a", b"")
    assert folder.folders() == ["deep", "trial 10", "trial 2"]
    assert (folder / "deep").folders() == ["deeper"]
    assert (folder / "trial 10").folders() == []


def test_a_folder_of_no_files_is_a_folder(folder: Folder) -> None:
    folder.filesystem.create_dir((folder / "empty").path, recursive=True)
    assert folder.folders() == ["empty"]
    assert folder.exists("empty")


def test_deleting_is_done_where_there_is_no_object_of_the_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in gs://, where Arrow deletes what lies below and fails with an object that nobody wrote."""

    class Failing:
        def __init__(self, deletes: bool) -> None:
            self.deletes = deletes

        def __getattr__(self, name: str) -> object:
            return getattr(LOCAL, name)

        def delete_dir(self, path: str) -> None:
            if self.deletes:
                LOCAL.delete_dir(path)
            raise OSError("no such object")

    folder = Folder.at(tmp_path / "a")
    folder.write("x", b"1")
    monkeypatch.setattr(storage, "LOCAL", Failing(deletes=False))
    with pytest.raises(OSError, match="no such object"):
        folder.delete()
    monkeypatch.setattr(storage, "LOCAL", Failing(deletes=True))
    folder.delete()
    assert not folder.exists()


def test_deleting_takes_the_folder_with_its_content_and_nothing_else(folder: Folder) -> None:
    for other in (folder / "a", folder / "a" / "inner", folder / "ab"):
        other.write("x", b"1")
    (folder / "a").delete()
    assert not folder.exists("a")
    assert not (folder / "a" / "inner").exists("x")
    assert folder.folders() == ["ab"]
    (folder / "a").delete()
    (folder / "a").write("x", b"2")
    assert (folder / "a").read("x") == b"2"


def test_a_write_that_fails_changes_no_file(folder: Folder) -> None:
    folder.write("a", b"whole")
    for name in ("a", "b"):
        with pytest.raises(TypeError):
            folder.write(name, 3.5)  # type: ignore[arg-type]
    assert folder.names() == ["a"]
    assert folder.read("a") == b"whole"
    folder.write("b", b"after all")
    assert folder.read("b") == b"after all"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 1,000 bytes, as on a disk without space; that of pytest's own output neither."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_on_a_full_disk_the_old_file_stays(local: Folder, place: Path) -> None:
    local.write("a", b"whole")
    for name in ("a", "b"):
        with pytest.raises(OSError, match="large") as raised, full_disk():
            local.write(name, bytes(10_000))
        assert raised.value.errno == errno.EFBIG
    assert [path.name for path in place.iterdir()] == ["a"]
    assert local.read("a") == b"whole"


def test_a_power_cut_finds_the_old_file_or_the_new(local: Folder, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before the name points to it, and each new name before the write returns."""
    place.parent.parent.mkdir(exist_ok=True)
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed = os.fstat(descriptor)
        kept = [path for path in place.parent.parent.rglob("*") if path.stat().st_ino == flushed.st_ino]
        names = [place.parent.parent, *kept] if place.parent.parent.stat().st_ino == flushed.st_ino else kept
        done.append(f"flush {names[0].name if stat.S_ISDIR(flushed.st_mode) else flushed.st_size}")

    def recorded_replace(source: Path, target: Path) -> None:
        rename(source, target)
        done.append(f"rename to {Path(target).name}")

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    local.write("a", b"12345")
    assert done == [f"flush {place.parent.parent.name}", "flush runs", "flush 5", "rename to a", "flush first run"]


def test_readers_and_other_writers_see_whole_files_only(local: Folder) -> None:
    sizes = [1, 50_000, 300_000]
    local.write("a", b"x")

    def write(number: int) -> None:
        for size in sizes:
            local.write("a", bytes([number]) * size)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = local.read("a")
        assert len(content) in sizes
        assert content == content[:1] * len(content)
    for writer in writers:
        writer.join()
    assert len(local.read("a")) == sizes[-1]
    assert local.names() == ["a"]


def test_a_bucket_is_asked_no_more_than_is_needed(bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = in_bucket(bucket, "requests")
    with caplog.at_level(logging.INFO, "werkzeug"):

        def requests() -> list[str]:
            asked = [method for method in ("HEAD", "GET", "PUT", "POST") for _ in range(caplog.text.count(method))]
            caplog.clear()
            return asked

        folder.exists()
        requests()
        folder.write("a", bytes(1_000_000))
        assert requests() == ["PUT"]
        folder.read("a")
        assert requests() == ["HEAD", "GET"]
        folder.exists("a")
        assert requests() == ["HEAD"]
        folder.names()
        assert requests() == ["GET"]


def test_a_missing_file_is_a_file_not_found_error(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("a")
    folder.write("b", b"")
    with pytest.raises(FileNotFoundError):
        folder.read("a")
    with pytest.raises(FileNotFoundError):
        folder.read_json("a")


def test_a_file_has_a_size_and_nothing_else_has(folder: Folder) -> None:
    folder.write("a", b"12345")
    (folder / "inner").write("b", b"")
    assert folder.size("a") == 5
    assert folder.size("inner/b") == 0
    with pytest.raises(FileNotFoundError):
        folder.size("b")
    for name in ("inner", ""):
        with pytest.raises(OSError, match=r"is no regular file$"):
            folder.size(name)
    with pytest.raises(OSError, match=r"is no regular file$"):
        Folder.at("/dev").size("zero")


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"{'a': 1}", b"\xff\xfe\x00", bytes(100), b"[" * 10**5, b'{"a": 1} {"a": 2}']
)
def test_what_is_no_json_is_damaged(folder: Folder, content: bytes) -> None:
    folder.write("a.json", content)
    with pytest.raises(DamagedError) as damaged:
        folder.read_json("a.json")
    assert str(damaged.value).startswith(f"{folder}/a.json is not what was written there: it is no JSON (")
    assert "\n" not in str(damaged.value)


def test_json_round_trips_as_text_with_a_last_newline(folder: Folder) -> None:
    value = {"ä": [1, 2.5, None, True], "nested": {"b": "text\n"}}
    folder.write_json("a.json", value)
    assert folder.read_json("a.json") == value
    text = folder.read("a.json").decode()
    assert json.loads(text) == value
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_changes_no_file(folder: Folder) -> None:
    folder.write_json("a.json", [1])
    with pytest.raises(TypeError):
        folder.write_json("a.json", {"value": object()})
    assert folder.read_json("a.json") == [1]
    assert folder.names() == ["a.json"]


def test_inner_folders_are_folders_of_their_own(folder: Folder) -> None:
    inner = folder / "trials" / "3"
    inner.write("a", b"1")
    assert folder.exists("trials")
    assert folder.exists("trials/3/a")
    assert folder.read("trials/3/a") == b"1"
    assert (folder / "trials/3").read("a") == b"1"
    assert folder.names() == []


def test_a_folder_knows_its_name_and_where_it_lies(folder: Folder) -> None:
    assert folder.name == "first run"
    assert folder.parent / "first run" == folder
    assert (folder / "a").parent == folder
    assert (folder / "a").name == "a"
    assert folder.parent.name == "runs"


@pytest.mark.parametrize("name", ["stage 1", "a%20b", "what?", "a#b", "a=b&c", "ä"])
def test_any_name_is_a_name(folder: Folder, name: str) -> None:
    (folder / name).write(name, b"1")
    assert folder.folders() == (folder / name).names() == [name]
    assert Folder.at(str(folder / name)) == folder / name
    assert Folder.at(str(folder / name)).read(name) == b"1"


def test_a_folder_can_be_pickled_after_use(folder: Folder) -> None:
    folder.write("a", b"1")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert hash(copy) == hash(folder)
    assert copy.read("a") == b"1"


def test_a_path_and_its_uri_are_the_same_place(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    assert place.as_uri().startswith("file:///")
    assert Folder.at(place.as_uri()) == Folder.at(place)


def test_a_relative_path_is_fixed_when_it_is_given(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder.at("runs/../runs/first run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.write("a", b"1")
    assert str(folder) == folder.path == str(place)
    assert (place / "a").exists()


def test_a_trailing_slash_makes_no_difference(tmp_path: Path) -> None:
    assert Folder.at(f"{tmp_path}/") == Folder.at(f"{tmp_path.as_uri()}/") == Folder.at(tmp_path)
    for query in ("", "?region=eu-west-1"):
        folder = Folder.at(f"s3://bucket/runs/{query}")
        assert folder == Folder.at(f"s3://bucket/runs{query}")
        assert str(folder / "a") == f"s3://bucket/runs/a{query}"


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket",
        "s3://bucket/a/b?region=eu-west-1&scheme=http&endpoint_override=host:9",
        "gs://anonymous@bucket/a=b",
    ],
)
def test_a_uri_stays_as_it_was_given(location: str) -> None:
    assert str(Folder.at(location)) == location


def test_the_environment_may_name_the_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bucket(bucket, "environment").write("a", b"1")
    server = Folder.at(bucket).options.partition("endpoint_override=")[2].partition("&")[0]
    for number, name in enumerate(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
        with monkeypatch.context() as environment:
            environment.setenv(name, f"http://{server}")
            assert Folder.at(f"s3://bucket/environment?region=us-east-{number + 1}").read("a") == b"1"


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s3:///prefix", "must be a path, or a URI"),
        ("s3://", "must be a path, or a URI"),
        ("s3://KEY@bucket", "must be a path, or a URI"),
        ("gs://somebody@bucket", "must be a path, or a URI"),
        ("https://bucket/prefix", "must be a path, or a URI"),
        ("file://host/folder", "must be a path, or a URI"),
        ("hdfs://host:9000/folder", "must be a path, or a URI"),
        ("s3://KEY:hush@bucket/prefix", "must hold no password"),
        ("gs://KEY:hush@bucket/prefix", "must hold no password"),
        ("ftp://KEY:hu/sh@bucket/prefix", "must hold no password"),
    ],
)
def test_a_uri_of_another_kind_or_with_a_password_is_refused_without_telling_it(location: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        Folder.at(location)
    assert "hu" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("option", ["role=x", "allow_bucket_creation=true", "speed=high"])
def test_an_option_that_is_not_known_is_refused(bucket: str, option: str) -> None:
    with pytest.raises(ValueError, match=option.partition("=")[0]):
        Folder.at(f"{bucket}&{option}").exists()


def test_a_bucket_that_is_not_there_cannot_be_written(bucket: str) -> None:
    folder = Folder.at(bucket.replace("bucket", "nowhere"))
    assert not folder.exists("a")
    with pytest.raises(OSError, match="bucket 'nowhere': AWS Error NO_SUCH_BUCKET"):
        folder.write("a", b"1")


def test_who_is_not_allowed_in_a_bucket_is_told(bucket: str) -> None:
    folder = in_bucket(bucket, "denied")

    @set_initial_no_auth_action_count(0)
    def refused() -> None:
        for attempt in (folder.exists, folder.names, lambda: folder.write("a", b"1"), lambda: folder.read("a")):
            with pytest.raises(OSError, match=r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID)"):
                attempt()

    refused()
    assert folder.names() == []


def test_a_file_where_a_folder_should_be_is_told(local: Folder, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert not (local / "a").exists()
    for folder in (local, local / "a"):
        with pytest.raises(OSError, match="first run"):
            folder.write("x", b"1")


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with pytest.raises(OSError, match="/proc/nowhere"):
        Folder.at("/proc/nowhere").write("x", b"1")


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("listens", [False, True], ids=["refuses", "is silent"])
def test_a_server_that_cannot_be_reached_is_an_error_in_time(listens: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = f"{server.getsockname()[0]}:{server.getsockname()[1]}"
        folder = Folder.at(f"s3://bucket/a?endpoint_override={address}&scheme=http&region=us-east-1")
        start = time.monotonic()
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            folder.exists("a")
        assert time.monotonic() - start < 60
