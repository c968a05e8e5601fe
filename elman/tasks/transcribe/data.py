"""Recordings with texts, from files or from Python."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data import filter_banks, manifests
from elman.data.examples import Example, usable
from elman.data.filter_banks import Wave
from elman.data.tables import Source, check_column, names
from elman.data.validation import group_of, text_of
from elman.errors import BadInput
from elman.io.files import check_there, opened
from elman.tasks.transcribe.options import TranscribeOptions

CHANNELS = 8  # of a recording in Python, at most
RATES = (1000, 768_000)  # samples a second that a file may have
LONGEST = 1 << 28  # samples of a recording, 1 GiB
BLOCK = 1 << 20  # samples that are read at once
UNKNOWN = 0x7FFF0000  # bytes from which on a size stands for one that was not known
LOUDEST = 2.0**31  # as much as the widest of whole numbers in files of sound, if these were not brought to 1


def read(paths: Sequence[Source], options: TranscribeOptions) -> Iterator[Example]:
    """The recordings that a table names, with its texts.

    Raises:
        BadInput: for a table without these columns, a row without a text, a recording that cannot be used.
    """

    def load(file: Path, text: str) -> Wave:
        return _long_enough(str(file), recording(file, options.rate), text, options)

    return manifests.read(paths, options, load, options.group)


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
    if not known or (wave.dtype.kind not in "if" and wave.dtype != np.uint8):
        raise BadInput(f"{where}: expected a row of numbers, got {wave.dtype} of shape {wave.shape}")
    check_length(where, max(wave.shape), options.rate, options.rate)
    wave = _full_scale(where, wave)
    return Example(_sound(where, wave if channels is None else wave.mean(channels)))


def recording(path: Path, rate: int) -> Wave:
    """A file of sound at this rate; of several channels the mean.

    Raises:
        BadInput: if it is none, is empty or cut short, or claims a rate or a length that no recording has.
    """
    from soundfile import SoundFile, SoundFileError

    check_there(path, "a recording")
    try:
        with SoundFile(path) as file:
            own, frames = file.samplerate, file.frames
            if not RATES[0] <= own <= RATES[1]:
                expected = f"a recording of {RATES[0]:,} to {RATES[1]:,} samples a second"
                raise BadInput(f"{path}: expected {expected}, got {own:,} by its header")
            check_length(str(path), frames, own, rate)
            wave = np.concatenate([block.mean(1) for block in _blocks(file)] or [np.zeros(0, np.float32)])
            claimed = max(frames, _claimed(path, file))
            if len(wave) < claimed:
                raise BadInput(
                    f"{path}: expected {claimed:,} samples by its header, got {len(wave):,}: the file is cut short"
                )
    except (SoundFileError, OSError) as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise BadInput(f"{path}: expected a recording, got what cannot be read as one: {reason}") from None
    return filter_banks.resampled(_sound(str(path), wave), own, rate)


def check_length(where: str, samples: int, rate: int, to: int) -> None:
    """Whether a recording is not too long for memory, as it is and at the rate that it is brought to.

    Raises:
        BadInput: if it is.
    """
    most = max(samples, -(-samples * to // rate))
    if most > LONGEST:
        hours = LONGEST / max(rate, to) / 3600
        raise BadInput(
            f"{where}: expected a recording of at most {LONGEST:,} samples ({hours:.1f} hours at {max(rate, to):,} a "
            f"second), got {most:,}"
        )


def _blocks(file: Any) -> Iterator[NDArray[np.float32]]:
    """The samples of an open file, piece by piece, (n, channels)."""
    at_once = max(BLOCK // file.channels, 1)
    while len(block := file.read(at_once, dtype="float32", always_2d=True)):
        yield block


def _claimed(path: Path, file: Any) -> int:
    """How many samples a channel a file has by its header, where libsndfile has found that it has fewer; else 0.

    libsndfile takes the length from the size of the file then, and tells so in its log: "data : 8000 (should be 2000)".
    Programs that write into a pipe don't know the size, and claim the largest.
    """
    log, frames = str(file.extra_info), int(file.frames)
    if found := re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", log):
        return int(found[2])
    for name, claimed, actual in re.findall(r"^\s*(.+?)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE):
        if name not in ("RIFF", "FORM") and int(actual) < int(claimed) < UNKNOWN:
            return max(frames * int(claimed) // max(int(actual), 1), frames + 1)
    if "truncated file" in log:
        return frames + 1
    if file.format == "NIST":
        with opened(path) as head:
            count = re.search(rb"sample_count -i (\d+)", head.read(1024))
        return int(count[1]) if count else 0
    return 0


def needed(text: str) -> int:
    """The fewest steps that a path with this text has: between equal characters it must have a blank.

    >>> needed("three")
    6
    """
    return len(text) + sum(a == b for a, b in pairwise(text))


def _full_scale(where: str, wave: NDArray[Any]) -> NDArray[Any]:
    """Samples with 1 for full scale: that of 8 bits for these, else the least of 16 and 32 bits that holds all of them.

    Arrays of 64 bits, as lists of whole numbers become, hold samples of a narrower kind; and so do many of 32 bits.
    Bytes without sign have their zero at 128, as in WAV files.

    Raises:
        BadInput: for more than 32 bits.
    """
    if wave.dtype.kind == "f":
        return wave
    if wave.dtype == np.uint8:
        return (wave.astype(np.float64) - 128) / 128
    largest = max((abs(int(wave.min())), abs(int(wave.max())))) if wave.size else 0
    if largest > 1 << 31:
        raise BadInput(f"{where}: expected whole numbers of at most 32 bits, got {largest:,}")
    bits = 8 if wave.dtype == np.int8 else 16 if largest <= 1 << 15 else 32
    return wave / float(1 << (bits - 1))


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
    steps = filter_banks.steps(len(wave), options.rate, options.stack)
    if steps < needed(text):
        raise BadInput(
            f"{name}: expected at least {needed(text)} steps (--stack {options.stack}) for {text!r:.60}, got a "
            f"recording of {steps}"
        )
    return wave
