from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.stages import read_classes, write_classes
from safs_ray.stages.classes import CLASSES, told
from safs_ray.storage import DamagedError, Folder


def test_names_that_are_written_are_read(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert read_classes(folder) == ()
    write_classes(("cat", "Käfer"), folder)
    assert read_classes(folder) == ("cat", "Käfer")


def test_a_run_whose_classes_have_no_names_has_no_file_of_them(tmp_path: Path) -> None:
    write_classes((), Folder.at(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1, 2]"])
def test_a_file_that_holds_no_names_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / CLASSES).write_text(content)
    with pytest.raises(DamagedError, match=f"{CLASSES} is not what was written there"):
        read_classes(Folder.at(tmp_path))


def test_names_are_told_in_one_line_and_no_more_than_a_person_reads() -> None:
    assert told(["a\nb", "c"]) == "0 a b, 1 c"
    many = told([str(label) for label in range(1000)])
    assert many.endswith(", 99 99, … and 900 more in classes.json")
