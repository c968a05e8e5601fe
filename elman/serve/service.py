"""A trained model that answers requests, without HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any

import elman
from elman.errors import BadInput
from elman.serve.options import ServeOptions
from elman.serve.sessions import Sessions
from elman.serve.worker import GenerationStream, Rows, Worker
from elman.tasks.task import Generation, Input, Loaded, Task


class Service:
    """A model, the thread that runs it, and sessions.

    Args:
        task: the task of the model.
        loaded: the model.
        limits: the limits.
    """

    def __init__(self, task: Task, loaded: Loaded, limits: ServeOptions) -> None:
        self.task, self.limits = task, limits
        changes = {"skip_bad": False, "batch": limits.max_batch}
        changes = {name: value for name, value in changes.items() if hasattr(loaded.options, name)}
        self._loaded = replace(loaded, options=loaded.options.model_copy(update=changes))
        self.worker = Worker(self._predict, limits.max_batch, limits.max_wait / 1000, limits.max_waiting)
        self.sessions = Sessions(limits.max_sessions, limits.session_idle)

    async def predict(self, values: Any) -> Rows:
        """Predict from inputs, JSON values of the type `json_inputs` of the task or a list of paths.

        Raises:
            BadInput: for inputs that cannot be used.
            Refused: if too many requests wait.
        """
        return await self.worker.predict(partial(self._inputs, values))

    def start_generation(self, seed: int | None) -> Generation:
        """Start an output that is generated step by step."""
        return self.task.start_generation(self._loaded, seed)

    def generate(
        self,
        generation: Generation,
        prompt: Any,
        length: int,
        sampling: dict[str, Any],
        is_whole: bool,
        on_end: Callable[[], None] | None = None,
    ) -> GenerationStream:
        """Generate a stream of steps.

        Args:
            generation: the output to continue.
            prompt: the prompt; None: none.
            length: the largest number of steps.
            sampling: temperature, top_k and top_p.
            is_whole: whether the steps are wanted at the end only.
            on_end: called when the generation has ended.

        Raises:
            BadInput: for an unusable prompt.
            Refused: if too many requests wait.
        """
        max_steps = self.limits.max_steps
        self.worker.check_free()  # before the prompt changes the state
        if prompt is not None:
            if len(prompt) > max_steps:  # before it takes time to encode it
                raise BadInput(f"prompt: expected at most {max_steps:,} time steps, got more")
            generation.read(prompt, max_steps)
        stream = GenerationStream(generation, length, sampling, self.limits.timeout, is_whole, on_end)
        self.worker.stream(stream)
        return stream

    def describe(self) -> dict[str, Any]:
        """Describe what is served."""
        run, labels = self._loaded.run, getattr(self._loaded.codec, "labels", None)
        return {
            "elman": elman.__version__,
            "run": run.path.resolve().name,
            "task": self.task.name,
            "model": str(self._loaded.model.title),
            "classes": None if labels is None else [str(label) for label in labels],
            "scores": run.config.get("scores") or {},
            "limits": self.limits.model_dump(),
        }

    def hidden(self, message: str) -> str:
        """Return a message without the folder of the run."""
        path = self._loaded.run.path
        return message.replace(str(path), path.name) if path.is_absolute() else message

    def _inputs(self, values: Any) -> list[Input]:
        most = self.limits.max_inputs
        inputs = list(islice(chain.from_iterable(self.task.parse_inputs(self._loaded, values)), most + 1))
        if len(inputs) > most:
            raise BadInput(f"inputs: expected at most {most:,}, got more")
        return inputs

    def _predict(self, requests: Sequence[Sequence[Input]]) -> Sequence[Rows | Exception]:
        return self.task.predict_requests(self._loaded, requests, self.limits.max_steps)
