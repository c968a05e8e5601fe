"""Sound as numbers that change slowly: the logarithm of its energy in bands of the mel scale, every 10 ms.

    X_tk = sum over n of w_n x_{t h + n} exp(-2 pi i k n / N)     w a Hann window of 25 ms, h 10 ms
    a_tm = log(sum over k of M_km |X_tk|^2 + floor)               M_km a triangle over band m and its two neighbours'
    a'   = a less its mean over all t and m

x is first brought to one mean energy, so that it does not matter how loud a recording is.

Centres of the bands lie at equal distances on mel(f) = 2595 log10(1 + f / 700), from 0 to half the rate.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# kaldi-native-fbank computes the same bands of the same spectrum (to 0.001 on 10 s at 16 kHz), but N has to be the
# least power of two above the window: half of ours, with which the lowest bands differ by 0.4 on average, of a standard
# deviation of 2.3. It does not resample, adds no floor, and takes 1.5 to 2.6 times as long.
WINDOW, HOP = 0.025, 0.010  # seconds
FLOOR = 1e-6  # of energies: below what 16 bits can tell from silence
LEVEL = 0.05  # root of the mean square of what is heard: that of speech which takes a third of the range
SILENT = 1e-7  # where that is less, there is nothing to make louder

Wave = NDArray[np.float32]  # (n,), -1 to 1


def resampled(wave: Wave, rate: int, to: int) -> Wave:
    """A recording at another rate; what the new one cannot carry is filtered out."""
    if rate == to:
        return wave
    from scipy.signal import resample_poly

    shared = math.gcd(rate, to)
    found: Wave = resample_poly(wave, to // shared, rate // shared).astype(np.float32)
    return found


def steps(n: int, rate: int, stack: int) -> int:
    """How many steps of so many frames a recording of n samples has."""
    return -(-(1 + n // _samples(HOP, rate)) // stack)


def stacked(x: Tensor, stack: int) -> Tensor:
    """Frames (t, M) side by side in steps (T, stack * M), zeros behind the last."""
    behind = -len(x) % stack
    return torch.cat((x, x.new_zeros(behind, x.shape[1]))).reshape(-1, stack * x.shape[1])


def frames(wave: Wave, rate: int, bands: int) -> Tensor:
    """Log-mel energies (T, M), less their mean."""
    wave = wave * (LEVEL / max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), SILENT))
    window, hop = _samples(WINDOW, rate), _samples(HOP, rate)
    size = _size(rate)
    spectrum = torch.stft(
        torch.from_numpy(wave), size, hop, window, torch.hann_window(window), pad_mode="constant", return_complex=True
    )
    found = (spectrum.abs().square().T @ triangles(rate, bands) + FLOOR).log()
    return found - found.mean()


def spread(recordings: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """The mean of each band over all frames (t, M) of recordings, and its standard deviation; 1 where it never moves.

    >>> spread([torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]])])
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
def triangles(rate: int, bands: int) -> Tensor:
    """M (N/2 + 1, M): how much of each frequency's energy belongs to each band."""
    frequencies = torch.arange(_size(rate) // 2 + 1, dtype=torch.float64) * rate / _size(rate)
    edges = 700 * (10 ** (torch.linspace(0, _mel(rate / 2), bands + 2, dtype=torch.float64) / 2595) - 1)
    rise = (frequencies.unsqueeze(1) - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequencies.unsqueeze(1)) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()


def place(frequency: float, rate: int, bands: int) -> float:
    """The number of the band, from 0, that has its centre there; between two, between their numbers."""
    return _mel(frequency) / _mel(rate / 2) * (bands + 1) - 1


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def _samples(seconds: float, rate: int) -> int:
    return max(round(seconds * rate), 1)


def _size(rate: int) -> int:
    """N, twice the window at least: the lowest bands are narrower than what the window alone would tell apart."""
    return 1 << (2 * _samples(WINDOW, rate) - 1).bit_length()
