"""Folders that may lie on a local disk, on NFS or in a bucket, through :mod:`pyarrow.fs`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from uuid import uuid4

from pyarrow import fs

from safs_ray.config import SECRET, ConfigurationError, at_home, refusal

LOCAL = fs.LocalFileSystem()


class DamagedError(Exception):
    """A file of a run folder is not what was written there: cut short, changed, or put in the place of another.

    The message is one line that names the file and its fault. What the file was made from may make it again.
    """


@contextmanager
def blaming(key: str, value: str) -> Iterator[None]:
    """Turn a failure of storage into the error of the key, or argument, that named the place.

    Raises:
        ConfigurationError: something cannot be read or written, or is damaged.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except (OSError, ValueError, DamagedError) as error:  # Arrow's are among them
        raise refusal(key, value, str(error)) from None


@dataclass(frozen=True)
class Folder:
    """A folder that need not exist yet.

    Files appear whole or not at all, and on a local disk what was written outlasts a power cut. What the storage
    refuses raises OSError, an option that it does not know ValueError.

    Attributes:
        path: where the folder lies on its file system: absolute, or the name of the bucket and what follows it.
        root: what a URI has before that, such as ``s3://``; empty on a local disk.
        options: the query of a URI, as Arrow reads it, such as ``region=us-west-2``.

    Examples:
        >>> folder = Folder.at("runs") / "mine"
        >>> folder.write_json("results.json", {"finished": True})
        >>> folder.names(), folder.read_json("results.json")
        (['results.json'], {'finished': True})
        >>> print(Folder.at("s3://bucket/runs?region=us-west-2") / "mine")
        s3://bucket/runs/mine?region=us-west-2
    """

    path: str
    root: str = ""
    options: str = ""

    @classmethod
    def at(cls, location: str | Path) -> Folder:
        """The folder at a path, absolute or not, or at a URI of kind file, s3 or gs; ``~`` is the home folder.

        Raises:
            ValueError: the URI is of another kind, names no bucket, or holds a password; or there is no user of a
                ``~USER``.
        """
        text = at_home(str(location))
        if SECRET.search(text):
            raise ValueError("must hold no password or key; give those in the environment")
        if "://" not in text:
            return cls(str(Path(text).resolve()))
        uri = urlsplit(text, allow_fragments=False)
        if uri.scheme == "file" and not uri.netloc:
            return cls(str(Path(unquote(uri.path)).resolve()))
        user, at, bucket = uri.netloc.rpartition("@")
        root = f"{uri.scheme}://{user}{at}"
        if root not in ("s3://", "gs://", "gs://anonymous@") or not bucket:
            raise ValueError(
                "must be a path, or a URI such as s3://bucket/prefix, gs://bucket/prefix or file:///folder"
            )
        return cls(bucket + unquote(uri.path).rstrip("/"), root, uri.query)

    @property
    def filesystem(self) -> fs.FileSystem:
        """Arrow's file system that :attr:`path` is on."""
        return _bucket(self.root, self.path.partition("/")[0], self.options) if self.root else LOCAL

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Folder:
        """The folder that this one lies in."""
        return replace(self, path=self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> Folder:
        return replace(self, path=f"{self.path}/{name}")

    def __str__(self) -> str:
        """The path, or the URI."""
        query = f"?{self.options}" if self.options else ""
        return f"{self.root}{quote(self.path, safe='/=:,+')}{query}" if self.root else self.path

    def exists(self, name: str = "") -> bool:
        """Whether the folder, or a file or folder in it, is there."""
        path = f"{self.path}/{name}" if name else self.path
        return bool(self.filesystem.get_file_info(path).type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """The names of the files in the folder, sorted, without hidden ones; empty when it is not there."""
        entries = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return _visible(info.base_name for info in entries if info.type == fs.FileType.File)

    def folders(self) -> list[str]:
        """The names of the folders in the folder, sorted, without hidden ones; empty when it is not there."""
        # Of all that lies below: in gs:// Arrow finds no folder that is only the beginning of the names of files.
        entries = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True, recursive=True))
        below = [(info.path.removeprefix(f"{self.path}/").partition("/"), info.type) for info in entries]
        return _visible({name for (name, slash, _), kind in below if slash or kind == fs.FileType.Directory})

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            content: bytes = file.read()
        return content

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it is a folder or a device, which has no size.
        """
        path = f"{self.path}/{name}"
        entry = self.filesystem.get_file_info(path)
        if entry.type == fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no file {path}")
        if entry.type != fs.FileType.File:
            raise OSError(f"{path} is no regular file")
        return int(entry.size)

    def make(self) -> None:
        """Make the folder where it is not there; a bucket has none without files."""
        if not self.root:
            _make(Path(self.path))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name."""
        data = memoryview(content)  # which refuses what is no bytes before a stream is open, not as it closes
        if self.root:
            with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(data)
        else:
            _write_for_good(Path(self.path) / name, data)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        if self.exists(name):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def set_aside(self, name: str) -> None:
        """Keep a damaged file as NAME.damaged, out of the way."""
        path = f"{self.path}/{name}"
        self.filesystem.move(path, f"{path}.damaged")

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

    def delete(self) -> None:
        """Delete the folder with all that is in it, if it is there."""
        if self.exists():
            try:
                self.filesystem.delete_dir(self.path)
            except OSError:
                if self.exists():  # in gs:// Arrow deletes an object of the folder's own name, too, and there is none
                    raise


@cache
def _bucket(root: str, name: str, options: str) -> fs.FileSystem:
    """The file system of a bucket, which gives a silent server up after half a minute, in gs:// after at most two.

    By Arrow's own settings for a URI it would be some minutes, and in gs:// a quarter of an hour.
    """
    given = dict(parse_qsl(options))
    if root != "s3://":
        return fs.FileSystem.from_uri(f"{root}{name}?{urlencode({'retry_limit_seconds': 15, **given})}")[0]
    if unknown := given.keys() - {"region", "endpoint_override", "scheme"}:
        raise ValueError(f"unknown option {min(unknown)}; allowed: region, endpoint_override, scheme")
    filesystem, _ = fs.S3FileSystem.from_uri(f"{root}{name}?{options}")  # asks for the bucket's region if none is given
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return fs.S3FileSystem(
        region=filesystem.region or None,
        scheme=given.get("scheme"),
        endpoint_override=given.get("endpoint_override", endpoint),
        connect_timeout=5,
        request_timeout=5,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=5),
        allow_delayed_open=True,  # one request for a small file, not three
    )


def _visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))


def _write_for_good(file: Path, content: memoryview) -> None:
    """Write a file so that after a power cut, too, it is whole: as it was before, or as it is now."""
    _make(file.parent)
    temporary = file.with_name(f".{file.name}.{uuid4().hex}.partial")  # another process may write the same file
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(file.parent)


def _make(folder: Path) -> None:
    """Make a folder, and those that it lies in."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Have the disk keep the names that a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shown(folder: Folder) -> str:
    """A folder as a person would type it here."""
    path = Path(str(folder))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(folder)
