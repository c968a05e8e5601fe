"""The web application: endpoints, and errors as JSON."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

import elman
from elman.errors import BadInput, Failure
from elman.options import checked
from elman.report import as_json
from elman.serve import bodies
from elman.serve.bodies import openapi_body, read_body
from elman.serve.options import OVERRIDES, ServeOptions
from elman.serve.refused import Refused, line
from elman.serve.request_limits import RequestLimits, Requests
from elman.serve.service import Service
from elman.serve.uploads import Uploads, private_folder
from elman.serve.worker import GenerationStream, Rows
from elman.tasks.api import load
from elman.tasks.overrides import reading
from elman.tasks.registry import task_of_run
from elman.tasks.task import Loaded

EVENTS = "text/event-stream"
EVENT_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # so that proxies pass events on at once
REFUSALS = {
    404: "There is no such session.",
    408: "The body of the request arrives too slowly.",
    409: "Another request continues this session.",
    413: "The body of the request is too large.",
    415: "The body of the request is not JSON.",
    422: "The request cannot be used.",
    429: "There are too many requests or sessions; try again later.",
    500: "The service has failed.",
    503: "The service is being stopped.",
    504: "The request takes too long.",
}
OF_BODIES = (408, 413, 415, 422, 429, 500, 503, 504)  # of every request with a body
_log = logging.getLogger("elman.serve")


def create_app(run: Any, accelerator: str | None, options: dict[str, Any]) -> FastAPI:
    """Make the application of `elman.serve.create_app`."""
    limits = checked(ServeOptions, "create_app", {k: v for k, v in options.items() if k not in OVERRIDES}, OVERRIDES)
    trained = load(run, accelerator=accelerator)
    task = task_of_run(trained.run)
    loaded = Loaded(trained.run, trained.model, task.options_of(trained.run), trained.codec)
    return app_of(Service(task, reading(loaded, {k: v for k, v in options.items() if k in OVERRIDES}), limits))


def app_of(service: Service) -> FastAPI:
    """Make the application of a service."""
    task, limits = service.task, service.limits

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.worker.close)

    app = FastAPI(
        title=f"elman: {task.description}",
        version=elman.__version__,
        lifespan=lifespan,
        docs_url=None,  # it would load scripts from another server
        redoc_url=None,
    )
    app.state.service, app.state.requests = service, Requests()
    app.add_middleware(RequestLimits, requests=app.state.requests, max_size=limits.max_size, seconds=limits.timeout)
    _add_errors(app, service)

    @app.get("/health", response_model=bodies.HealthResponse)
    async def health() -> Response:
        """Return the state of the service."""
        return _json({"status": "ok", "waiting": service.worker.waiting, "sessions": len(service.sessions)})

    if task.can_predict:
        _add_predictions(app, service)
    if task.can_generate:
        _add_generation(app, service)
        _add_sessions(app, service)

    @app.get("/", response_model=bodies.InfoResponse)
    async def info() -> Response:
        """Describe what is served."""
        return _json({**service.describe(), "endpoints": app.state.endpoints})

    paths = app.openapi()["paths"].items()
    app.state.endpoints = sorted(f"{method.upper()} {path}" for path, methods in paths for method in methods)
    return app


def _add_predictions(app: FastAPI, service: Service) -> None:
    """Add the endpoints that predict."""
    body = bodies.predict_request(service.task)
    if body is not None:

        @app.post(
            "/predict",
            response_model=bodies.PredictResponse,
            responses=_refusals(*OF_BODIES),
            openapi_extra=openapi_body(body),
        )
        async def predict(request: Request) -> Response:
            """Predict from inputs."""
            values = (await read_body(request, body)).inputs
            return _json({"predictions": await _in_time(service, service.predict(values))})

    @app.post(
        "/predict/files",
        response_model=bodies.PredictResponse,
        responses=_refusals(*(status for status in OF_BODIES if status != 415), 400),
    )
    async def predict_files(files: list[UploadFile]) -> Response:
        """Predict from uploaded files."""
        with private_folder() as folder:
            contents = [(file.file, file.filename) for file in files]
            uploads = await asyncio.to_thread(Uploads, folder, contents)
            try:
                rows = await _in_time(service, service.predict(uploads.paths))
            except BadInput as error:
                raise BadInput(uploads.without_folder(str(error))) from None
            return _json({"predictions": [uploads.row(row) for row in rows]})


def _add_generation(app: FastAPI, service: Service) -> None:
    """Add the endpoint that generates."""
    body = bodies.generate_request(service.task, service.limits, has_seed=True)

    @app.post("/generate", **_of_generation(body, *OF_BODIES))
    async def generate(request: Request) -> Response:
        """Generate a continuation of a prompt."""
        values = await read_body(request, body)
        generation = service.start_generation(values.seed)
        stream = service.generate(generation, values.prompt, values.length, _sampling(values), not values.stream)
        return await _generated(request, stream, values.stream, generation.output)


def _add_sessions(app: FastAPI, service: Service) -> None:
    """Add the endpoints of sessions."""
    body = bodies.generate_request(service.task, service.limits, has_seed=False)

    @app.post(
        "/sessions",
        status_code=201,
        response_model=bodies.SessionResponse,
        responses=_refusals(*(status for status in OF_BODIES if status != 504)),
        openapi_extra=openapi_body(bodies.SessionRequest),
    )
    async def open_session(request: Request) -> Response:
        """Open a session: an output that several requests continue."""
        values = await read_body(request, bodies.SessionRequest)
        name = service.sessions.open(service.start_generation(values.seed))
        return _json({"id": name, "idle": service.limits.session_idle}, 201)

    @app.post("/sessions/{id}/generate", **_of_generation(body, 404, 409, *OF_BODIES))
    async def continue_session(id: str, request: Request) -> Response:
        """Continue the output of a session, with a prompt or without."""
        values = await read_body(request, body)
        session = service.sessions.take(id)

        def release() -> None:
            service.sessions.release(session)

        try:
            generation = session.generation
            whole = not values.stream
            stream = service.generate(generation, values.prompt, values.length, _sampling(values), whole, release)
        except BaseException:
            release()
            raise
        return await _generated(request, stream, values.stream, generation.output)

    @app.delete("/sessions/{id}", status_code=204, response_model=None, responses=_refusals(404, 422, 500))
    async def delete_session(id: str) -> Response:
        """End a session."""
        service.sessions.close(id)
        return Response(status_code=204)


def _sampling(values: Any) -> dict[str, Any]:
    return {"temperature": values.temperature, "top_k": values.top_k, "top_p": values.top_p}


async def _in_time(service: Service, predicting: Any) -> Rows:
    try:
        async with asyncio.timeout(service.limits.timeout):
            rows: Rows = await predicting
    except TimeoutError:
        raise Refused(504, f"expected to answer in {service.limits.timeout:g} seconds; send fewer inputs") from None
    return rows


async def _generated(
    request: Request, stream: GenerationStream, as_events: bool, output: Callable[[Sequence[Any]], dict[str, Any]]
) -> Response:
    """Answer with a stream of events, or with the whole output when it is complete."""
    if as_events:
        return StreamingResponse(_events(stream), media_type=EVENTS, headers=EVENT_HEADERS)
    leaves = asyncio.create_task(_cancel_if_gone(request, stream))
    try:
        parts = [part async for part in stream.parts()]
    finally:
        leaves.cancel()
    steps, reason = [step for part, _ in parts for step in part], parts[-1][1]
    if reason == "cancelled":
        return _Nothing()
    if reason == "time":
        raise Refused(504, f"expected to generate {len(steps) + 1} steps or more in time; ask for a smaller length")
    return _json({**output(steps), "steps": len(steps), "finish_reason": reason})


async def _cancel_if_gone(request: Request, stream: GenerationStream) -> None:
    """Cancel a stream when its client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    stream.cancel()


