"""What `elman train transcribe` is made of: sound to numbers, probabilities to texts, time warping."""

import itertools
import json
import math
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch.nn.functional import ctc_loss

from elman.baselines import dtw
from elman.data import audio, filter_banks, manifests, voices
from elman.data.audio import read_audio
from elman.data.examples import Example
from elman.decoding.ctc import best_path, search
from elman.errors import BadInput
from elman.tasks.transcribe import baselines, plots
from elman.tasks.transcribe.codec import TranscribeCodec
from elman.tasks.transcribe.data import min_steps, parse_input
from elman.tasks.transcribe.language import START, Language
from elman.tasks.transcribe.model import Recordings, Transcriber
from elman.tasks.transcribe.options import TranscribeOptions
from elman.tasks.transcribe.prediction import TranscribePrediction

Texts = dict[tuple[int, ...], float]


def probabilities(T: int, K: int, seed: int) -> NDArray[np.float64]:
    return np.log(np.random.default_rng(seed).dirichlet(np.full(K, 0.7), T))


def all_texts(log_p: NDArray[np.float64]) -> Texts:
    """log p of every text, by every path."""
    T, K = log_p.shape
    found: dict[tuple[int, ...], list[float]] = {}
    for path in itertools.product(range(K), repeat=T):
        text = tuple(k for k, _ in itertools.groupby(path) if k)
        found.setdefault(text, []).append(sum(log_p[t, k] for t, k in enumerate(path)))
    return {text: float(np.logaddexp.reduce(nats)) for text, nats in found.items()}


