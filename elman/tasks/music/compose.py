"""Generation of music."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from elman.data.midi import Notes
from elman.decoding.sampling import choose_each, generator_of
from elman.tasks.music.model import Events, Frames
from elman.tasks.music.steps import END, PITCHES, notes_of_events, notes_of_frames, to_events, to_frames
from elman.training.devices import device_of

BLOCK = 1024  # steps of a prompt that are fed to the model at once
Step = TypeVar("Step")
Choose = Callable[[Tensor], Tensor]


class Composer(ABC, Generic[Step]):
    """Composes step by step, and keeps the state of the model and of the random number generator between calls.

    Args:
        model: a model of frames or events, in evaluation mode.
        seed: the same seed gives the same music; None: a different one each time.
    """

    def __init__(self, model: Any, seed: int | None) -> None:
        self._model, self._generator, self._device = model, generator_of(seed), device_of(model)
        self._state: Any = None
        self._pending: list[Any] = [self._begin()]  # steps that the model has not read yet

    @abstractmethod
    def encode(self, prompt: Notes) -> list[Any]:
        """Return the steps of a piece, as the composer yields them."""

    def read(self, steps: Sequence[Any]) -> None:
        """Continue with steps."""
        self._pending += map(self._to_input, steps)

    def compose(self, length: int, **sampling: Any) -> Iterator[Step]:
        """Yield composed steps.

        Args:
            length: the largest number of steps. A piece of events may end before.
            sampling: `temperature`, `top_k` and `top_p`, as for `elman.decoding.sampling.choose`.
        """
        choose = partial(choose_each, generator=self._generator, **sampling)
        for _ in range(length):
            with torch.inference_mode():
                while len(self._pending) > BLOCK:
                    self._feed(self._pending[:BLOCK])
                    self._pending = self._pending[BLOCK:]
                drawn = self._draw(self._feed(self._pending), choose)
            self._pending = [drawn]
            step = self._from_input(drawn)
            if step is None:
                return
            yield step

    def _feed(self, steps: Sequence[Any]) -> Tensor:
        """Feed steps to the model, and return its last output, (1, ...)."""
        outputs, self._state = self._model(self._stacked(steps), self._state)
        last: Tensor = outputs[-1]
        return last

    @abstractmethod
    def _begin(self) -> Any:
        """Return the step before the first."""

    @abstractmethod
    def _stacked(self, steps: Sequence[Any]) -> Tensor:
        """Return steps as a tensor for the model."""

    @abstractmethod
    def _draw(self, output: Tensor, choose: Choose) -> Any:
        """Draw a step, as the model reads it."""

    @abstractmethod
    def _from_input(self, drawn: Any) -> Step | None:
        """Return a step that the model reads; None for the end of a piece."""

    @abstractmethod
    def _to_input(self, step: Step) -> Any:
        """Return a step as the model reads it."""


class FrameComposer(Composer[NDArray[np.bool_]]):
    """Composes frames, (128,)."""

    @override
    def encode(self, prompt: Notes) -> list[NDArray[np.bool_]]:
        return [*to_frames(prompt)]

    @override
    def _begin(self) -> Any:
        return torch.zeros(1, PITCHES, device=self._device)

    @override
    def _stacked(self, steps: Sequence[Any]) -> Tensor:
        return torch.stack([*steps])

    @override
    def _draw(self, output: Tensor, choose: Choose) -> Tensor:
        frame: Tensor = self._model.output.draw(output, self._pending[-1], choose)
        return frame.unsqueeze(0)

    @override
    def _from_input(self, drawn: Tensor) -> NDArray[np.bool_]:
        step: NDArray[np.bool_] = drawn[0].cpu().numpy() > 0
        return step

    @override
    def _to_input(self, step: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(step).to(self._device, torch.float32).unsqueeze(0)


class EventComposer(Composer[int]):
    """Composes events. After the end of a piece the next one begins."""

    @override
    def encode(self, prompt: Notes) -> list[int]:
        events: list[int] = to_events(prompt)[:-1].tolist()
        return events

    @override
    def _begin(self) -> Any:
        return END

    @override
    def _stacked(self, steps: Sequence[Any]) -> Tensor:
        return torch.tensor(steps, device=self._device).unsqueeze(1)

    @override
    def _draw(self, output: Tensor, choose: Choose) -> int:
        return int(choose(output))

    @override
    def _from_input(self, drawn: int) -> int | None:
        return None if drawn == END else drawn

    @override
    def _to_input(self, step: int) -> int:
        return step


def composer_of(model: Frames | Events, seed: int | None) -> Composer[Any]:
    """Return the composer of a model."""
    return EventComposer(model, seed) if isinstance(model, Events) else FrameComposer(model, seed)


def notes_of(model: Frames | Events, steps: Sequence[Any]) -> Notes:
    """Return the notes of steps that a composer has yielded."""
    if isinstance(model, Events):
        return notes_of_events(np.array(steps, np.int64))
    return notes_of_frames(np.array(steps, bool).reshape(-1, PITCHES))


def compose(model: Any, prompt: Notes | None, length: int, seed: int | None = None, **sampling: Any) -> Notes:
    """Continue a prompt.

    Args:
        model: a model of frames or events, in evaluation mode.
        prompt: a piece; None: start from nothing.
        length: the number of frames, or the largest number of events: a piece of events may end before.
        seed: the same seed gives the same music; None: a different one each time.
        sampling: `temperature`, `top_k` and `top_p`, as for `elman.decoding.sampling.choose`.

    Returns:
        The prompt and its continuation.
    """
    composer = composer_of(model, seed)
    steps = composer.encode(prompt) if prompt else []
    composer.read(steps)
    return notes_of(model, [*steps, *composer.compose(length, **sampling)])
