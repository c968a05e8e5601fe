"""The bodies of requests and responses, from which OpenAPI is derived."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from elman.io.schema import STRICT, validated
from elman.options import Options
from elman.serve.options import ServeOptions
from elman.serve.refused import Refused
from elman.tasks.sampling_options import SamplingOptions
from elman.tasks.task import Task

LENGTH = 200  # steps to generate by default
JSON = "application/json"


class ErrorResponse(BaseModel):
    """The reason why a request is refused."""

    error: Annotated[str, Field(description="The reason, in one line.")]


class PredictResponse(BaseModel):
    """Predictions, as `elman predict --format json` prints them."""

    predictions: Annotated[
        list[dict[str, Any]],
        Field(description="Rows by column name: one for each input, word or step of a forecast."),
    ]


class GenerateResponse(BaseModel):
    """What was generated, without the prompt."""

    model_config = ConfigDict(extra="allow")  # what the task adds: its text, or its notes

    steps: Annotated[int, Field(description="The number of steps: tokens, frames or events.")]
    finish_reason: Annotated[
        Literal["length", "end"], Field(description="The reason why it ends: its length, or the end of the piece.")
    ]


class SessionRequest(Options):
    """A session to open."""

    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="Random seed; null: a random one.")] = None


class SessionResponse(BaseModel):
    """An open session."""

    id: Annotated[str, Field(description="The identifier. Whoever has it can continue the session.")]
    idle: Annotated[float, Field(description="Seconds after which the session ends if it is not used.")]


class HealthResponse(BaseModel):
    """The state of the service."""

    status: Literal["ok"]
    waiting: Annotated[int, Field(description="Requests that wait or run.")]
    sessions: Annotated[int, Field(description="Open sessions.")]


class InfoResponse(BaseModel):
    """What is served."""

    elman: Annotated[str, Field(description="The version of elman.")]
    run: Annotated[str, Field(description="The name of the run folder.")]
    task: str
    model: Annotated[str, Field(description="The title of the model.")]
    classes: Annotated[list[str] | None, Field(description="The labels; null for a task without.")]
    scores: Annotated[
        dict[str, dict[str, float | None]], Field(description="Scores of the model and of the baselines, by title.")
    ]
    limits: dict[str, float]
    endpoints: list[str]


def predict_request(task: Task) -> type[BaseModel] | None:
    """Return the body of POST /predict; None if the task takes uploaded files only."""
    kind = list[str] if task.json_inputs is None and task.accepts_texts else task.json_inputs
    if kind is None:
        return None
    return create_model("PredictRequest", __config__=STRICT, inputs=(kind, Field(description="The inputs.")))


def generate_request(task: Task, limits: ServeOptions, has_seed: bool) -> type[BaseModel]:
    """Return the body of a request to generate.

    Args:
        task: the task.
        limits: the limits of the service.
        has_seed: whether the request has a random seed; that of a session is set when the session is opened.
    """
    length = Annotated[int, Field(ge=1, le=limits.max_length, description="The largest number of steps to generate.")]
    prompt = Field(default=None, description="The beginning, which is continued; null: nothing.")
    stream = Field(default=False, description="Send the steps as server-sent events as they are generated.")
    fields: dict[str, Any] = {
        "prompt": (task.json_prompt | None, prompt),
        "length": (length, min(LENGTH, limits.max_length)),
        "stream": (bool, stream),
        **{name: _field(field) for name, field in SamplingOptions.model_fields.items() if name != "seed" or has_seed},
    }
    return create_model("GenerateRequest" if has_seed else "ContinueRequest", __base__=Options, **fields)


def _field(field: FieldInfo) -> tuple[Any, Any]:
    constraints = [part for part in field.metadata if not hasattr(part, "param_decls")]  # without those of typer
    return Annotated[(field.annotation, *constraints, Field(description=field.description))], field.default


def openapi_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the part of an OpenAPI operation that describes its body."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": model.model_json_schema()}}}}


async def read_body(request: Request, model: type[BaseModel]) -> Any:
    """Read and validate the body of a request.

    Raises:
        Refused: if it is not JSON of this form.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise Refused(415, f"expected a body of the type {JSON}, got {media_type!r:.100}")
    try:
        return validated(model, await request.body(), "json")
    except ValueError as error:
        raise Refused(422, str(error)) from None