class _Nothing(Response):
    """No answer, for a client that has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def _events(stream: GenerationStream) -> AsyncIterator[str]:
    """Yield server-sent events: one for each step, and "done" or "error" at the end."""
    count = 0
    try:
        async for steps, reason in stream.parts():
            count += len(steps)
            events = "".join(f"data: {as_json.text(step)}\n\n" for step in steps)
            if reason is not None:
                events += f"event: done\ndata: {as_json.text({'steps': count, 'finish_reason': reason})}\n\n"
            yield events
    except Exception as error:  # the status has been sent already
        _log.error("generation failed", exc_info=error)
        yield f"event: error\ndata: {as_json.text({'error': FAILED})}\n\n"


FAILED = "the service has failed; its log has the reason"


def _add_errors(app: FastAPI, service: Service) -> None:
    """Answer errors with one line in JSON."""

    def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        return _json({"error": line(service.hidden(message))}, status, headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return refuse(error.status_code, error.detail, error.headers)

    @app.exception_handler(BadInput)
    async def bad_input(request: Request, error: BadInput) -> Response:
        return refuse(422, str(error))

    @app.exception_handler(Failure)
    async def failure(request: Request, error: Failure) -> Response:
        return refuse(500, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message = error.detail
        if error.status_code in (404, 405):
            got = f"{request.method:.20} {request.url.path:.100}"
            message = f"expected one of {', '.join(app.state.endpoints)}; got {got}"
        return refuse(error.status_code, message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refuse(422, "expected a form (multipart/form-data) with one or several files, named files")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refuse(500, FAILED)  # the server logs the error


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of OpenAPI to requests that are refused."""
    described = {400: "The form is damaged."} | REFUSALS
    return {status: {"model": bodies.ErrorResponse, "description": described[status]} for status in sorted(statuses)}


def _of_generation(body: type[BaseModel], *statuses: int) -> dict[str, Any]:
    """Return what FastAPI is told of an endpoint that generates."""
    # Tools disagree on whether the schema of a stream is that of the whole text or of an event: it has no type.
    events = {EVENTS: {"schema": {"description": 'Server-sent events: a step as JSON each, and "done" at the end.'}}}
    return {
        "response_model": bodies.GenerateResponse,
        "responses": {200: {"content": events}, **_refusals(*statuses)},
        "openapi_extra": openapi_body(body),
    }


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(as_json.text(value), status, headers, bodies.JSON)
