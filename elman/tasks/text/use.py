"""A trained run put to use: `elman generate` and `elman evaluate`."""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from elman.errors import BadInput
from elman.files import read_text
from elman.flow import Recording, record
from elman.report import flow as report
from elman.report import tables
from elman.runs import Run, open_run
from elman.tasks.text import corpus, sample, score, tokens
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.ngram import NGram
from elman.tasks.text.streams import streams

STEPS, SEQUENCES = 128, 16  # that are looked at, where nothing else is said


def load(path: Path) -> tuple[Run, LanguageModel, Tokenizer]:
    """Open a run of `elman train text`, ready to be used.

    Raises:
        BadInput: if anything in it is missing, damaged or does not belong together.
    """
    run = open_run(path)
    with torch.device("meta"):
        model = LanguageModel.of(run)
    tokenizer = tokens.load(path / "tokenizer.json")
    known, expected = tokenizer.get_vocab_size(), run.config["model"]["vocabulary"]
    if known != expected:
        raise BadInput(f"{path / 'tokenizer.json'}: expected {expected} tokens by config.json, got {known}")
    run.load_model(model)
    return run, model.eval(), tokenizer


def _baseline(run: Run) -> NGram:
    try:
        return NGram.from_tensors({name: tensor.numpy() for name, tensor in run.load_tensors("baseline").items()})
    except ValueError as error:
        raise BadInput(f"{run.path / 'baseline.safetensors'}: {error}") from None


def generate(
    path: Path, prompt: str, length: int, temperature: float, top_k: int, top_p: float, seed: int | None
) -> None:
    """Write the prompt and what follows it to standard output as it is drawn."""
    _, model, tokenizer = load(path)
    known, unknown = tokens.split_known(tokenizer, prompt)
    ids = tokens.encode(tokenizer, known).tolist()
    if prompt.strip() and not ids:
        raise BadInput(f"--prompt: expected text like that of the training, got only what it never saw: {prompt!r}")
    if unknown and prompt.strip():
        never = ", ".join(map(repr, unknown))
        print(f"elman: --prompt: left out what the training never saw: {never}", file=sys.stderr)
    if not ids:  # nothing to go on from: begin with any token
        ids = [1]
    decoder = DecodeStream()
    out = sys.stdout
    out.write(prompt.lstrip("\n") if prompt.strip() else "")
    drawn = sample.generate(
        model, ids, length, temperature, top_k, top_p, seed, never=tokenizer.token_to_id(tokens.UNKNOWN)
    )
    for token in drawn:
        piece = decoder.step(tokenizer, token)
        if piece:
            out.write(piece)
            out.flush()
    out.write("\n")


def flow(path: Path, file: Path | None, encoding: str, steps: int, sequences: int, out: Path | None) -> None:
    """Print what the gradient does on its way back through time, and draw it."""
    run, model, tokenizer = load(path)
    ids = tokens.encode(tokenizer, corpus.read(*source_of(run, file, encoding)))
    if len(ids) <= steps:
        name = source_of(run, file, encoding)[0] or corpus.DEFAULT
        raise BadInput(f"{name}: expected more than {steps} tokens (--steps), got {len(ids)}; give fewer --steps")
    console = tables.console()
    recording, _ = recorded(model, ids, steps, sequences)
    report.show(recording, console, out or path / "flow", path / "flow.csv")


def network(path: Path, gradients: bool) -> tuple[LanguageModel, Recording | None]:
    """The trained model of a run, and if they are wanted, the gradients of a backward pass on the run's text."""
    run, model, tokenizer = load(path)
    if not gradients:
        return model, None
    ids = tokens.encode(tokenizer, corpus.read(*source_of(run)))
    return model, recorded(model, ids, min(STEPS, len(ids) - 1), SEQUENCES)[0]


def source_of(run: Run, file: Path | None = None, encoding: str = "") -> tuple[Path | None, str]:
    """This file and its encoding, or those of the run's text."""
    data = run.config["data"]
    own = Path(data["file"]) if data.get("file") else None
    return (file, encoding) if file else (own, data.get("encoding", "utf-8"))


def recorded(model: LanguageModel, ids: NDArray[np.integer], steps: int, sequences: int) -> tuple[Recording, int]:
    """A backward pass through so many steps of pieces of a text, and how many of these there are: fewer than asked for
    in a short text.
    """
    sequences = min(sequences, (len(ids) - 1) // steps)
    with record(model) as recording:
        loss, count, _ = model.loss(streams(ids, sequences, steps)[0], None)
        (loss / count).backward()
    return recording, sequences


def evaluate(path: Path, file: Path, encoding: str) -> None:
    """Print the scores of model and baseline on a text."""
    run, model, tokenizer = load(path)
    text = score.Text.of(tokenizer, read_text(file, encoding))
    if len(text.ids) < 2:
        raise BadInput(f"{file}: expected at least 2 tokens, got {len(text.ids)}")
    console = tables.console()
    nats = {model.title: score.nats(model, text.ids, console if console.is_terminal else None)}
    if (path / "baseline.safetensors").exists():
        baseline = _baseline(run)
        nats[baseline.title] = float(baseline.nats(text.ids).sum())
    score.show(text, nats, console)
