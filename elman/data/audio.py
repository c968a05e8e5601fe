"""Read audio from files and Python arrays, as mono samples at one sample rate."""

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

MAX_CHANNELS = 8  # maximum number of channels of an array
RATE_BOUNDS = (1000, 768_000)  # lowest and highest sample rate of a file, in Hz
MAX_SAMPLES = 1 << 28  # longest recording; 1 GiB in float32
BLOCK = 1 << 20  # samples read at once
MIN_UNKNOWN_SIZE = 0x7FFF0000  # header sizes from this value on mean that the size was unknown
MAX_AMPLITUDE = 2.0**31  # largest sample: full scale of 32-bit integers, for samples that were not scaled to 1


def read_audio(path: Path, rate: int) -> Wave:
    """Read an audio file, average its channels and resample it.

    Args:
        path: the file.
        rate: sample rate of the result, in Hz.

    Returns:
        Samples (N,), from -1 to 1.

    Raises:
        BadInput: if the file is no recording, is empty or truncated, or its header has an implausible rate or length.
    """
    with needs("speech", "a recording"):
        from soundfile import SoundFile, SoundFileError

    check_exists(path, "a recording")
    try:
        with SoundFile(path) as file:
            file_rate, frames = file.samplerate, file.frames
            if not RATE_BOUNDS[0] <= file_rate <= RATE_BOUNDS[1]:
                expected = f"a sample rate of {RATE_BOUNDS[0]:,} to {RATE_BOUNDS[1]:,} Hz"
                raise BadInput(f"{path}: expected {expected}, got {file_rate:,} in its header")
            check_length(str(path), frames, file_rate, rate)
            wave = np.concatenate([block.mean(1) for block in _blocks(file)] or [np.zeros(0, np.float32)])
            claimed = max(frames, _claimed(path, file))
            if len(wave) < claimed:
                raise BadInput(
                    f"{path}: expected {claimed:,} samples according to its header, got {len(wave):,}: the file "
                    "is truncated"
                )
    except (SoundFileError, OSError) as error:
        reason = str(error).rsplit(": ", 1)[-1].strip()
        raise BadInput(f"{path}: expected a recording, got a file that cannot be read as one: {reason}") from None
    return resample(_checked(str(path), wave), file_rate, rate)


def check_length(where: str, samples: int, rate: int, to: int) -> None:
    """Check that a recording fits into memory, at its own rate and at the rate `to`.

    Args:
        where: the recording, for the error message.
        samples: number of samples.
        rate: sample rate, in Hz.
        to: target sample rate, in Hz.

    Raises:
        BadInput: if it does not.
    """
    longest = max(samples, -(-samples * to // rate))
    if longest > MAX_SAMPLES:
        hours = MAX_SAMPLES / max(rate, to) / 3600
        bound = f"{MAX_SAMPLES:,} samples ({hours:.1f} hours at {max(rate, to):,} a second)"
        raise BadInput(f"{where}: expected a recording of at most {bound}, got {longest:,}")


def _blocks(file: Any) -> Iterator[NDArray[np.float32]]:
    """Iterate over the samples of an open file in blocks (n, channels)."""
    block_size = max(BLOCK // file.channels, 1)
    while len(block := file.read(block_size, dtype="float32", always_2d=True)):
        yield block


def _claimed(path: Path, file: Any) -> int:
    """Return the samples per channel that a truncated file has by its header; 0 if it is not truncated.

    libsndfile takes the length from the file size and only logs the difference: "data : 8000 (should be 2000)".
    Programs that write to a pipe do not know the size and claim the largest one.
    """
    log, frames = str(file.extra_info), int(file.frames)
    if match := re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", log):
        return int(match[2])
    for name, claimed, actual in re.findall(r"^\s*(.+?)\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE):
        if name not in ("RIFF", "FORM") and int(actual) < int(claimed) < MIN_UNKNOWN_SIZE:
            return max(frames * int(claimed) // max(int(actual), 1), frames + 1)
    if "truncated file" in log:
        return frames + 1
    if file.format == "NIST":
        with opened(path) as head:
            count = re.search(rb"sample_count -i (\d+)", head.read(1024))
        return int(count[1]) if count else 0
    return 0


def audio_from(value: Any, rate: int, where: str) -> Wave:
    """Validate and scale samples (N,), or (N, channels) in either order; channels are averaged.

    Args:
        value: the samples.
        rate: sample rate, in Hz.
        where: the samples, for error messages.

    Returns:
        Samples (N,). Integers are scaled to the range from -1 to 1; floats are not scaled.

    Raises:
        BadInput: if the value is not audio.
    """
    try:
        wave = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{where}: expected a 1-D array of numbers: {error}") from None
    channels = int(np.argmin(wave.shape)) if wave.ndim == 2 else None
    is_audio = wave.ndim == 1 or (channels is not None and 0 < min(wave.shape) <= MAX_CHANNELS < max(wave.shape))
    if not is_audio or (wave.dtype.kind not in "if" and wave.dtype != np.uint8):
        raise BadInput(f"{where}: expected a 1-D array of numbers, got {wave.dtype} of shape {wave.shape}")
    check_length(where, max(wave.shape), rate, rate)
    wave = _full_scale(where, wave)
    return _checked(where, wave if channels is None else wave.mean(channels))


def _full_scale(where: str, wave: NDArray[Any]) -> NDArray[Any]:
    """Scale samples so that full scale is 1.

    Full scale is that of 8 bits for int8 and uint8, and otherwise of the narrower of 16 and 32 bits that holds all
    samples: lists of integers become 64-bit arrays, and many 32-bit arrays hold 16-bit samples. Zero is 128 in uint8,
    as in WAV files.

    Raises:
        BadInput: if samples need more than 32 bits.
    """
    if wave.dtype.kind == "f":
        return wave
    if wave.dtype == np.uint8:
        return (wave.astype(np.float64) - 128) / 128
    largest = max((abs(int(wave.min())), abs(int(wave.max())))) if wave.size else 0
    if largest > 1 << 31:
        raise BadInput(f"{where}: expected integers of at most 32 bits, got {largest:,}")
    bits = 8 if wave.dtype == np.int8 else 16 if largest <= 1 << 15 else 32
    return wave / float(1 << (bits - 1))


def _checked(name: str, wave: NDArray[Any]) -> Wave:
    if not wave.size:
        raise BadInput(f"{name}: expected a recording, got an empty one")
    if not np.isfinite(wave).all():
        raise BadInput(f"{name}: expected finite numbers, got {wave[~np.isfinite(wave)][0]}")
    loudest = float(wave[np.abs(wave).argmax()])
    if abs(loudest) > MAX_AMPLITUDE:
        raise BadInput(f"{name}: expected samples from -1 to 1, got {loudest:g}")
    return wave.astype(np.float32)
