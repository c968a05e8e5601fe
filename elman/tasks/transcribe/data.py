"""Recordings with texts, from files or from Python."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import BadInput
from elman.tasks import _manifest
from elman.tasks._parts import Example
from elman.tasks._table import Source, check_column, names
from elman.tasks.transcribe import features
from elman.tasks.transcribe.features import Wave
from elman.tasks.transcribe.options import TranscribeOptions


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
    check_column(path, names(path, options.encoding), options.group, "--group")


def pairs(
    options: TranscribeOptions, recordings: Sequence[Any], texts: Sequence[str], groups: Sequence[Any] | None = None
) -> list[Example]:
    """N recordings, files or rows of numbers, and N texts; and what group each belongs to, perhaps.

    Raises:
        BadInput: if there are not as many of both; for a recording that cannot be used; for an empty text.
    """
    counts = [len(recordings), len(texts), *([] if groups is None else [len(groups)])]
    if len(set(counts)) > 1:
        raise BadInput(f"transcribe: expected as many texts (and groups) as recordings, got {counts}")
    found = []
    for i, (what, text) in enumerate(zip(recordings, texts, strict=True)):
        example = given(what, options, f"recording {i}")
        target = " ".join(str(text).split())
        if not target:
            raise BadInput(f"transcribe: {example.name}: expected a text, got {text!r}")
        _long_enough(example.name, example.input, target, options)
        found.append(example._replace(target=target, group=None if groups is None else groups[i]))
    return found


def given(what: Any, options: TranscribeOptions, name: str = "recording") -> Example:
    """A recording by itself: a file, or a row of numbers."""
    if isinstance(what, str | Path):
        return Example(recording(Path(what), options.rate), name=str(what))
    wave = np.asarray(what)
    if wave.ndim != 1 or wave.dtype.kind not in "if":
        raise BadInput(f"transcribe: {name}: expected a row of numbers, got {wave.dtype} of shape {wave.shape}")
    scale = float(np.iinfo(wave.dtype).max) if wave.dtype.kind == "i" else 1.0
    return Example(_sound(f"transcribe: {name}", (wave / scale).astype(np.float32)), name=name)


def recording(path: Path, rate: int) -> Wave:
    """A file of sound at this rate; of several channels the mean.

    Raises:
        BadInput: if it is none, or empty.
    """
    from soundfile import SoundFileError
    from soundfile import read as read_sound

    if not path.is_file():
        raise BadInput(f"{path}: expected a recording, found {'a folder' if path.is_dir() else 'nothing of that name'}")
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


def _sound(name: str, wave: Wave) -> Wave:
    if not wave.size:
        raise BadInput(f"{name}: expected a recording, got an empty one")
    if not np.isfinite(wave).all():
        raise BadInput(f"{name}: expected finite numbers, got {wave[~np.isfinite(wave)][0]}")
    return wave


def _long_enough(name: str, wave: Wave, text: str, options: TranscribeOptions) -> Wave:
    steps = features.steps(len(wave), options.rate, options.stack)
    if steps < needed(text):
        raise BadInput(
            f"{name}: expected at least {needed(text)} steps (--stack {options.stack}) for {text!r:.60}, got a "
            f"recording of {steps}"
        )
    return wave
