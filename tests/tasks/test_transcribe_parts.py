"""What `elman train transcribe` is made of: sound to numbers, probabilities to texts, time warping."""

import itertools
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
from elman.data import audio, filter_banks, manifests
from elman.data.audio import read_audio
from elman.data.examples import Example
from elman.decoding.ctc import best_path, search
from elman.errors import BadInput
from elman.tasks.transcribe import baselines, plots
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
    wave = np.random.default_rng(0).normal(0, 0.1, rate // 20).astype(np.float32)
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
