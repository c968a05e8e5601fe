"""Recordings with texts, from files or from Python."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from elman.data import filter_banks, manifests
from elman.data.audio import audio_from, read_audio
from elman.data.examples import Example, usable
from elman.data.filter_banks import Wave
from elman.data.tables import Source, check_column, column_names
from elman.data.validation import group_of, text_of
from elman.errors import BadInput
from elman.tasks.transcribe.options import TranscribeOptions


def read(paths: Sequence[Source], options: TranscribeOptions) -> Iterator[Example]:
    """The recordings that a table names, with its texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, a recording that cannot be used.
    """

    def load(file: Path, text: str) -> Wave:
        return _long_enough(str(file), read_audio(file, options.rate), text, options)

    return manifests.read(paths, options, load, options.group)


def check_group(path: Source, options: TranscribeOptions) -> None:
    """Whether a table has the groups by which it is to be split; a table that is not split needs none.

    Raises:
        BadInput: if it has not.
    """
    check_column(path, column_names(path, options.encoding, options.quote), options.group, "--group")


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
    example = parse_input(what, options, name)
    _long_enough(where, example.input, target, options)
    return example._replace(target=target, group=group_of(group, where), name=example.name or name)


def parse_input(value: Any, options: TranscribeOptions, name: str = "recording") -> Example:
    """A file, or samples (N,) or (N, channels) at the options' rate, which have no name.

    Raises:
        BadInput: for anything else.
    """
    if isinstance(value, str | Path):
        return Example(read_audio(Path(value), options.rate), name=str(value))
    return Example(audio_from(value, options.rate, f"transcribe: {name}"))


def needed(text: str) -> int:
    """The fewest steps that a path with this text has: between equal characters it must have a blank.

    >>> needed("three")
    6
    """
    return len(text) + sum(a == b for a, b in pairwise(text))


def _long_enough(name: str, wave: Wave, text: str, options: TranscribeOptions) -> Wave:
    steps = filter_banks.num_steps(len(wave), options.rate, options.stack)
    if steps < needed(text):
        raise BadInput(
            f"{name}: expected at least {needed(text)} steps (--stack {options.stack}) for {text!r:.60}, got a "
            f"recording of {steps}"
        )
    return wave
