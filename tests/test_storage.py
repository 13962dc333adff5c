from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from safs_ray.storage import DamagedError, Folder


@pytest.fixture(params=["path", "uri"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder that is not there yet, by its path and by its URI."""
    place = tmp_path / "runs" / "first"
    return Folder.at(place if request.param == "path" else place.as_uri())


def on_disk(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "first"


def test_a_folder_that_is_not_there_is_empty(folder: Folder) -> None:
    assert not folder.exists()
    assert not folder.exists("a")
    assert folder.names() == []


def test_what_is_written_is_read(folder: Folder, tmp_path: Path) -> None:
    content = bytes(range(256)) * 3
    folder.write("a.bin", content)
    folder.write("empty", b"")
    assert folder.read("a.bin") == content == (on_disk(tmp_path) / "a.bin").read_bytes()
    assert folder.read("empty") == b""
    assert folder.exists()
    assert folder.exists("a.bin")
    assert not folder.exists("b.bin")


def test_writing_again_replaces_the_whole_content(folder: Folder) -> None:
    folder.write("a", b"a long first content")
    folder.write("a", b"short")
    assert folder.read("a") == b"short"
    assert folder.names() == ["a"]


def test_writing_leaves_nothing_but_the_file(folder: Folder, tmp_path: Path) -> None:
    folder.write("a", b"1")
    assert [path.name for path in on_disk(tmp_path).iterdir()] == ["a"]


def test_names_are_sorted_and_without_hidden_files_and_folders(folder: Folder, tmp_path: Path) -> None:
    for name in ("b", "a", "c10", "c2"):
        folder.write(name, b"")
    (folder / "inner").write("x", b"")
    (on_disk(tmp_path) / ".d.partial").write_bytes(b"half a fi")
    assert folder.names() == ["a", "b", "c10", "c2"]


def test_a_write_that_fails_changes_no_file(folder: Folder) -> None:
    folder.write("a", b"whole")
    for name in ("a", "b"):
        with pytest.raises(TypeError):
            folder.write(name, 3.5)  # type: ignore[arg-type]
    assert folder.names() == ["a"]
    assert folder.read("a") == b"whole"
    folder.write("b", b"after all")
    assert folder.read("b") == b"after all"


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


def test_inner_folders_are_folders_of_their_own(folder: Folder, tmp_path: Path) -> None:
    inner = folder / "trials" / "3"
    inner.write("a", b"1")
    assert (on_disk(tmp_path) / "trials" / "3" / "a").read_bytes() == b"1"
    assert folder.exists("trials")
    assert folder.exists("trials/3/a")
    assert folder.read("trials/3/a") == b"1"
    assert folder.names() == []


def test_a_folder_can_be_pickled_after_use(folder: Folder) -> None:
    folder.write("a", b"1")
    copy = pickle.loads(pickle.dumps(folder))
    assert copy == folder
    assert hash(copy) == hash(folder)
    assert copy.read("a") == b"1"


def test_a_path_and_its_uri_are_the_same_place(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    Folder.at(place).write("x", b"1")
    assert place.as_uri().startswith("file:///")
    assert Folder.at(place.as_uri()).read("x") == b"1"


def test_a_relative_path_is_fixed_when_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder.at("runs/../runs/first")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.write("a", b"1")
    assert str(folder) == folder.location == str(on_disk(tmp_path))
    assert (on_disk(tmp_path) / "a").exists()


def test_a_trailing_slash_makes_no_difference(tmp_path: Path) -> None:
    for location in (str(tmp_path), tmp_path.as_uri()):
        assert Folder.at(f"{location}/") == Folder.at(location)
        assert str(Folder.at(f"{location}/") / "a") == f"{location}/a"
