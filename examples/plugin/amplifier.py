"""An amplifier in real time: train an LSTM on its sound, export it as C, and run it in blocks of 64 samples.

    python examples/plugin/amplifier.py --out amplifier

Needs a C compiler; with matplotlib, it draws the outputs too. All files are in the folder of `--out`.
"""

import argparse
import shutil
import struct
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import elman.export

RATE = 44_100  # samples per second
BLOCK = 64  # samples that an audio program passes at once
HOST = Path(__file__).with_name("host.c")
Samples = NDArray[np.float32]


class AmplifierModel(nn.Module):
    """The LSTM computes what the amplifier adds to its input."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.recurrent = elman.LSTM(1, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, state = self.recurrent(8 * x, state)  # samples are small, and an LSTM learns best from numbers about 1
        return self.output(h) + x, state


def plucked_strings(seconds: float, seed: int) -> Samples:
    """Random notes of a guitar, soft and loud."""
    generator = np.random.default_rng(seed)
    x = np.zeros(round(seconds * RATE))
    start = 0
    while start < len(x):
        t = np.arange(min(RATE, len(x) - start)) / RATE
        loudness = 0.3 * 10 ** generator.uniform(-1.2, 0)
        for semitones in generator.choice(36, generator.integers(1, 4), replace=False):
            pitch = 82.4 * 2 ** (semitones / 12)
            for k in range(1, 13):
                phase = generator.uniform(0, 2 * np.pi)
                overtone = np.sin(2 * np.pi * k * pitch * t + phase) * np.exp(-t * (2 + 1.5 * k)) / k
                x[start : start + len(t)] += loudness * overtone * np.minimum(t / 0.002, 1)
        start += round(generator.uniform(0.1, 0.5) * RATE)
    return np.clip(x, -1, 1).astype(np.float32)


def amplify(x: Samples) -> Samples:
    """A tube stage: a curve that depends on how loud the last tenth of a second was, then a low-pass filter."""
    attack, release = (1 - np.exp(-1 / (seconds * RATE)) for seconds in (0.003, 0.08))
    low_pass = 1 - np.exp(-2 * np.pi * 4000 / RATE)
    level = filtered = 0.0
    y = np.empty_like(x)
    for n, sample in enumerate(x.tolist()):
        level += (abs(sample) - level) * (attack if abs(sample) > level else release)
        bias = 0.9 * level  # the operating point moves, so that loud notes are cut on one side
        drive = 14 / (1 + 8 * level)  # the supply voltage sags
        curve = np.tanh(drive * (sample - bias)) + np.tanh(drive * bias)
        filtered += (curve - filtered) * low_pass
        y[n] = 0.5 * filtered
    return y


def train(model: AmplifierModel, x: Samples, y: Samples, epochs: int) -> None:
    """Truncated BPTT: the sound in 32 streams, in chunks of 128 samples, with the state carried on."""
    pairs = torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None]
    chunks = elman.bptt.stream(pairs, batch=32, steps=128, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs * len(chunks), pct_start=0.1)
    for _ in range(epochs):
        state = None
        for chunk in chunks:
            inputs, targets = chunk.values
            outputs, state = model(inputs, chunk.carry(state))
            loss = (outputs - targets).square().sum() / targets.square().sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def error_to_signal(y: Samples, target: Samples) -> float:
    return float(np.square(y - target, dtype=float).sum() / np.square(target, dtype=float).sum())


def static_curve(x: Samples, y: Samples, test_x: Samples, bins: int = 200) -> Samples:
    """The best curve without memory: the mean output for each of 200 ranges of the input, interpolated."""
    order = np.argsort(x)
    means_x, means_y = ([part.mean() for part in np.array_split(values[order], bins)] for values in (x, y))
    values: Samples = np.interp(test_x, means_x, means_y).astype(np.float32)
    return values


def write_wav(path: Path, samples: Samples) -> None:
    """Write one channel of 32-bit floating-point numbers."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    path.write_bytes(struct.pack("<4sI", b"RIFF", len(body)) + body)


def read_wav(path: Path) -> Samples:
    """Read what the host has written."""
    return np.frombuffer(path.read_bytes()[44:], "<f4")


