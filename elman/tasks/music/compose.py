"""Generation of music."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.data.midi import Notes
from elman.decoding.sampling import choose_each, generator_of
from elman.tasks.music.model import Events, Frames
from elman.tasks.music.steps import END, PITCHES, notes_of_events, notes_of_frames, to_events, to_frames
from elman.training.devices import device_of


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
    choose = partial(choose_each, generator=generator_of(seed), **sampling)
    with torch.inference_mode():
        if isinstance(model, Events):
            return _compose_events(model, to_events(prompt)[:-1] if prompt else np.zeros(0, np.int64), length, choose)
        return _compose_frames(model, to_frames(prompt) if prompt else np.zeros((0, PITCHES), bool), length, choose)


def _compose_frames(model: Frames, prompt: NDArray[np.bool_], length: int, choose: Callable[[Tensor], Tensor]) -> Notes:
    frames = torch.from_numpy(prompt).to(device_of(model), torch.float32)
    steps = [frames.new_zeros(1, PITCHES), *frames.unsqueeze(1)]
    h, state = model(torch.stack(steps))
    for _ in range(length):
        steps.append(model.output.draw(h[-1], steps[-1], choose).unsqueeze(0))
        h, state = model(steps[-1].unsqueeze(0), state)
    return notes_of_frames(torch.cat(steps[1:]).cpu().numpy() > 0)


def _compose_events(model: Events, prompt: NDArray[np.int64], length: int, choose: Callable[[Tensor], Tensor]) -> Notes:
    steps, device = [END, *prompt.tolist()], device_of(model)
    logits, state = model(torch.tensor(steps, device=device).unsqueeze(1))
    for _ in range(length):
        steps.append(int(choose(logits[-1])))
        if steps[-1] == END:
            break
        logits, state = model(torch.tensor([steps[-1:]], device=device), state)
    return notes_of_events(np.array(steps[1:], np.int64))