@pytest.mark.parametrize("gain", [1e-3, 0.1, 3.0])
def test_it_does_not_matter_how_loud_a_recording_is(gain: float) -> None:
    draw = np.random.default_rng(0)
    wave = (draw.normal(size=2000) * np.linspace(0, 0.1, 2000) ** 2).astype(np.float32)
    found = filter_banks.log_mel(np.float32(gain) * wave, 8000, 20)
    torch.testing.assert_close(found, filter_banks.log_mel(wave, 8000, 20), rtol=0, atol=1e-3)
    assert filter_banks.log_mel(0 * wave, 8000, 20).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_that_is_wide_enough_finds_the_likeliest_text(seed: int) -> None:
    log_p = probabilities(1 + seed % 5, 2 + seed % 3, seed)
    texts = all_texts(log_p)
    assert tuple(search(log_p, 1000)) == max(texts, key=texts.__getitem__)
    assert_allclose(np.logaddexp.reduce(list(texts.values())), 0, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_a_beam_with_a_language_model(seed: int) -> None:
    log_p, language, weight = probabilities(5, 3, seed), Language.fit([[1, 2], [1, 2, 1], [2, 2]], 3), 0.8
    texts = all_texts(log_p)

    def nats(text: tuple[int, ...]) -> float:
        return float(sum(language(text[:i])[symbol] for i, symbol in enumerate((*text, 0))))

    best = max(texts, key=lambda text: texts[text] + weight * nats(text))
    assert tuple(search(log_p, 1000, language, weight)) == best
    assert_allclose(np.exp(language((1, 2))).sum(), 1, atol=1e-6)
    ids = np.array([*START, 1, 2, 0])
    assert_allclose(nats((1, 2)), -language._ngram.nats(ids)[len(START) - 1 :].sum())


def test_the_likeliest_path() -> None:
    log_p = probabilities(6, 3, 0)
    path = max(itertools.product(range(3), repeat=6), key=lambda p: sum(log_p[t, k] for t, k in enumerate(p)))
    assert best_path(log_p) == [k for k, _ in itertools.groupby(path) if k]


def test_the_loss_is_that_of_all_paths() -> None:
    torch.manual_seed(0)
    model = Transcriber(3, 2, 3, hidden=4, layers=1).eval()
    steps, targets = torch.randn(5, 2, 6), torch.tensor([1, 1, 2])
    batch = Recordings(steps, torch.tensor([5, 3]), targets, torch.tensor([2, 1]))
    nats, count, _ = model.loss(batch)
    log_p = model(steps, batch.lengths).detach().double().numpy()
    right = all_texts(log_p[:, 0])[1, 1] + all_texts(log_p[:3, 1])[(2,)]
    assert_allclose(nats.item(), -right, rtol=1e-5)
    assert count == 3


@pytest.mark.parametrize("text", ["a", "aa", "abba", "three", "aaaa"])
def test_the_fewest_steps_that_a_text_needs(text: str) -> None:
    """With one less, no path is left."""
    symbols = torch.tensor([[ord(c) for c in text]])
    for T, finite in ((min_steps(text), True), (min_steps(text) - 1, False)):
        log_p = torch.full((T, 1, 128), -math.log(128))
        nats = ctc_loss(log_p, symbols, torch.tensor([T]), torch.tensor([len(text)])) if T else torch.tensor(torch.inf)
        assert nats.isfinite().item() is finite


def naive(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    D = np.full((len(a) + 1, len(b) + 1), np.inf)
    D[0, 0] = 0
    for i in range(len(a)):
        for j in range(len(b)):
            D[i + 1, j + 1] = np.linalg.norm(a[i] - b[j]) + min(D[i, j], D[i, j + 1], D[i + 1, j])
    return float(D[-1, -1]) / (len(a) + len(b))


@pytest.mark.parametrize("room", [10, 10**6])
def test_time_warping(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(dtw, "MAX_PAIRS", room)
    draw = np.random.default_rng(0)
    templates = [draw.normal(size=(T, 3)).astype(np.float32) for T in (1, 2, 5, 9, 5)]
    for T in (1, 2, 7, 12):
        query = draw.normal(size=(T, 3)).astype(np.float32)
        found = dtw.distances(query, templates)
        assert_allclose(found, [naive(query, b) for b in templates], rtol=1e-5)
    assert dtw.distances(templates[3], templates).argmin() == 3
    assert dtw.distances(np.repeat(templates[2], 3, 0), templates)[2] < 1e-3


@pytest.mark.parametrize(("rate", "bands"), [(8000, 40), (16000, 23), (11025, 5)])
def test_bands_of_the_mel_scale(rate: int, bands: int) -> None:
    """By sums of sines and cosines, and triangles drawn one by one."""
    wave = np.random.default_rng(0).normal(0, 1, rate // 20).astype(np.float32)
    wave *= np.float32(filter_banks.LEVEL / np.sqrt(np.mean(wave**2)))
    window, hop, N = round(rate * 0.025), round(rate * 0.010), 1 << math.ceil(math.log2(2 * round(rate * 0.025)))
    mel = np.linspace(0, 2595 * math.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.arange(N // 2 + 1) * rate / N
    M = np.stack([np.interp(hertz, edges[m : m + 3], [0, 1, 0]) for m in range(bands)], 1)
    w = np.zeros(N)
    w[(N - window) // 2 :][:window] = np.sin(np.pi * np.arange(window) / window) ** 2
    padded = np.concatenate([np.zeros(N // 2), wave, np.zeros(N // 2)])
    X = np.exp(-2j * np.pi * np.outer(np.arange(N // 2 + 1), np.arange(N)) / N)
    right = [
        np.log(np.abs(X @ (w * padded[begin : begin + N])) ** 2 @ M + filter_banks.FLOOR)
        for begin in range(0, len(wave) + 1, hop)
    ]
    found = filter_banks.log_mel(wave, rate, bands).numpy()
    assert_allclose(found, right - np.mean(right), atol=2e-3)
    softer = filter_banks.log_mel(wave / np.float32(2), rate, bands)
    assert_allclose(softer, found, atol=0.05)
    assert filter_banks.num_steps(len(wave), rate, 4) == len(filter_banks.stack_frames(torch.from_numpy(found), 4)) == 2


@pytest.mark.parametrize(("rate", "to"), [(16000, 8000), (11025, 8000), (8000, 16000), (44100, 8000)])
def test_another_rate(rate: int, to: int) -> None:
    """A tone stays what it is; one that the new rate cannot carry goes."""
    t, s = np.arange(rate) / rate, np.arange(to) / to
    found = filter_banks.resample(np.sin(2 * np.pi * 1000 * t).astype(np.float32), rate, to)
    assert len(found) == to
    assert found.dtype == np.float32
    inner = slice(to // 10, -to // 10)
    assert_allclose(found[inner], np.sin(2 * np.pi * 1000 * s)[inner], atol=5e-3)
    if to < rate:
        high = filter_banks.resample(np.sin(2 * np.pi * (to / 2 * 1.25) * t).astype(np.float32), rate, to)
        assert np.abs(high[inner]).max() < 0.05


def test_what_is_hidden_in_training() -> None:
    torch.manual_seed(0)
    model = Transcriber(10, 2, 3, hidden=4, layers=1, time_mask=0.5, band_mask=0.4)
    steps, lengths = torch.ones(20, 50, 20), torch.tensor([20, 10] * 25)
    masked = model._masked(steps, lengths)
    assert torch.equal(masked[:, :, :10], masked[:, :, 10:]), "the same bands in both frames of a step"
    hidden_steps = (masked == 0).all(2).sum(0)
    assert hidden_steps.max() <= 10
    assert hidden_steps[1::2].max() <= 5
    assert 3 < hidden_steps[::2].float().mean() < 7
    hidden_bands = (masked[:, :, :10] == 0).all(0).sum(1)
    assert 0 < hidden_bands.max() <= 4
    assert torch.equal(Transcriber(10, 2, 3, hidden=4, layers=1)._masked(steps, lengths), steps)
    assert not torch.equal(model(steps, lengths), model(steps, lengths))
    model.eval()
    assert torch.equal(model(steps, lengths), model(steps, lengths)), "in training alone"


@pytest.mark.parametrize(("bands", "frames"), [(1, 1), (7, 2), (40, 3)])
def test_convolutions_do_not_read_padding(bands: int, frames: int) -> None:
    torch.manual_seed(0)
    model = Transcriber(bands, frames, 5, hidden=4, layers=1, filters=3).eval()
    lengths = [9, 4, 1]
    steps = torch.randn(9, 3, bands * frames)
    log_p = model(steps, torch.tensor(lengths))
    assert log_p.shape == (9, 3, 5)
    for b, T in enumerate(lengths):
        alone = model(steps[:T, b : b + 1], torch.tensor([T]))
        torch.testing.assert_close(log_p[:T, b : b + 1], alone)


def voice(pitch: float, resonance: float, rate: int = 8000, seconds: float = 0.4) -> NDArray[np.float32]:
    """Harmonics of a pitch, loudest at a resonance."""
    t = np.arange(int(rate * seconds)) / rate
    harmonics = np.arange(1, int(rate / 2 / pitch)) * pitch
    levels = np.exp(-(((harmonics - resonance) / 400) ** 2))
    wave: NDArray[np.float64] = (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t)).sum(0)
    return (0.1 * wave).astype(np.float32)


def spectrum(wave: NDArray[np.float32], change: voices.Change, rate: int = 8000) -> NDArray[np.float32]:
    """The mean energy of each frequency of a changed recording."""
    power = filter_banks.power_spectrum(filter_banks.frames_of(wave, rate, change.tempo), rate)
    changed = voices._with_voices(power, rate, [len(power)], [change])
    return changed[3:-3].mean(0).numpy()


def peaks(energies: NDArray[np.float32], rate: int = 8000) -> tuple[float, float]:
    """The distance of the harmonics, and the centre of the energies, in Hz."""
    hertz = np.linspace(0, rate / 2, len(energies))
    logs = np.log(energies + 1e-6)
    lags = np.fft.irfft(logs - logs.mean())
    quefrency = np.arange(len(lags)) / rate
    pitched = (quefrency > 1 / 400) & (quefrency < 1 / 100)
    return float(1 / quefrency[pitched][lags[pitched].argmax()]), float((hertz * energies).sum() / energies.sum())


def test_no_change_of_a_recording() -> None:
    waves = [voice(150, 1000), np.random.default_rng(0).normal(0, 0.1, 1234).astype(np.float32), np.zeros(90, "f4")]
    same = voices.changed_log_mel(waves, 8000, 20, [voices.Change()] * 3)
    for wave, energies in zip(waves, same, strict=True):
        torch.testing.assert_close(energies, filter_banks.log_mel(wave, 8000, 20), rtol=0, atol=2e-3)
    rng = np.random.default_rng(0)
    assert voices.draw_change(waves[0], 8000, 20, voices.Strengths(), rng) == voices.Change()


@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_another_tempo(tempo: float) -> None:
    """As many frames as speech at this rate has, at the same pitch."""
    wave = voice(200, 1200)
    change = voices.Change(tempo=tempo)
    (energies,) = voices.changed_log_mel([wave], 8000, 20, [change])
    assert len(energies) == 1 + round(40 / tempo)
    assert filter_banks.num_steps(voices.length_of(len(wave), change), 8000, 1) == len(energies)
    assert_allclose(peaks(spectrum(wave, change)), peaks(spectrum(wave, voices.Change())), rtol=0.02)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_another_voice(factor: float) -> None:
    """The pitch moves the harmonics and not the resonances; the length of the vocal tract, the other way round."""
    wave = voice(200, 1200)
    pitch, centre = peaks(spectrum(wave, voices.Change()))
    assert_allclose(peaks(spectrum(wave, voices.Change(pitch=factor))), (pitch * factor, centre), rtol=0.06)
    assert_allclose(peaks(spectrum(wave, voices.Change(tract=factor))), (pitch, centre * factor), rtol=0.06)
    as_spoken, changed = (spectrum(voice(200 * f, 1200 * f), voices.Change()) for f in (1, factor))
    both = spectrum(wave, voices.Change(pitch=factor, tract=factor))
    assert np.corrcoef(np.log(both + 1e-3), np.log(changed + 1e-3))[0, 1] > 0.9
    assert np.corrcoef(np.log(as_spoken + 1e-3), np.log(changed + 1e-3))[0, 1] < 0.7


def test_formants_are_moved_one_by_one() -> None:
    """A factor at one frequency moves the resonance there, and none elsewhere; not the pitch."""
    high = np.where(np.array(voices.RESONANCES) < 0.4, 0.0, math.log(1.2))
    for resonance, factor in ((500, 1.0), (2400, 1.2)):
        wave = voice(200, resonance)
        pitch, centre = peaks(spectrum(wave, voices.Change()))
        moved = peaks(spectrum(wave, voices.Change(formants=high)))
        assert_allclose(moved, (pitch, centre * factor), rtol=0.06)
    drawn = voices.draw_change(wave, 8000, 6, voices.Strengths(formants=0.1), np.random.default_rng(0))
    assert drawn.formants is not None
    steep = torch.arange(401.0).expand(3, -1)  # each frequency has its number, which must stay in order
    warped = voices._warped(steep, 0.8, np.array([0, 2, -2, 2, -2, 2.0]))
    assert (warped.diff() >= 0).all()
    assert warped[0, [0, -1]].tolist() == [0, 400]


def test_sounds_are_drawn_out() -> None:
    """A rhythm moves what is in the middle, not the ends or the number of frames."""
    clicks = np.zeros(8000, np.float32)
    clicks[[200, 4000, 7800]] = 1
    at = [int(frames.sum(1).argmax()) for frames in filter_banks.frames_of(clicks, 8000).split([30, 40, 31])]
    slower = filter_banks.frames_of(clicks, 8000, rhythm=np.array([0, -0.5, -0.5, 0, 0.0]))
    assert len(slower) == 101
    loud = slower.sum(1).nonzero().flatten().tolist()
    assert abs(loud[0] - at[0]) <= 2
    assert loud[len(loud) // 2] > 30 + at[1] + 4
    assert abs(loud[-1] - (70 + at[2])) <= 2
    same = filter_banks.frames_of(clicks, 8000, 1.1, np.zeros(4))
    assert torch.equal(same, filter_banks.frames_of(clicks, 8000, 1.1))
    rng = np.random.default_rng(0)
    drawn = [voices.draw_change(clicks, 8000, 6, voices.Strengths(rhythm=0.2), rng).rhythm for _ in range(40)]
    assert 0.17 < np.std([x for x in drawn if x is not None]) < 0.23


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_the_level_and_the_color_of_noise(slope: float) -> None:
    noise = voices.colored_noise(5000, slope, np.random.default_rng(0))
    assert_allclose(np.sqrt(np.mean(noise.astype(float) ** 2)), 1, rtol=1e-3)
    power = np.abs(np.fft.rfft(voices.colored_noise(2**15, slope, np.random.default_rng(1)))) ** 2
    low, high = (power[slice(*octave)].mean() for octave in ((1000, 2000), (8000, 16000)))
    assert_allclose(np.log2(low / high) / 3, slope, atol=0.1)
    wave, change = voice(200, 1200), voices.Change(noise=np.float32(0.5) * noise)
    noisy = voices._waveform(wave, change)
    assert_allclose(np.sqrt(np.mean(noisy**2)), filter_banks.LEVEL, rtol=1e-3)
    share = noisy / np.linalg.norm(noisy) @ (wave / np.linalg.norm(wave))
    assert_allclose(share, 1 / np.sqrt(1 + 0.5**2), atol=0.03)


def test_silence_is_added_and_quiet_ends_are_cut_off() -> None:
    wave = np.concatenate([np.zeros(300), voice(200, 1200), np.zeros(500)]).astype(np.float32)
    lengths, rng = list[int](), np.random.default_rng(0)
    for _ in range(50):
        change = voices.draw_change(wave, 8000, 20, voices.Strengths(silence=0.1), rng)
        changed = voices._waveform(wave, change)
        lengths.append(len(changed))
        assert voices.length_of(len(wave), change) == len(changed)
        assert -400 <= change.before <= 800
        assert -400 <= change.after <= 800
        assert_allclose(np.sum(changed**2) / len(changed), filter_banks.LEVEL**2, rtol=1e-3)
        assert_allclose(changed @ changed / np.square(changed).max(), wave @ wave / np.square(wave).max(), rtol=0.02)
    assert min(lengths) < len(wave) < max(lengths)


def test_an_echo_and_gains_of_bands() -> None:
    click = np.zeros(2000, np.float32)
    click[500] = 1
    strengths, rng = voices.Strengths(reverb=0.1), np.random.default_rng(0)
    changes = [voices.draw_change(click, 8000, 20, strengths, rng) for _ in range(40)]
    echoes = [voices._waveform(click, change) for change in changes if change.echo is not None]
    assert 10 < len(echoes) < 30
    for echo in echoes:
        assert echo[:500].max() == 0
        assert np.abs(echo).argmax() == 500
        assert np.abs(echo[1310:]).max() == 0
        assert 0.1 <= np.linalg.norm(echo[501:]) / echo[500] <= 0.61
    wave, gains = voice(200, 1200), torch.linspace(-1, 1, 20)
    (energies,) = voices.changed_log_mel([wave], 8000, 20, [voices.Change(gains=gains)])
    (before,) = voices.changed_log_mel([wave], 8000, 20, [voices.Change()])
    torch.testing.assert_close(energies - before, gains.expand(len(before), 20), rtol=0, atol=1e-4)
    (sharper,) = voices.changed_log_mel([wave], 8000, 20, [voices.Change(contrast=1.5)])
    torch.testing.assert_close(sharper, 1.5 * before)
    drawn = [voices.draw_change(wave, 8000, 6, voices.Strengths(equalize=3.0), rng).gains for _ in range(200)]
    decibels = torch.stack([x for x in drawn if x is not None]) * 10 / math.log(10)
    assert 2.7 < decibels.std() < 3.3


def codec_of(texts: list[str], **options: Any) -> tuple[TranscribeCodec, list[Example]]:
    waves = [voice(200 + 10 * i, 1200 - 20 * i, seconds=0.02 * min_steps(text) - 0.005) for i, text in enumerate(texts)]
    examples = [Example(wave, text) for wave, text in zip(waves, texts, strict=True)]
    return TranscribeCodec.fit(examples, TranscribeOptions(bands=8, **options)), examples


def test_changed_recordings_have_enough_steps() -> None:
    """Recordings that are as short as can be become longer alone."""
    codec, examples = codec_of(["three", "six", "aa", "b"] * 3, perturb=0.9, silence=0.05, stack=2)
    assert codec.augments
    longer = 0
    for seed in range(8):
        rngs = [np.random.default_rng((seed, i)) for i in range(len(examples))]
        for example, (steps, target) in zip(examples, codec.augment(examples, rngs), strict=True):
            assert len(steps) >= min_steps(example.target)
            assert target.tolist() == codec.symbols(example.target)
            longer += len(steps) > min_steps(example.target)
        assert all(len(codec.steps(example.input)) == min_steps(example.target) for example in examples)
    assert 0 < longer < 8 * len(examples)


def test_augmentation_is_drawn_for_each_example() -> None:
    """From its own random numbers, in whichever batch it is; without augmentation, recordings are encoded as always."""
    codec, examples = codec_of(["three", "six", "aa", "b"])
    together = codec.augment(examples, map(np.random.default_rng, range(4)))
    for i, (steps, _) in enumerate(together):
        ((alone, _),) = codec.augment([examples[i]], [np.random.default_rng(i)])
        torch.testing.assert_close(steps, alone)
        assert steps.shape != (other := codec.encode(examples[i])[0][0]).shape or not torch.allclose(steps, other)
    plain, _ = codec_of(["a"], **dict.fromkeys(voices.Strengths._fields, 0))
    assert not plain.augments


def test_the_mean_of_a_recording() -> None:
    codec, examples = codec_of(["three", "six"], normalize="per_feature", stack=1)
    for example in examples:
        assert_allclose(codec.steps(example.input).mean(0), 0, atol=1e-4)
    louder, quieter = examples[0].input, np.float32(0.01) * examples[0].input
    torch.testing.assert_close(codec.steps(louder), codec.steps(quieter), rtol=0, atol=1e-3)


def test_a_codec_of_an_earlier_version() -> None:
    """It has no augmentation, a model without convolutions, and the floor of that version."""
    saved = json.loads(codec_of(["ab", "ba"])[0].to_json())
    for name in ("floor", "normalize", "filters", "augmentation"):
        del saved[name]
    codec = TranscribeCodec.from_json(json.dumps(saved).encode())
    assert (codec.floor, codec.normalize, codec.augments) == (1e-6, "all_features", False)
    assert "filters" not in codec.model_args(TranscribeOptions())


def test_few_recordings_are_compared_with_where_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_STEP_PAIRS", 300)
    train = [Example(torch.full((10, 2), float(i)), str(i)) for i in range(7)]
    codec: Any = SimpleNamespace(steps=lambda wave: wave)
    found = baselines.Nearest.fit(codec, train)
    assert found.title == "nearest of 3 recordings (DTW)"
    assert [said.text for said in found.predict(train)] == ["0", "0", "3", "3", "3", "6", "6"]
    (again,) = baselines.load_baselines(codec, found.tensors())
    assert again.title == found.title
    assert again.predict(train) == found.predict(train)


def test_a_picture_of_what_is_long(tmp_path: Path) -> None:
    """Its beginning; and a text is no formula."""
    T, stack = 3 * plots.MAX_STEPS, 2
    long = TranscribePrediction(
        "$a_" * 50, 1.0, probabilities(T, 4, 0).astype(np.float32), np.zeros((T, stack * 5), np.float32)
    )
    short = TranscribePrediction("a", 1.0, probabilities(9, 4, 0).astype(np.float32))
    assert plots.choose([long, short, short], ["$a", "_", "a"]) == 2
    assert plots.choose([long, long._replace(log_p=probabilities(T - 1, 4, 0).astype(np.float32))], ["", ""]) == 1
    plots.plot_alignment(tmp_path / "path.png", long, "a", np.zeros((T * stack, 5), np.float32), 8000, "$a_")
    with Pillow.open(tmp_path / "path.png") as drawn:
        assert drawn.width < 2500


def test_a_text_is_what_is_written(tmp_path: Path) -> None:
    """Not the number that it looks like; blanks are single ones."""
    options = TranscribeOptions()
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        rows = [("path", "text", "who"), ("x", "007", "1"), ("x", "  a   b ", ""), ("y", "1.0", "01")]
        (tmp_path / name).write_text("".join(separator.join(row) + "\n" for row in rows))
        found = list(manifests.read([tmp_path / name], options, lambda file, text: file.name, "who"))
        assert [example.target for example in found] == ["007", "a b", "1.0"]
        assert [example.group for example in found] == ["1", None, "01"]
        alone = manifests.read([tmp_path / name], options, lambda file, text: file.name)
        assert [example.group for example in alone] == [None] * 3


def wav(samples: int, claimed: int, rate: int = 8000, riff: int | None = None) -> bytes:
    """16 bits, one channel; and how many bytes, at what rate, its header claims."""
    riff = claimed + 36 if riff is None else riff
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate % 2**32, 2, 16)
    return head + struct.pack("<4sI", b"data", claimed) + np.arange(samples, dtype="<i2").tobytes()


@pytest.mark.parametrize("rate", [2**31 - 1, 1_000_000, 999, 1])
def test_a_rate_that_no_recording_has(tmp_path: Path, rate: int) -> None:
    (tmp_path / "x.wav").write_bytes(wav(1000, 2000, rate))
    expected = f"x.wav: expected a sample rate of 1,000 to 768,000 Hz, got {rate:,} in its header"
    with pytest.raises(BadInput, match=expected):
        read_audio(tmp_path / "x.wav", 8000)


def test_a_length_that_no_recording_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the header of a FLAC file, or where it is brought to a higher rate."""
    soundfile.write(tmp_path / "x.flac", np.zeros(4000), 8000)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[21] |= 0x0F  # the number of samples has 36 bits
    (tmp_path / "x.flac").write_bytes(data)
    with pytest.raises(BadInput, match=r"x.flac: expected a recording of at most 268,435,456 samples \(9.3 hours at 8"):
        read_audio(tmp_path / "x.flac", 8000)
    monkeypatch.setattr(audio, "MAX_SAMPLES", 10_000)
    (tmp_path / "x.wav").write_bytes(wav(1000, 2000))
    assert len(read_audio(tmp_path / "x.wav", 80_000)) == 10_000
    with pytest.raises(BadInput, match=r"at most 10,000 samples .*, got 10,002"):
        read_audio(tmp_path / "x.wav", 80_010)
    with pytest.raises(BadInput, match=r"at most 10,000 samples .*, got 10,001"):
        parse_input(np.zeros(10_001), TranscribeOptions())


@pytest.mark.parametrize(
    "suffix", ["wav", "aiff", "au", "w64", "rf64", "caf", "flac", "ogg", "mp3", "nist", "voc", "svx"]
)
def test_a_file_that_is_cut_short(tmp_path: Path, suffix: str) -> None:
    """Not taken for a shorter recording, whichever the format."""
    wave = np.random.default_rng(0).normal(0, 0.1, 8000)
    soundfile.write(tmp_path / f"x.{suffix}", wave, 8000, format=suffix.upper())
    assert len(read_audio(tmp_path / f"x.{suffix}", 8000)) == 8000
    for keep in (0.5, 0.9):
        data = (tmp_path / f"x.{suffix}").read_bytes()
        (tmp_path / f"y.{suffix}").write_bytes(data[: int(keep * len(data))])
        with pytest.raises(BadInput, match=rf"y\.{suffix}: expected .*(truncated|cannot be read|an empty one)"):
            read_audio(tmp_path / f"y.{suffix}", 8000)


def test_what_a_cut_wav_says(tmp_path: Path) -> None:
    """A size that was not known when the header was written is none; nor is that of what surrounds the samples."""
    path = tmp_path / "x.wav"
    path.write_bytes(wav(1000, 8000))
    with pytest.raises(
        BadInput,
        match=(
            r"expected 4,000 samples according to its header, got 1,000: the file is "
            r"truncated"
        ),
    ):
        read_audio(path, 8000)
    for data in (wav(1000, 0xFFFFFFFF, riff=0xFFFFFFFF), wav(1000, 0x7FFFF000), wav(1000, 2000, riff=9999)):
        path.write_bytes(data)
        assert len(read_audio(path, 8000)) == 1000


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, list])
def test_whole_numbers_of_any_width(dtype: Any) -> None:
    """16 bits in an array of 64, or in a list, are as loud as in one of 16."""
    samples = np.array([0, 16384, -32768, 32767, -1])
    wave = parse_input(samples.tolist() if dtype is list else samples.astype(dtype), TranscribeOptions()).input
    assert wave.tolist() == [0, 0.5, -1, 32767 / 32768, -1 / 32768]


def test_whole_numbers_of_other_widths() -> None:
    options = TranscribeOptions()
    assert parse_input([2**30, -(2**31)], options).input.tolist() == [0.5, -1]
    assert parse_input(np.array([2**30, -(2**31)], np.int32), options).input.tolist() == [0.5, -1]
    assert parse_input(np.array([64, -128], np.int8), options).input.tolist() == [0.5, -1]
    assert parse_input(np.array([128, 192, 0], np.uint8), options).input.tolist() == [0, 0.5, -1]
    with pytest.raises(BadInput, match=r"expected integers of at most 32 bits, got 4,294,967,296"):
        parse_input([2**32, 1], options)
