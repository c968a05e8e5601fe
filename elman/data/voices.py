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

Speakers differ in more than one factor: the resonances of the vowels of an accent are moved one by one, and some sounds
are drawn out. So the factor of the resonances may also vary with the frequency, and that of the rate with time.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from elman.data.filter_banks import FLOOR, LEVEL, Wave, at_level, frames_of, log_energies, power_spectrum, spectrum_size

CUTOFF = 0.002  # seconds; half the period of a high voice
HIGHEST = 0.85  # of half the sample rate: resonances above are squeezed, so that the highest frequency stays in place
TINY = 1e-10  # added to energies before the logarithm
QUIETEST = 0.01  # the least noise, as a fraction of the most
FLAT = 0.01  # of the sample rate; the spectrum of noise is flat below
HALF = 0.5  # of all recordings
KNOTS = 6  # of the gains, equally spaced over the bands
QUIET = 0.1  # of the loudest sample: ends below may be cut off
MAX_SLOPE = 2.0  # of the spectrum of noise: 0 is white, 1 pink, 2 brown
RESONANCES = (0.0, 0.08, 0.18, 0.32, 0.5, 1.0)  # of half the sample rate: where factors of resonances are drawn
SOUND = 0.08  # seconds from one factor of the speaking rate to the next
Strength = Annotated[float, Field(ge=0)]
Logarithms = NDArray[np.float64]  # of factors


class Strengths(NamedTuple):
    """Strengths of the augmentations; 0 turns one off.

    perturb: the largest relative change of the speaking rate and of the vocal tract; the pitch changes by up to twice
        as much.
    noise: the largest root mean square of noise, relative to that of the recording.
    reverb: the largest reverberation time (of a decay by 60 dB), in seconds; half of the recordings have none.
    equalize: the standard deviation of the gains of the bands, in dB.
    contrast: the standard deviation of the logarithm of a factor of the differences of log energies from their mean.
    silence: the most silence that is added before and after the recording, in seconds. As often as a recording becomes
        longer by up to half of that, it becomes shorter, but by its quiet ends alone.
    formants: the standard deviation of the logarithm of factors of the resonances, which vary with the frequency.
    rhythm: the standard deviation of the logarithm of factors of the speaking rate, which vary with time.
    """

    perturb: Strength = 0.0
    noise: Strength = 0.0
    reverb: Strength = 0.0
    equalize: Strength = 0.0
    contrast: Strength = 0.0
    silence: Strength = 0.0
    formants: Strength = 0.0
    rhythm: Strength = 0.0


class Change(NamedTuple):
    """A change of a recording.

    tempo: factor of the speaking rate.
    pitch: factor of the fundamental frequency.
    tract: factor of the resonances; above 1, the vocal tract is shorter.
    noise: samples to add, relative to the root mean square of the recording; at least as many as it has.
    echo: an impulse response, with which the recording is convolved.
    gains: of the energy of each band (M,), natural logarithms.
    contrast: factor of the differences of log energies from their mean.
    before, after: samples of silence to add at both ends; if negative, samples to cut off.
    formants: logarithms of further factors of the resonances, at the frequencies `RESONANCES`.
    rhythm: logarithms of further factors of the speaking rate, at equal distances from the begin to the end.
    """

    tempo: float = 1.0
    pitch: float = 1.0
    tract: float = 1.0
    noise: Wave | None = None
    echo: Wave | None = None
    gains: Tensor | None = None
    contrast: float = 1.0
    before: int = 0
    after: int = 0
    formants: Logarithms | None = None
    rhythm: Logarithms | None = None


def draw_change(wave: Wave, rate: int, bands: int, strengths: Strengths, rng: np.random.Generator) -> Change:
    """Draw a change of a recording.

    Args:
        wave: samples (n,).
        rate: sample rate, in Hz.
        bands: M, number of bands.
        strengths: how much it is changed.
        rng: the random number generator.
    """
    tempo, pitch, tract = (1 + strengths.perturb) ** (rng.uniform(-1, 1, 3) * (1, 2, 1))
    change = Change(tempo, pitch, tract)
    if strengths.silence:
        before, after = _margins(wave, rng.uniform(-0.5, 1, 2) * strengths.silence * rate)
        change = change._replace(before=before, after=after)
    if strengths.reverb and rng.random() < HALF:
        change = change._replace(echo=_echo(max(round(rng.uniform(0.1, 1) * strengths.reverb * rate), 1), rng))
    if strengths.equalize:
        nats = rng.normal(0, strengths.equalize * math.log(10) / 10, KNOTS)
        gains = np.interp(np.linspace(0, KNOTS - 1, bands), np.arange(KNOTS), nats)
        change = change._replace(gains=torch.from_numpy(gains).float())
    if strengths.contrast:
        change = change._replace(contrast=float(np.exp(rng.normal(0, strengths.contrast))))
    if strengths.noise:
        level = np.float32(strengths.noise * QUIETEST ** rng.random())
        samples = len(wave) + max(change.before, 0) + max(change.after, 0)
        change = change._replace(noise=level * colored_noise(samples, rng.uniform(0, MAX_SLOPE), rng))
    if strengths.formants:
        change = change._replace(formants=rng.normal(0, strengths.formants, len(RESONANCES)))
    if strengths.rhythm:
        sounds = int((len(wave) + change.before + change.after) / rate / SOUND) + 2
        change = change._replace(rhythm=rng.normal(0, strengths.rhythm, sounds))
    return change


