"""Runs an application in a web server."""

import math
import os
import socket
from typing import TYPE_CHECKING

from elman.errors import BadInput
from elman.extras import needs
from elman.io.terminal import Verbosity, note, verbosity

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE = 5  # seconds beyond the time limit of requests, to send their last bytes
BACKLOG = 2048  # connections that wait to be accepted


def serve(app: "FastAPI", listening: socket.socket, host: str, timeout: float) -> None:
    """Serve until SIGINT or SIGTERM, then answer the requests that have arrived, and refuse new ones.

    Args:
        app: the application.
        listening: from `listen`.
        host: its address, as the user has written it.
        timeout: the time limit of requests, in seconds.
    """
    with needs("serve", "elman serve"):
        import uvicorn

    is_verbose = verbosity() >= Verbosity.VERBOSE
    name = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app,
        log_level="info" if is_verbose else "warning",
        access_log=is_verbose,
        timeout_graceful_shutdown=math.ceil(timeout) + GRACE,
        ws="none",
        server_header=False,
    )
    if not listening.getsockname()[0].startswith(("127.", "::1")):
        note(f"--host {host}: anyone who can reach this address can use the model: there is no password")
    note(f"serving on http://{name}:{listening.getsockname()[1]}; press Ctrl-C to stop")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        requests = app.state.requests
        left = requests.arrived - requests.answered
        others = f"; the clients of {left} left before" if left else ""
        note(f"stopped; {requests.answered} of {requests.arrived} requests were answered{others}")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        BadInput: for an address that does not exist or is not free.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise BadInput(f"--host {host} --port {port}: expected a free address of this machine, got {reason}") from None
    # asyncio sends at once (TCP_NODELAY) on sockets that name their protocol; others hold back the body of an answer
    # until the client has acknowledged the headers, 40 ms later.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listening.detach())
