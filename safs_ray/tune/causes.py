"""Why a run failed: what was raised, wherever that was, and whether a resumed run would meet it again."""

from __future__ import annotations

import torch
from ray import exceptions
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.error import TuneError

from safs_ray.config import ConfigurationError
from safs_ray.config.refusals import LONGEST_MESSAGE, shortened
from safs_ray.experiment import FailedSearchError
from safs_ray.storage import DamagedError

PASSING = (
    OSError,
    MemoryError,
    torch.OutOfMemoryError,
    DamagedError,
    RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
    exceptions.OutOfMemoryError,
    exceptions.RpcError,
    exceptions.TaskUnschedulableError,
    exceptions.ActorUnschedulableError,
    exceptions.TaskPlacementGroupRemoved,
    exceptions.ActorPlacementGroupRemoved,
)
"""What is raised when workers, nodes, disks, memory or a network are lost, and not by what code does."""


def cause_of(error: BaseException) -> BaseException:
    """What was raised in a task or a trial, or else the error itself."""
    if isinstance(error, FailedSearchError) and error.__cause__:
        return cause_of(error.__cause__)
    if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        return error.cause
    return error


def passes(error: BaseException) -> bool:
    """Whether a resumed run may do better without anything being mended."""
    cause = cause_of(error)
    if isinstance(cause, FileNotFoundError) or _is_traceback(cause):
        return False  # code asks for what is not there, or raised what cannot be sent
    return isinstance(cause, PASSING) or (isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause))


def reason(error: BaseException) -> str:
    """One line that says what was raised."""
    cause = cause_of(error)
    if isinstance(cause, ConfigurationError):
        return str(cause)
    message = _raised(str(cause)) if _is_traceback(cause) else f"{type(cause).__name__}: {cause}".splitlines()[0]
    return shortened(message, LONGEST_MESSAGE)


def _is_traceback(cause: BaseException) -> bool:
    """Whether an error's text is the traceback of another one: what cannot be pickled, or was raised as an actor began.

    Anything else of Ray's is of a class of its own.
    """
    began = isinstance(cause, RayActorError) and cause.actor_init_failed
    return began or type(cause) in (RayError, exceptions.UnserializableException, TuneError)


def _raised(traceback: str) -> str:
    """The line of a traceback that says what was raised: the first one after its frames, which are indented."""
    lines = traceback.strip().splitlines()
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    return lines[min(frames[-1] + 1 if frames else 0, len(lines) - 1)]
