"""Recordings with texts, from files or from Python."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.files import check_there
from elman.tasks import _manifest
from elman.tasks._given import group_of, text_of
from elman.tasks._parts import Example, usable
from elman.tasks._table import Source, check_column, names
from elman.tasks.transcribe import features
from elman.tasks.transcribe.features import Wave
from elman.tasks.transcribe.options import TranscribeOptions

CHANNELS = 8  # of a recording in Python, at most
LOUDEST = 2.0**31  # as much as the widest of whole numbers in files of sound, if these were not brought to 1


def read(paths: Sequence[Source], options: TranscribeOptions) -> Iterator[Example]:
    """The recordings that a table names, with its texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, a recording that cannot be used.
    """

    def load(file: Path, text: str) -> Wave:
        return _long_enough(str(file), recording(file, options.rate), text, options)

    return _manifest.read(paths, options, load, options.group)


def check_group(path: Source, options: TranscribeOptions) -> None:
    """Whether a table has the groups by which it is to be split; a table that is not split needs none.

    Raises:
        BadInput: if it has not.
    """
    check_column(path, names(path, options.encoding, options.quote), options.group, "--group")


def pairs(
    options: TranscribeOptions, recordings: Sequence[Any], texts: Sequence[Any], groups: Sequence[Any] | None = None
) -> Iterator[Example]:
    """Recordings, files or rows of numbers, and as many texts; and what group each belongs to, perhaps.

    Raises:
        BadInput: for a recording or a text that cannot be used, if these are not skipped.
    """
    rows = enumerate(zip(recordings, texts, groups or [None] * len(texts), strict=True), 1)
    made = (partial(_paired, f"recording {i}", *row, options) for i, row in rows)
    return usable(made, options.skip_bad, "transcribe")


def _paired(name: str, what: Any, text: Any, group: Any, options: TranscribeOptions) -> Example:
    where = f"transcribe: {name}"
    target = " ".join(text_of(text, where).split())
    example = given(what, options, name)
    _long_enough(where, example.input, target, options)
    return example._replace(target=target, group=group_of(group, where), name=example.name or name)


def given(what: Any, options: TranscribeOptions, name: str = "recording") -> Example:
    """A recording by itself: a file, or numbers, of which one with several channels is their mean; these have no name.

    Raises:
        BadInput: if it is none.
    """
    if isinstance(what, str | Path):
        return Example(recording(Path(what), options.rate), name=str(what))
    where = f"transcribe: {name}"
    try:
        wave = np.asarray(what)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: expected a row of numbers, got what is none: {error}") from None
    channels = int(np.argmin(wave.shape)) if wave.ndim == 2 else None
    known = wave.ndim == 1 or (channels is not None and 0 < min(wave.shape) <= CHANNELS < max(wave.shape))
    if not known or wave.dtype.kind not in "if":
        raise BadInput(f"{where}: expected a row of numbers, got {wave.dtype} of shape {wave.shape}")
    scale = float(np.iinfo(wave.dtype).max) if wave.dtype.kind == "i" else 1.0
    wave = wave / scale
    return Example(_sound(where, wave if channels is None else wave.mean(channels)))


def recording(path: Path, rate: int) -> Wave:
    """A file of sound at this rate; of several channels the mean.

    Raises:
        BadInput: if it is none, or empty.
    """
    from soundfile import SoundFileError
    from soundfile import read as read_sound

    check_there(path, "a recording")
    try:
        channels, own = read_sound(path, dtype="float32", always_2d=True)
    except (SoundFileError, OSError) as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise BadInput(f"{path}: expected a recording, got what cannot be read as one: {reason}") from None
    return features.resampled(_sound(str(path), channels.mean(1)), own, rate)


def needed(text: str) -> int:
    """The fewest steps that a path with this text has: between equal characters it must have a blank.

    >>> needed("three")
    6
    """
    return len(text) + sum(a == b for a, b in pairwise(text))


def _sound(name: str, wave: NDArray[Any]) -> Wave:
    if not wave.size:
        raise BadInput(f"{name}: expected a recording, got an empty one")
    if not np.isfinite(wave).all():
        raise BadInput(f"{name}: expected finite numbers, got {wave[~np.isfinite(wave)][0]}")
    loudest = float(wave[np.abs(wave).argmax()])
    if abs(loudest) > LOUDEST:
        raise BadInput(f"{name}: expected a recording, with numbers from -1 to 1, got {loudest:g}")
    return wave.astype(np.float32)


def _long_enough(name: str, wave: Wave, text: str, options: TranscribeOptions) -> Wave:
    steps = features.steps(len(wave), options.rate, options.stack)
    if steps < needed(text):
        raise BadInput(
            f"{name}: expected at least {needed(text)} steps (--stack {options.stack}) for {text!r:.60}, got a "
            f"recording of {steps}"
        )
    return wave
