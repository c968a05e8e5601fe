"""Random changes of recordings of speech, for training: other voices, other speaking rates, other noise.

A voice is a source and a filter: the vocal folds vibrate at some pitch, and the vocal tract resonates at frequencies
that fall as its length rises. The low quefrencies of the log spectrum are the resonances, the others are the harmonics
of the pitch, so each can be moved along the frequencies by itself.

    L_tk  = log |X_tk|^2                               X: spectrum of frame t
    E_tk  = L_tk without quefrencies above 2 ms         the resonances
    L'_tk = E_t(k / tract) + (L - E)_t(k / pitch)

With tempo = pitch = tract this is the speed perturbation of T. Ko et al., "Audio augmentation for speech recognition",
Interspeech 2015; tract alone is N. Jaitly and G. E. Hinton, "Vocal tract length perturbation (VTLP) improves speech
recognition", ICML workshop on deep learning for audio, speech and language processing, 2013.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.data.filter_banks import LEVEL, Wave, at_level, frames_of, log_energies, power_spectrum, spectrum_size

CUTOFF = 0.002  # seconds; half the period of a high voice
HIGHEST = 0.85  # of half the sample rate: resonances above are squeezed, so that the highest frequency stays in place
TINY = 1e-10  # added to energies before the logarithm
QUIETEST = 0.01  # the least noise, as a fraction of the most
FLAT = 0.01  # of the sample rate; the spectrum of noise is flat below
MAX_SLOPE = 2.0  # of the spectrum of noise: 0 is white, 1 pink, 2 brown


class VoiceChange(NamedTuple):
    """A change of a recording.

    tempo: factor of the speaking rate.
    pitch: factor of the fundamental frequency.
    tract: factor of the resonances; above 1, the vocal tract is shorter.
    noise: samples (n,) to add, relative to the root mean square of the recording.
    """

    tempo: float = 1.0
    pitch: float = 1.0
    tract: float = 1.0
    noise: Wave | None = None


def draw_change(n: int, perturb: float, noise: float, rng: np.random.Generator) -> VoiceChange:
    """Draw a change of a recording.

    Args:
        n: number of samples.
        perturb: the largest relative change of the speaking rate and of the vocal tract; the pitch changes by up to
            twice as much.
        noise: the largest root mean square of noise, relative to that of the recording.
        rng: the random number generator.
    """
    tempo, pitch, tract = (1 + perturb) ** (rng.uniform(-1, 1, 3) * (1, 2, 1))
    level = noise * QUIETEST ** rng.random()
    return VoiceChange(tempo, pitch, tract, level * colored_noise(n, rng.uniform(0, MAX_SLOPE), rng) if noise else None)


def colored_noise(n: int, slope: float, rng: np.random.Generator) -> Wave:
    """Draw noise whose energy falls with the frequency f as f ** -slope, with a root mean square of 1.

    Args:
        n: number of samples.
        slope: 0 for white, 1 for pink, 2 for brown noise.
        rng: the random number generator.
    """
    size = 1 << (n - 1).bit_length()  # other sizes may have slow Fourier transforms
    spectrum = torch.fft.rfft(torch.from_numpy(rng.standard_normal(size, np.float32)))
    frequency = torch.arange(len(spectrum)) / size
    spectrum *= frequency.clamp(min=FLAT) ** (-slope / 2)
    wave = torch.fft.irfft(spectrum, size)[:n].numpy()
    colored: Wave = wave / np.sqrt(np.mean(np.square(wave)))
    return colored


def changed_log_mel(waves: Sequence[Wave], rate: int, bands: int, changes: Sequence[VoiceChange]) -> list[Tensor]:
    """Compute the log-mel energies of changed recordings; without a change, they are those of `log_mel`.

    Args:
        waves: the samples (n,) of each recording.
        rate: sample rate, in Hz.
        bands: M, number of bands.
        changes: the change of each recording.

    Returns:
        Energies (t, M) of each recording. With another tempo, t is that of a recording of n / tempo samples.
    """
    # The frames of all recordings together: many small operations would take several times as long.
    frames = [_frames(wave, rate, change) for wave, change in zip(waves, changes, strict=True)]
    sizes = [len(x) for x in frames]
    power = power_spectrum(torch.cat(frames), rate)
    power = _with_voices(power, rate, sizes, [change.pitch for change in changes], [change.tract for change in changes])
    return [x - x.mean() for x in log_energies(power, rate, bands).split(sizes)]


def _frames(wave: Wave, rate: int, change: VoiceChange) -> Tensor:
    wave = at_level(wave)
    if change.noise is not None:
        wave = at_level(wave + LEVEL * change.noise)
    return frames_of(wave, rate, change.tempo)


def _with_voices(
    power: Tensor, rate: int, sizes: list[int], pitches: Sequence[float], tracts: Sequence[float]
) -> Tensor:
    """Move the harmonics and the resonances of energies (t, F), of recordings of these sizes, to other frequencies."""
    L = (power + TINY).log()
    E = L @ _smoothing(rate)
    resonances = (_warped(x, factor) for x, factor in zip(E.split(sizes), tracts, strict=True))
    harmonics = (_warped(x, factor) for x, factor in zip((L - E).split(sizes), pitches, strict=True))
    return (torch.cat([*resonances]) + torch.cat([*harmonics])).exp()


@lru_cache(maxsize=8)
def _smoothing(rate: int) -> Tensor:
    """Return the matrix (F, F) that leaves the low quefrencies of log spectra (t, F)."""
    size = spectrum_size(rate)
    quefrency = torch.arange(size)
    quefrency = torch.minimum(quefrency, size - quefrency) / rate
    lifter = ((1.5 * CUTOFF - quefrency) / CUTOFF).clamp(0, 1)
    return torch.fft.rfft(torch.fft.irfft(torch.eye(size // 2 + 1)) * lifter).real.contiguous()


def _warped(x: Tensor, factor: float) -> Tensor:
    """Move the columns of x (t, F), frequencies from 0 to half the sample rate, by a factor.

    Frequencies up to `HIGHEST` are multiplied by the factor; those above are mapped linearly to the rest.
    """
    if factor == 1:
        return x
    last = x.shape[1] - 1
    edge = HIGHEST * min(factor, 1.0)  # where frequencies arrive that were moved by the whole factor
    # The inverse of the map: at which of the old frequencies the new ones are.
    at = np.interp(np.arange(last + 1) / last, (0, edge, 1), (0, edge / factor, 1)) * last
    low = np.minimum(at.astype(np.int64), last - 1)
    share = torch.from_numpy((at - low).astype(np.float32))
    index = torch.from_numpy(low)
    return torch.lerp(x[:, index], x[:, index + 1], share)