def length_of(n: int, change: Change) -> int:
    """Return the number of samples of a changed recording of n samples."""
    return int((n + change.before + change.after) / change.tempo)


def _margins(wave: Wave, samples: NDArray[np.float64]) -> tuple[int, int]:
    loud = np.flatnonzero(np.abs(wave) >= QUIET * np.abs(wave).max())
    before, after = samples.astype(int).tolist()
    return max(before, -int(loud[0])), max(after, int(loud[-1]) + 1 - len(wave))


def _echo(n: int, rng: np.random.Generator) -> Wave:
    """Draw the impulse response of a room: the sound itself, then noise that decays by 60 dB in n samples."""
    decay = rng.standard_normal(n) * 10.0 ** (-3 * np.arange(n) / n)
    decay *= rng.uniform(0.1, 0.6) / max(float(np.sqrt(np.sum(decay**2))), TINY)
    decay[:1] = 1
    return decay.astype(np.float32)


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


def changed_log_mel(
    waves: Sequence[Wave], rate: int, bands: int, changes: Sequence[Change], floor: float = FLOOR
) -> list[Tensor]:
    """Compute the log-mel energies of changed recordings; without a change, they are those of `log_mel`.

    Args:
        waves: the samples (n,) of each recording.
        rate: sample rate, in Hz.
        bands: M, number of bands.
        changes: the change of each recording.
        floor: added to energies.

    Returns:
        Energies (t, M) of each recording. With another tempo, t is that of a recording of n / tempo samples.
    """
    # The frames of all recordings together: many small operations would take several times as long.
    frames = [
        frames_of(_waveform(wave, change), rate, change.tempo, change.rhythm)
        for wave, change in zip(waves, changes, strict=True)
    ]
    sizes = [len(x) for x in frames]
    power = power_spectrum(torch.cat(frames), rate)
    power = _with_voices(power, rate, sizes, changes)
    energies = log_energies(power, rate, bands, floor).split(sizes)
    return [_recolored(x, change) for x, change in zip(energies, changes, strict=True)]


def _recolored(energies: Tensor, change: Change) -> Tensor:
    """Change the contrast and the gains of log energies (t, M); return them minus their mean."""
    x = (energies - energies.mean()) * change.contrast
    return x if change.gains is None else x + change.gains - change.gains.mean()


def _waveform(wave: Wave, change: Change) -> Wave:
    """Return the samples of a recording with the changes that are not of its spectra."""
    if change.echo is not None:
        wave = np.convolve(wave, change.echo)[: len(wave)]
    wave = wave[max(-change.before, 0) : len(wave) - max(-change.after, 0)]
    wave = at_level(np.pad(wave, (max(change.before, 0), max(change.after, 0))))
    return wave if change.noise is None else at_level(wave + LEVEL * change.noise[: len(wave)])


def _with_voices(power: Tensor, rate: int, sizes: list[int], changes: Sequence[Change]) -> Tensor:
    """Move the harmonics and the resonances of energies (t, F), of recordings of these sizes, to other frequencies."""
    L = (power + TINY).log()
    E = L @ _smoothing(rate)
    parts = list(zip(E.split(sizes), (L - E).split(sizes), changes, strict=True))
    resonances = (_warped(x, change.tract, change.formants) for x, _, change in parts)
    harmonics = (_warped(x, change.pitch) for _, x, change in parts)
    return (torch.cat([*resonances]) + torch.cat([*harmonics])).exp()


@lru_cache(maxsize=8)
def _smoothing(rate: int) -> Tensor:
    """Return the matrix (F, F) that leaves the low quefrencies of log spectra (t, F)."""
    size = spectrum_size(rate)
    quefrency = torch.arange(size)
    quefrency = torch.minimum(quefrency, size - quefrency) / rate
    lifter = ((1.5 * CUTOFF - quefrency) / CUTOFF).clamp(0, 1)
    matrix: Tensor = torch.fft.rfft(torch.fft.irfft(torch.eye(size // 2 + 1)) * lifter).real.contiguous()
    return matrix


def _warped(x: Tensor, factor: float, formants: Logarithms | None = None) -> Tensor:
    """Move the columns of x (t, F), frequencies from 0 to half the sample rate, by factors.

    Frequencies up to `HIGHEST` are multiplied by the factor, and by those of `formants`; the others are mapped linearly
    to the rest.
    """
    if factor == 1 and formants is None:
        return x
    last = x.shape[1] - 1
    f = np.arange(last + 1) / last
    logs = np.zeros(len(RESONANCES)) if formants is None else formants
    # Where frequencies arrive that were moved by the whole factor.
    edge = HIGHEST * min(factor * np.exp(np.interp(HIGHEST, RESONANCES, logs)), 1.0)
    # The inverse of the map: at which of the old frequencies the new ones are, and last the edge.
    moved = np.append(f, edge)
    *at, start = moved / (factor * np.exp(np.interp(moved, RESONANCES, logs)))
    at = np.where(f < edge, at, np.interp(f, (edge, 1), (start, 1)))
    at = np.maximum.accumulate(np.minimum(at, 1.0)) * last  # factors that fall steeply must not change the order
    low = np.minimum(at.astype(np.int64), last - 1)
    share = torch.from_numpy((at - low).astype(np.float32))
    index = torch.from_numpy(low)
    return torch.lerp(x[:, index], x[:, index + 1], share)
