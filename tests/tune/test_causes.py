from __future__ import annotations

import threading

import pytest
import torch
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    UnserializableException,
    WorkerCrashedError,
)
from ray.tune.error import TuneError

from safs_ray.config import ConfigurationError
from safs_ray.experiment import FailedSearchError
from safs_ray.storage import DamagedError
from safs_ray.tune.causes import cause_of, passes, reason

TRACEBACK = """ray::prepare() (pid=7, ip=10.0.0.1)
  File "mine.py", line 3, in forward
    raise Odd("no such device\\nhere")
mine.Odd: no such device
here"""


class UnsendableError(Exception):
    def __init__(self) -> None:
        super().__init__("of a kind that cannot be pickled")
        self.lock = threading.Lock()


def in_a_task(cause: Exception, traceback: str = TRACEBACK) -> RayTaskError:
    """As ``ray.get`` raises what was raised in a task."""
    raised: RayTaskError = RayTaskError("prepare", traceback, cause).as_instanceof_cause()
    return raised


def no_trial(cause: Exception) -> FailedSearchError:
    error = FailedSearchError("SAFS: none of 2 trials reached its end; 2 failed")
    error.__cause__ = cause
    return error


LOST = {
    "disk": OSError(28, "No space left on device"),
    "disk in a task": in_a_task(OSError(30, "Read-only file system")),
    "network": in_a_task(ConnectionResetError(104, "Connection reset by peer")),
    "memory": MemoryError(),
    "memory of a tensor": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    "memory of a GPU": in_a_task(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")),
    "memory of a node": OutOfMemoryError("the task was killed"),
    "worker": WorkerCrashedError(),
    "actor": ActorDiedError(),
    "node": NodeDiedError("the node died"),
    "file": DamagedError("run/config.yaml is not what was written there: it is no JSON"),
    "worker of a trial": no_trial(RayActorError()),
}
RAISED = {
    "network": (in_a_task(RuntimeError("no such device\nhere")), "RuntimeError: no such device"),
    "driver": (ValueError("no such fold"), "ValueError: no such fold"),
    "missing file": (in_a_task(FileNotFoundError(2, "No file", "a")), "FileNotFoundError: [Errno 2] No file: 'a'"),
    "refusal": (in_a_task(ConfigurationError("model.name=mine:net: fails")), "model.name=mine:net: fails"),
    "trial": (no_trial(in_a_task(TypeError("not a tensor"))), "TypeError: not a tensor"),
    "actor as it began": (ActorDiedError(RayTaskError("f", TRACEBACK, ValueError("a"))), "mine.Odd: no such device"),
    "unsendable": (in_a_task(UnsendableError()), "mine.Odd: no such device"),
    "unreadable": (UnserializableException(TRACEBACK), "mine.Odd: no such device"),
    "trial that is told as text": (TuneError(f"Failure # 1\n{TRACEBACK}"), "mine.Odd: no such device"),
    "no trial's end": (FailedSearchError("SAFS: none of 2"), "FailedSearchError: SAFS: none of 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_passes(name: str) -> None:
    assert passes(LOST[name])


@pytest.mark.parametrize("name", RAISED)
def test_what_code_raises_does_not_pass_and_is_told_in_one_line(name: str) -> None:
    error, told = RAISED[name]
    assert not passes(error)
    assert reason(error) == told


def test_the_cause_of_an_error_is_what_was_raised() -> None:
    cause = ValueError("no such device")
    assert cause_of(cause) is cause
    assert cause_of(in_a_task(cause)) is cause
    assert cause_of(no_trial(in_a_task(cause))) is cause
    assert cause_of(in_a_task(ValueError("a"))).__class__ is ValueError, "not Ray's class of both"


def test_the_reason_of_a_long_text_is_short() -> None:
    assert len(reason(ValueError("a" * 10**6))) <= 1000
