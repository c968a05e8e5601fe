"""Reading of recordings with texts, from files or Python objects."""

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
    """Read the recordings that tables name, with their texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, or an unusable recording.
    """

    def load(file: Path, text: str) -> Wave:
        return _check_length(str(file), read_audio(file, options.rate), text, options)

    return manifests.read(paths, options, load, options.group)


def check_group(path: Source, options: TranscribeOptions) -> None:
    """Check that a table has the column of groups.

    Raises:
        BadInput: if it does not.
    """
    check_column(path, column_names(path, options.encoding, options.quote), options.group, "--group")


def read_pairs(
    options: TranscribeOptions, recordings: Sequence[Any], texts: Sequence[Any], groups: Sequence[Any] | None = None
) -> Iterator[Example]:
    """Read N recordings, files or arrays, with N texts and optionally N groups.

    Raises:
        BadInput: for an unusable recording or text, without `skip_bad`.
    """
    rows = enumerate(zip(recordings, texts, groups or [None] * len(texts), strict=True), 1)
    readers = (partial(_to_example, f"recording {i}", *row, options) for i, row in rows)
    return usable(readers, options.skip_bad, "transcribe")


def _to_example(name: str, recording: Any, text: Any, group: Any, options: TranscribeOptions) -> Example:
    where = f"transcribe: {name}"
    target = " ".join(text_of(text, where).split())
    example = parse_input(recording, options, name)
    _check_length(where, example.input, target, options)
    return example._replace(target=target, group=group_of(group, where), name=example.name or name)


def parse_input(value: Any, options: TranscribeOptions, name: str = "recording") -> Example:
    """Read a file, or take samples (N,) or (N, channels) at the rate of the options.

    Raises:
        BadInput: for anything else.
    """
    if isinstance(value, str | Path):
        return Example(read_audio(Path(value), options.rate), name=str(value))
    return Example(audio_from(value, options.rate, f"transcribe: {name}"))


def min_steps(text: str) -> int:
    """Return the fewest steps of a CTC path of a text: equal adjacent characters need a blank between them.

    >>> min_steps("three")
    6
    """
    return len(text) + sum(a == b for a, b in pairwise(text))


def _check_length(name: str, wave: Wave, text: str, options: TranscribeOptions) -> Wave:
    steps = filter_banks.num_steps(len(wave), options.rate, options.stack)
    if steps < min_steps(text):
        raise BadInput(
            f"{name}: expected at least {min_steps(text)} steps (--stack {options.stack}) for {text!r:.60}, got a "
            f"recording of {steps}"
        )
    return wave
