"""The limits of a service. Imports nothing heavy."""

from typing import Annotated

from pydantic import Field

from elman.options import Options, Real, Whole
from elman.tasks.overrides import DECODING_NAMES, NAMES

# Options of the training that a service can override. A request with an input that cannot be used is refused whole.
OVERRIDES = tuple(name for name in (*NAMES, *DECODING_NAMES) if name != "skip_bad")
Seconds = Annotated[Real, Field(gt=0, le=86_400)]


class ServeOptions(Options):
    """The limits of a service."""

    max_batch: Annotated[
        Whole, Field(ge=1, description="Largest number of inputs to predict together, and of outputs to generate.")
    ] = 64
    max_wait: Annotated[
        Real,
        Field(ge=0, le=1000, description="Milliseconds that a request waits for others, to be predicted together."),
    ] = 2.0
    max_waiting: Annotated[Whole, Field(ge=1, description="Largest number of requests that wait or run.")] = 256
    max_size: Annotated[Real, Field(gt=0, le=1024, description="Largest size of a request, in MB.")] = 8.0
    max_inputs: Annotated[Whole, Field(ge=1, description="Largest number of inputs of a request.")] = 256
    max_steps: Annotated[
        Whole, Field(ge=1, description="Largest number of time steps of the inputs, or of the prompt, of a request.")
    ] = 10_000
    max_length: Annotated[Whole, Field(ge=1, description="Largest number of steps that a request generates.")] = 2_000
    timeout: Annotated[Seconds, Field(description="Seconds after which a request ends.")] = 30.0
    max_sessions: Annotated[Whole, Field(ge=0, description="Largest number of sessions.")] = 64
    session_idle: Annotated[Seconds, Field(description="Seconds after which an unused session ends.")] = 600.0
