"""Log-mel filter banks: log energies in mel-scale bands, one frame every 10 ms.

    X_tk = sum over n of w_n x_{t h + n} exp(-2 pi i k n / N)     w: Hann window of 25 ms, h: hop of 10 ms
    a_tm = log(sum over k of M_km |X_tk|^2 + floor)               M_km: triangular filter of band m
    a'   = a minus its mean over all t and m

x is first scaled to a fixed root mean square, so loudness does not matter.

The band centres are equally spaced on mel(f) = 2595 log10(1 + f / 700), from 0 to half the sample rate.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# kaldi-native-fbank computes the same bands of the same spectrum (to 0.001 on 10 s at 16 kHz), but its N is the least
# power of two above the window, half of ours. The lowest bands then differ by 0.4 on average, where the standard
# deviation is 2.3. It does not resample, adds no floor, and takes 1.5 to 2.6 times as long.
WINDOW, HOP = 0.025, 0.010  # seconds
FLOOR = 1e-3  # added to energies: 23 dB below the mean of white noise
LEVEL = 0.05  # target root mean square: that of speech with peaks at a third of full scale
MIN_LEVEL = 1e-7  # quieter recordings are scaled as if they had this root mean square

Wave = NDArray[np.float32]  # (n,), -1 to 1


def resample(wave: Wave, rate: int, to: int) -> Wave:
    """Resample a recording, with a low-pass filter against aliasing.

    Args:
        wave: samples (n,).
        rate: sample rate of the samples, in Hz.
        to: new sample rate, in Hz.
    """
    if rate == to:
        return wave
    from scipy.signal import resample_poly

    shared = math.gcd(rate, to)
    resampled: Wave = resample_poly(wave, to // shared, rate // shared).astype(np.float32)
    return resampled


def num_steps(n: int, rate: int, stack: int) -> int:
    """Return the number of steps, of `stack` frames each, in a recording of n samples."""
    return -(-(1 + n // _samples(HOP, rate)) // stack)


def stack_frames(x: Tensor, stack: int) -> Tensor:
    """Concatenate every `stack` frames (t, M) into one step (T, stack * M); the last step is padded with zeros."""
    padding = x.new_zeros(-len(x) % stack, x.shape[1])
    return torch.cat((x, padding)).reshape(-1, stack * x.shape[1])


def log_mel(wave: Wave, rate: int, bands: int, floor: float = FLOOR) -> Tensor:
    """Compute the log-mel energies of the frames of a recording, minus their mean.

    Args:
        wave: samples (n,).
        rate: sample rate, in Hz.
        bands: M, number of bands.
        floor: added to energies.

    Returns:
        Energies (t, M).
    """
    energies = log_energies(power_spectrum(frames_of(at_level(wave), rate), rate), rate, bands, floor)
    return energies - energies.mean()


def at_level(wave: Wave) -> Wave:
    """Scale a recording to the root mean square `LEVEL`."""
    scaled: Wave = wave * (LEVEL / max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), MIN_LEVEL))
    return scaled


def frames_of(wave: Wave, rate: int, tempo: float = 1.0, rhythm: NDArray[np.float64] | None = None) -> Tensor:
    """Cut a recording into frames (t, W), each around its time; they overlap, and before and after it is silence.

    Args:
        wave: samples (n,).
        rate: sample rate, in Hz.
        tempo: factor of the distance between frames: with 2, the frames are those of speech twice as fast.
        rhythm: logarithms of factors of the distances, at equal steps from the first frame to the last. The number of
            frames stays the same.
    """
    window, hop = _samples(WINDOW, rate), _samples(HOP, rate) * tempo
    before, after = (window + 1) // 2, window // 2
    padded = np.concatenate((np.zeros(before, np.float32), wave, np.zeros(after, np.float32)))
    times = np.arange(int(len(wave) / hop) + 1) * hop
    if rhythm is not None and len(times) > 1:
        distances = np.exp(np.interp(np.linspace(0, 1, len(times) - 1), np.linspace(0, 1, len(rhythm)), rhythm))
        times[1:] = np.cumsum(distances) * (times[-1] / distances.sum())
    begins = times.round().astype(np.int64)
    return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(padded, window)[begins])


def power_spectrum(frames: Tensor, rate: int) -> Tensor:
    """Return |X|^2 (t, N/2 + 1) of frames (t, W)."""
    x = frames * torch.hann_window(frames.shape[1])
    spectrum = torch.fft.rfft(x, spectrum_size(rate))
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power


def log_energies(power: Tensor, rate: int, bands: int, floor: float = FLOOR) -> Tensor:
    """Return the log energies (t, M) of the bands of spectra (t, N/2 + 1)."""
    return (power @ mel_matrix(rate, bands) + floor).log()


def recipe(rate: int, bands: int, floor: float = FLOOR) -> dict[str, Any]:
    """Return all numbers of the energies of `log_mel`, for programs that compute them without this module.

    Args:
        rate: sample rate, in Hz.
        bands: M, number of bands.
        floor: added to energies.
    """
    sizes = {"rate": rate, "bands": bands, "window": _samples(WINDOW, rate), "hop": _samples(HOP, rate)}
    return sizes | {"fft": spectrum_size(rate), "level": LEVEL, "min_level": MIN_LEVEL, "floor": floor}


def mean_and_std(recordings: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each band over all frames (t, M) of recordings; 1 if a band is constant.

    >>> mean_and_std([torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]])])
    ([2.0, 5.0], [1.0, 1.0])
    """
    count, total, square = 0, torch.zeros(()), torch.zeros(())
    for frames in recordings:
        x = frames.double()
        count, total, square = count + len(x), total + x.sum(0), square + x.square().sum(0)
    mean = total / count
    std = (square / count - mean.square()).clamp(min=0).sqrt()
    return mean.tolist(), torch.where(std < 1e-3, 1.0, std).tolist()


@lru_cache(maxsize=8)
def mel_matrix(rate: int, bands: int) -> Tensor:
    """Return the weights (N/2 + 1, M) of each frequency in each band.

    Args:
        rate: sample rate, in Hz.
        bands: M, number of bands.
    """
    frequencies = torch.arange(spectrum_size(rate) // 2 + 1, dtype=torch.float64) * rate / spectrum_size(rate)
    edges = 700 * (10 ** (torch.linspace(0, _mel(rate / 2), bands + 2, dtype=torch.float64) / 2595) - 1)
    rise = (frequencies.unsqueeze(1) - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequencies.unsqueeze(1)) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


def band_at(frequency: float, rate: int, bands: int) -> float:
    """Return the index of the band centred at a frequency; fractional between two centres.

    Args:
        frequency: in Hz.
        rate: sample rate, in Hz.
        bands: M, number of bands.
    """
    return _mel(frequency) / _mel(rate / 2) * (bands + 1) - 1


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def _samples(seconds: float, rate: int) -> int:
    return max(round(seconds * rate), 1)


def spectrum_size(rate: int) -> int:
    """Return N, at least twice the window: the lowest bands are narrower than a bin of a window-length spectrum."""
    return 1 << (2 * _samples(WINDOW, rate) - 1).bit_length()
