"""Sessions: outputs that requests continue one after the other."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from elman.serve.refused import Refused
from elman.tasks.task import Generation


@dataclass
class Session:
    """An output that requests continue.

    Attributes:
        generation: the output.
        used: the time of the last use.
        is_busy: whether a request continues it now.
    """

    generation: Generation
    used: float
    is_busy: bool = False


class Sessions:
    """Sessions by their secret identifiers.

    Args:
        limit: the largest number of sessions.
        idle: the seconds after which an unused session ends.
        clock: returns the time in seconds.
    """

    def __init__(self, limit: int, idle: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._idle, self._clock = limit, idle, clock
        self._open = dict[str, Session]()

    def __len__(self) -> int:
        """The number of sessions."""
        self._end_idle()
        return len(self._open)

    def open(self, generation: Generation) -> str:
        """Open a session, and return its identifier.

        Raises:
            Refused: if there are too many.
        """
        if len(self) >= self._limit:
            raise Refused(
                429,
                f"expected at most {self._limit} sessions, got one more; delete one, or wait until one has been unused "
                f"for {self._idle:g} seconds",
                {"Retry-After": "1"},
            )
        name = secrets.token_urlsafe(16)
        self._open[name] = Session(generation, self._clock())
        return name

    def take(self, name: str) -> Session:
        """Take a session to continue it, until `release`.

        Raises:
            Refused: if there is no such session, or another request continues it.
        """
        session = self._find(name)
        if session.is_busy:
            raise Refused(409, "this session is continued by another request; try again when that has ended")
        session.is_busy = True
        return session

    def release(self, session: Session) -> None:
        """End the use of a session that `take` has returned."""
        session.is_busy, session.used = False, self._clock()

    def close(self, name: str) -> None:
        """End a session. A request that continues it is answered.

        Raises:
            Refused: if there is no such session.
        """
        self._find(name)
        del self._open[name]

    def _find(self, name: str) -> Session:
        self._end_idle()
        if name not in self._open:
            raise Refused(404, f"expected an open session, got {name!r:.40}, which has ended or never was")
        return self._open[name]

    def _end_idle(self) -> None:
        now = self._clock()
        for name in [n for n, s in self._open.items() if not s.is_busy and now - s.used >= self._idle]:
            del self._open[name]
