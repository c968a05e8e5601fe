"""Limits of the bodies of requests, as ASGI middleware."""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elman.io.terminal import Verbosity, set_verbosity
from elman.serve.refused import Refused

MB = 1_000_000


@dataclass
class Requests:
    """The number of requests that have arrived, and of those that have been answered to the end.

    If all have ended, the clients of the others have left before.
    """

    arrived: int = 0
    answered: int = 0


class RequestLimits:
    """Refuses bodies that are too large, whether their size is stated or not, and that arrive too slowly.

    Args:
        app: the application.
        requests: counts the requests.
        max_size: the largest size, in MB.
        seconds: in which a body must arrive.
    """

    def __init__(self, app: ASGIApp, requests: Requests, max_size: float, seconds: float) -> None:
        self._app, self._requests, self._max_size, self._seconds = app, requests, max_size, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        set_verbosity(Verbosity.QUIET)  # notes are for people at the command line
        until, size, is_complete = asyncio.get_running_loop().time() + self._seconds, 0, False
        stated = dict(scope["headers"]).get(b"content-length", b"")

        async def limited() -> Message:
            nonlocal size, is_complete
            if is_complete:  # the message that follows the body is that the client is gone
                return await receive()
            self._check(int(stated) if stated.isdigit() else 0)
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, f"expected the request in {self._seconds:g} seconds, got a part of it") from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                self._check(size)
                is_complete = not message.get("more_body", False)
            return message

        async def counted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._requests.answered += 1

        self._requests.arrived += 1
        await self._app(scope, limited, counted)

    def _check(self, size: int) -> None:
        if size > self._max_size * MB:
            raise Refused(413, f"expected a request of at most {self._max_size:g} MB, got a larger one")
