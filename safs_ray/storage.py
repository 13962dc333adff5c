"""Folders that may lie on a local disk, on NFS or in a bucket, through :mod:`pyarrow.fs`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyarrow import fs


class DamagedError(Exception):
    """A file of a run folder is not what was written there: cut short, changed, or put in the place of another.

    The message is one line that names the file and its fault. What the file was made from may make it again.
    """


@dataclass(frozen=True)
class Folder:
    """A folder that need not exist yet.

    Files appear whole or not at all: they are written under a hidden temporary name and then moved.

    Attributes:
        location: an absolute path, or a URI such as ``s3://bucket/prefix``.
    """

    location: str

    @classmethod
    def at(cls, location: str | Path) -> Folder:
        """The folder at a path, absolute or not, or at a URI."""
        text = str(location)
        return cls(text.rstrip("/") if "://" in text else str(Path(text).resolve()))

    @cached_property
    def _resolved(self) -> tuple[fs.FileSystem, str]:
        if "://" in self.location:
            filesystem, path = fs.FileSystem.from_uri(self.location)
            return filesystem, str(path)
        return fs.LocalFileSystem(), self.location

    def _file(self, name: str) -> tuple[fs.FileSystem, str]:
        filesystem, path = self._resolved
        return filesystem, f"{path}/{name}" if name else path

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.location}/{name}")

    def __str__(self) -> str:
        return self.location

    def __getstate__(self) -> dict[str, str]:
        return {"location": self.location}  # a file system is opened anew in each process

    def exists(self, name: str = "") -> bool:
        """Whether the folder, or a file or folder in it, is there."""
        filesystem, path = self._file(name)
        return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """The names of the files in the folder, sorted, without hidden ones; empty when it is not there."""
        filesystem, path = self._resolved
        found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(
            info.base_name for info in found if info.type == fs.FileType.File and not info.base_name.startswith(".")
        )

    def folders(self) -> list[str]:
        """The names of the folders in the folder, sorted; empty when it is not there."""
        filesystem, path = self._resolved
        found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def delete(self) -> None:
        """Delete the folder and all that is in it, if it is there."""
        if self.exists():
            filesystem, path = self._resolved
            filesystem.delete_dir(path)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        filesystem, path = self._file(name)
        with filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it is a folder or a device, which has no size.
        """
        filesystem, path = self._file(name)
        found = filesystem.get_file_info(path)
        if found.type == fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no file {path}")
        if found.type != fs.FileType.File:
            raise OSError(f"{path} is no regular file")
        return int(found.size)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name in a single move."""
        filesystem, path = self._resolved
        filesystem.create_dir(path, recursive=True)
        temporary = f"{path}/.{name}.partial"
        with filesystem.open_output_stream(temporary) as stream:
            stream.write(content)
        filesystem.move(temporary, f"{path}/{name}")

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        filesystem, path = self._file(name)
        if self.exists(name):
            filesystem.delete_file(path)

    def set_aside(self, name: str) -> None:
        """Keep a damaged file as NAME.damaged, out of the way."""
        filesystem, path = self._file(name)
        filesystem.move(path, f"{path}.damaged")

    def read_json(self, name: str) -> Any:
        """The value in a JSON file.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedError: it is no JSON.
        """
        content = self.read(name)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, f"it is no JSON ({error})") from None

    def damaged(self, name: str, fault: str) -> DamagedError:
        """The error that names a file of this folder and its fault."""
        return DamagedError(" ".join(f"{self}/{name} is not what was written there: {fault}".split()))

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as indented JSON."""
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())
