"""The baseline of music: an n-gram."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.baselines.kneser_ney import NGram, best
from elman.data.examples import Example
from elman.data.splits import SHARE
from elman.tasks.music.codec import MusicCodec
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import EVENTS, PITCHES
from elman.tasks.supervised import Baseline

AGAIN = (
    PITCHES + 1
)  # by validation: chorales 5.57 nats per frame, 5.66 without; as MIDI, 4 steps to a quarter, 1.49 and 3.41
MAX_ORDER = {"frames": 14, "events": 14}  # of the n-grams that are tried


def spelled(frames: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The notes of each frame from the top, pitch p as p + 1, and 0 behind each; and to which frame each belongs.

    A frame like the one before is `AGAIN`: so on a fine grid an n-gram of a few tokens sees how long it has sounded.

    >>> tokens, frame = spelled(np.eye(128, dtype=bool)[[60, 64, 64]])
    >>> tokens.tolist(), frame.tolist()
    ([61, 0, 65, 0, 129], [0, 0, 1, 1, 2])
    """
    again = np.append(False, (frames[1:] == frames[:-1]).all(1))[:, None]
    columns = np.concatenate((frames[:, ::-1] & ~again, ~again, again), 1)
    frame, column = np.nonzero(columns)
    return np.where(column > PITCHES, AGAIN, PITCHES - column), frame


def plain(events: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events are tokens already."""
    return events, np.arange(len(events))


class MusicNGram(Baseline):
    """An n-gram over the events, or over the notes of the frames, one by one from the top.

    Of frames its order covers the notes of the frame so far and some of those before. What it gives to notes that are
    out of their order is lost to it.

    Args:
        model: over tokens, of which 0 stands before each piece too.
        steps: "frames" or "events".
    """

    def __init__(self, model: NGram, steps: str) -> None:
        self._model, self._spell = model, _spelling(steps)
        self.title = model.title + (" over notes" if steps == "frames" else "")

    @classmethod
    def fit(cls, train: Sequence[Example], steps: str) -> "MusicNGram":
        """Its order is the best for a tenth of the pieces, by all others; then it is fitted on all."""
        spell, size = _spelling(steps), EVENTS if steps == "events" else AGAIN + 1
        texts = [spell(example.input)[0] for example in train]
        held = texts[::SHARE] if len(texts) > 1 else texts
        rest = [text for i, text in enumerate(texts) if i % SHARE] or texts
        order = best(_joined(rest), _joined(held), size, MAX_ORDER[steps]).order
        return cls(NGram.fit(_joined(texts), size, order), steps)

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in self._model.tensors().items()}

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        """The nats of each step, (T,)."""
        predictions = []
        for example in examples:
            tokens, step = self._spell(example.input)
            nats = self._model.nats(np.append(0, tokens))
            predictions.append(np.bincount(step, nats, len(example.input)))
        return predictions


def _spelling(steps: str) -> Callable[[Any], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return spelled if steps == "frames" else plain


def _joined(texts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), *texts])


def fit_baselines(codec: MusicCodec, train: Sequence[Example], options: MusicOptions, seed: int) -> list[Baseline]:
    """An n-gram."""
    return [MusicNGram.fit(train, codec.steps)]


def load_baselines(codec: MusicCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """From their tensors."""
    return [MusicNGram(NGram.from_tensors({name: tensor.numpy() for name, tensor in tensors.items()}), codec.steps)]
