"""Recordings in files and in Python, as mono samples at one rate."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.filter_banks import Wave, resample
from elman.errors import BadInput
from elman.extras import needs
from elman.io.files import check_exists, opened

MAX_CHANNELS = 8  # of a recording in Python
RATES = (1000, 768_000)  # samples a second that a file may have
MAX_SAMPLES = 1 << 28  # 1 GiB
BLOCK = 1 << 20  # samples that are read at once
UNKNOWN_SIZE = 0x7FFF0000  # bytes from which on a size in a header means that it was not known
LOUDEST = 2.0**31  # the full scale of the widest integers, if samples are not scaled to 1


def read_audio(path: Path, rate: int) -> Wave:
    """Read a recording, resampled to a rate; channels are averaged.

    Raises:
        BadInput: if it is none, is empty or cut short, or claims a rate or a length that no recording has.
    """
    with needs("speech", "a recording"):
        from soundfile import SoundFile, SoundFileError

    check_exists(path, "a recording")
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
    return resample(_checked(str(path), wave), own, rate)


def check_length(where: str, samples: int, rate: int, to: int) -> None:
    """Check that a recording fits into memory, at its own rate and at the rate `to`.

    Raises:
        BadInput: if it does not.
    """
    most = max(samples, -(-samples * to // rate))
    if most > MAX_SAMPLES:
        hours = MAX_SAMPLES / max(rate, to) / 3600
        bound = f"{MAX_SAMPLES:,} samples ({hours:.1f} hours at {max(rate, to):,} a second)"
        raise BadInput(f"{where}: expected a recording of at most {bound}, got {most:,}")


def _blocks(file: Any) -> Iterator[NDArray[np.float32]]:
    """The samples of an open file in blocks (n, channels)."""
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
        if name not in ("RIFF", "FORM") and int(actual) < int(claimed) < UNKNOWN_SIZE:
            return max(frames * int(claimed) // max(int(actual), 1), frames + 1)
    if "truncated file" in log:
        return frames + 1
    if file.format == "NIST":
        with opened(path) as head:
            count = re.search(rb"sample_count -i (\d+)", head.read(1024))
        return int(count[1]) if count else 0
    return 0


def audio_from(value: Any, rate: int, where: str) -> Wave:
    """Check and scale samples (N,), or (N, channels) in either order, which are averaged.

    Raises:
        BadInput: for anything else.
    """
    try:
        wave = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: expected a row of numbers, got what is none: {error}") from None
    channels = int(np.argmin(wave.shape)) if wave.ndim == 2 else None
    known = wave.ndim == 1 or (channels is not None and 0 < min(wave.shape) <= MAX_CHANNELS < max(wave.shape))
    if not known or (wave.dtype.kind not in "if" and wave.dtype != np.uint8):
        raise BadInput(f"{where}: expected a row of numbers, got {wave.dtype} of shape {wave.shape}")
    check_length(where, max(wave.shape), rate, rate)
    wave = _full_scale(where, wave)
    return _checked(where, wave if channels is None else wave.mean(channels))


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


def _checked(name: str, wave: NDArray[Any]) -> Wave:
    if not wave.size:
        raise BadInput(f"{name}: expected a recording, got an empty one")
    if not np.isfinite(wave).all():
        raise BadInput(f"{name}: expected finite numbers, got {wave[~np.isfinite(wave)][0]}")
    loudest = float(wave[np.abs(wave).argmax()])
    if abs(loudest) > LOUDEST:
        raise BadInput(f"{name}: expected a recording, with numbers from -1 to 1, got {loudest:g}")
    return wave.astype(np.float32)