def compile_host(folder: Path) -> Path:
    """Compile the exported file and the program that reads and writes sound."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("amplifier.py: expected a C compiler, cc, gcc or clang; install one")
    program = folder / "host"
    options = ["-std=c11", "-O3", "-march=native", "-ffp-contract=fast", f"-I{folder}"]
    subprocess.run([compiler, *options, str(folder / "amplifier.c"), str(HOST), "-o", str(program), "-lm"], check=True)  # noqa: S603
    return program


def run_host(program: Path, source: Path, result: Path, block: int) -> str:
    command = [str(program), str(source), str(result), str(block)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return printed.stdout.strip()


def draw(path: Path, target: Samples, lstm: Samples, static: Samples, length: int = 600) -> None:
    """Draw the outputs and their errors in a soft and a loud part of the sound."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(2, 2, figsize=(9, 4.6), sharex=True, height_ratios=(2, 1), layout="constrained")
    parts = target[: len(target) // length * length].reshape(-1, length)
    by_loudness = np.argsort(np.square(parts).mean(1))
    milliseconds = np.arange(length) / RATE * 1000
    for (above, below), name, share in zip(rows.T, ("soft", "loud"), (0.4, 0.95), strict=True):
        start = int(by_loudness[int(share * (len(parts) - 1))]) * length
        window = slice(start, start + length)
        above.plot(milliseconds, target[window], color="#b9bfc5", linewidth=5, label="amplifier")
        above.plot(milliseconds, static[window], color="#b4400e", linewidth=1.3, label="static curve")
        above.plot(milliseconds, lstm[window], color="#0b5c9e", linewidth=1.5, label="LSTM, exported as C")
        below.plot(milliseconds, (static - target)[window], color="#b4400e", linewidth=1.3)
        below.plot(milliseconds, (lstm - target)[window], color="#0b5c9e", linewidth=1.5)
        above.set_title(f"a {name} part", loc="left")
        below.set_xlabel("milliseconds")
    rows[0, 0].set_ylabel("output")
    rows[1, 0].set_ylabel("error")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper right", frameon=False, ncols=3)
    for axes in rows.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--seconds", type=float, default=8, help="length of the sound to train on")
    parser.add_argument("--epochs", type=int, default=24)
    arguments = parser.parse_args()
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)  # for what is as small as this, threads wait for each other
    torch.manual_seed(0)
    x, test_x = plucked_strings(arguments.seconds, seed=0), plucked_strings(arguments.seconds / 2, seed=1)
    y, test_y = amplify(x), amplify(test_x)
    model = AmplifierModel()
    start = time.perf_counter()
    train(model, x, y, arguments.epochs)
    print(f"trained on {arguments.seconds:g} s of sound: {time.perf_counter() - start:.0f} s")

    elman.export.c(model, folder / "amplifier.c", torch.zeros(16, 1, 1))
    program = compile_host(folder)
    write_wav(folder / "input.wav", test_x)
    write_wav(folder / "target.wav", test_y)
    print(run_host(program, folder / "input.wav", folder / "lstm.wav", BLOCK))
    run_host(program, folder / "input.wav", folder / "whole.wav", len(test_x))
    lstm, whole = read_wav(folder / "lstm.wav"), read_wav(folder / "whole.wav")
    same = np.array_equal(lstm, whole)
    print(f"blocks of {BLOCK} samples and a single block give {'the same' if same else 'DIFFERENT'} numbers")
    with torch.no_grad():
        expected = model(torch.from_numpy(test_x)[:, None, None])[0].flatten().numpy()
    print(f"largest difference from PyTorch: {np.abs(lstm - expected).max():.1e}")

    static = static_curve(x, y, test_x)
    print(f"error-to-signal ratio of a static curve: {error_to_signal(static, test_y):.2%}")
    print(f"error-to-signal ratio of the LSTM: {error_to_signal(lstm, test_y):.2%}")
    write_wav(folder / "static.wav", static)
    if find_spec("matplotlib"):
        draw(folder / "amplifier.png", test_y, lstm, static)


if __name__ == "__main__":
    main()
