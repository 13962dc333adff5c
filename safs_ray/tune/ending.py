"""How a run ends that does not finish: a line that says why, what is kept, and whether to resume."""

from __future__ import annotations

import re
import traceback
from datetime import datetime

from safs_ray.config import CONFIGURATION, ConfigurationError, validate
from safs_ray.experiment import FailedSearchError
from safs_ray.storage import Folder, shown
from safs_ray.tune.causes import cause_of, passes, reason
from safs_ray.tune.changes import read_begun
from safs_ray.tune.invocation import resume_command
from safs_ray.tune.modules import versions
from safs_ray.tune.status import status

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

FAILURE = "failure.txt"
"""File of a run folder: the traceback of the run's failure, and what was run, when and by which versions."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What Ray's tracebacks hold for terminals."""


def ending(error: BaseException, folder: Folder, command: str) -> tuple[int, str]:
    """The exit code of a run that an error ended, and its last line; writes the traceback to the run folder.

    Args:
        command: what was typed.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"interrupted; {left(folder, again=False)}"
    if isinstance(error, ConfigurationError) and error is cause_of(error):  # before any stage
        return BAD_INPUT, f"error: {error}"
    what = left(folder, again=not passes(error))
    if isinstance(error, FailedSearchError):
        return FAILED, f"failed: {error}{_recorded(error, folder, command)}; {what}"
    if isinstance(cause_of(error), ConfigurationError):
        return BAD_INPUT, f"error: {reason(error)}; {what}"
    return FAILED, f"failed: {reason(error)}{_recorded(error, folder, command)}; {what}"


def left(folder: Folder, again: bool) -> str:
    """What an interrupted or failed run kept, and how to resume it.

    Args:
        again: whether the run would end the same way if it went on.
    """
    try:
        if not folder.exists(CONFIGURATION):
            return "nothing was begun"
        kept = status(validate(read_begun(folder)), folder)
    except (Exception, KeyboardInterrupt):  # the storage is what failed, or a person is in a hurry
        kept = "what was finished is kept"
    if again:
        kept += ". Resumed as it is, it would end the same way; once the cause is mended, go on with:"
    else:
        kept += ". Go on with:"
    return f"{kept} {resume_command(folder)}"


def _recorded(error: BaseException, folder: Folder, command: str) -> str:
    """Write the traceback, and say where; on the standard error where the run folder does not take it."""
    try:
        folder.write(FAILURE, _report(error, command).encode())
    except Exception:
        if not isinstance(cause_of(error), OSError | MemoryError):  # of a disk or a network the message says all
            traceback.print_exception(error)
        return ""
    return f"; traceback in {shown(folder / FAILURE)}"


def _report(error: BaseException, command: str) -> str:
    text = "".join(traceback.format_exception(error))
    return f"{command}\n{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}\n{versions()}\n\n{COLOURS.sub('', text)}"
