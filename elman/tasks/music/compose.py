"""New music from a trained model, a step at a time."""

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
from elman.tasks.music.steps import END, PITCHES, events, frames, notes, performed


def compose(model: Any, prompt: Notes | None, length: int, seed: int | None = None, **how: Any) -> Notes:
    """Go on from a prompt.

    Args:
        model: of frames or of events, in evaluation.
        prompt: a piece; None: from nothing.
        length: how many frames, or how many events at most: a piece may end before.
        seed: the same seed gives the same music; None for another each time.
        how: temperature, top_k and top_p, as for `elman.decoding.sampling.choose`.

    Returns:
        The prompt, and what comes behind it.
    """
    one = partial(choose_each, generator=generator_of(seed), **how)
    with torch.inference_mode():
        if isinstance(model, Events):
            return _events(model, events(prompt)[:-1] if prompt else np.zeros(0, np.int64), length, one)
        return _frames(model, frames(prompt) if prompt else np.zeros((0, PITCHES), bool), length, one)


def _frames(model: Frames, prompt: NDArray[np.bool_], length: int, one: Callable[[Tensor], Tensor]) -> Notes:
    found = [torch.zeros(1, PITCHES), *torch.from_numpy(prompt).float().unsqueeze(1)]
    h, state = model(torch.stack(found))
    for _ in range(length):
        found.append(model.output.draw(h[-1], found[-1], one).unsqueeze(0))
        h, state = model(found[-1].unsqueeze(0), state)
    return notes(torch.cat(found[1:]).numpy() > 0)


def _events(model: Events, prompt: NDArray[np.int64], length: int, one: Callable[[Tensor], Tensor]) -> Notes:
    found = [END, *prompt.tolist()]
    logits, state = model(torch.tensor(found).unsqueeze(1))
    for _ in range(length):
        found.append(int(one(logits[-1])))
        if found[-1] == END:
            break
        logits, state = model(torch.tensor([found[-1:]]), state)
    return performed(np.array(found[1:], np.int64))
