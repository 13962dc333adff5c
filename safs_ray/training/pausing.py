"""A function that is stopped in its middle and goes on later."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Returned = TypeVar("Returned")


class Abandoned(BaseException):
    """Raised at a pause from which a function does not go on."""


class Pausing(Generic[Returned]):
    """Runs a function from pause to pause.

    It has a thread of its own, which runs only while the one that lets it go on waits. So a function that knows
    nothing of pauses can be called from within, as a generator cannot.

    Args:
        function: what it calls to pause is given to it.

    Attributes:
        ended: whether the function has returned or raised.

    Examples:
        >>> told = []
        >>> def twice(pause):
        ...     told.append("once")
        ...     pause()
        ...     told.append("again")
        ...     return 2
        >>> pausing = Pausing(twice)
        >>> pausing.proceed()
        >>> told, pausing.ended
        (['once'], False)
        >>> pausing.proceed(), told, pausing.ended
        (2, ['once', 'again'], True)
    """

    def __init__(self, function: Callable[[Callable[[], None]], Returned]) -> None:
        self.ended = False
        self._function = function
        self._mine, self._its = threading.Semaphore(0), threading.Semaphore(0)
        self._returned: Returned | None = None
        self._raised: BaseException | None = None
        self._abandoned = False
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), daemon=True, name="training loop")

    def proceed(self) -> Returned | None:
        """Run to the next pause, or to the end; what the function returns, None before it has.

        Raises:
            BaseException: what the function raises.
        """
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._its.release()
        try:
            self._mine.acquire()
        except KeyboardInterrupt:
            self._abandoned = True
            raise
        if self._raised:
            raise self._raised
        return self._returned

    def close(self) -> None:
        """End the function where it pauses."""
        if self._thread.ident is not None and not self.ended:
            self._abandoned = True
            self._its.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._returned = self._function(self._pause)
        except Abandoned:
            pass
        except BaseException as error:  # a user's function may raise anything; whoever waits is told
            self._raised = error
        self.ended = True
        self._mine.release()

    def _pause(self) -> None:
        if not self._abandoned:
            self._mine.release()
            self._its.acquire()
        if self._abandoned:
            raise Abandoned
