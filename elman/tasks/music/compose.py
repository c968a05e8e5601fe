"""Generation of music."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from elman.data.midi import Notes
from elman.decoding.sampler import Sampler, TokenSampler
from elman.decoding.sampling import Sampling, choose_each
from elman.tasks.music.model import Events, Frames
from elman.tasks.music.steps import END, PITCHES, notes_of_events, notes_of_frames, to_events, to_frames


class FrameComposer(Sampler[NDArray[np.bool_]]):
    """Composes frames, (128,).

    Args:
        model: a model of frames, in evaluation mode.
        seed: the same seed gives the same music; None: a different one each time.
    """

    def __init__(self, model: Frames, seed: int | None) -> None:
        super().__init__(model, seed)
        self.pending = [torch.zeros(PITCHES, device=self.device)]

    def encode(self, prompt: Notes) -> list[NDArray[np.bool_]]:
        """Return the steps of a piece, as the composer yields them."""
        return [*to_frames(prompt)]

    def read(self, steps: Sequence[NDArray[np.bool_]]) -> None:
        """Continue with steps."""
        self.pending += [torch.from_numpy(step).to(self.device, torch.float32) for step in steps]

    @override
    def stacked(self, steps: Sequence[Tensor]) -> Tensor:
        return torch.stack([*steps])

    @override
    def draw(self, hidden: Tensor, sampling: Sampling) -> Tensor:
        choose = partial(choose_each, generator=self.generator, **sampling._asdict())
        frame: Tensor = self.model.output.draw(hidden, self.pending[-1].unsqueeze(0), choose)
        return frame

    @override
    def to_step(self, drawn: Tensor) -> NDArray[np.bool_]:
        step: NDArray[np.bool_] = drawn.cpu().numpy() > 0
        return step


class EventComposer(TokenSampler):
    """Composes events. After the end of a piece the next one begins.

    Args:
        model: a model of events, in evaluation mode.
        seed: the same seed gives the same music; None: a different one each time.
    """

    def __init__(self, model: Events, seed: int | None) -> None:
        super().__init__(model, seed, [END], end=END)

    def encode(self, prompt: Notes) -> list[int]:
        """Return the steps of a piece, as the composer yields them."""
        events: list[int] = to_events(prompt)[:-1].tolist()
        return events

    def read(self, steps: Sequence[int]) -> None:
        """Continue with steps."""
        self.pending += steps


def composer_of(model: Frames | Events, seed: int | None) -> FrameComposer | EventComposer:
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
    composer: Any = composer_of(model, seed)
    steps = composer.encode(prompt) if prompt else []
    composer.read(steps)
    return notes_of(model, [*steps, *composer.sample(length, **sampling)])
