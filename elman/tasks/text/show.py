"""What the report of a text run shows: text that the model writes, and a backward pass through it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer

from elman.errors import BadInput
from elman.report import tables
from elman.report.shown import Missing, Recorded, Sample, Shown
from elman.runs import Run, open_run
from elman.tasks.text import corpus, sample, tokens
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.use import SEQUENCES, STEPS, load, recorded, source_of

TEMPERATURES = (0.5, 0.8, 1.1)
LENGTH = {"char": 400, "word": 90, "bpe": 150}  # tokens: some six lines of each
SEED = 1
UNITS = {
    "characters": "", "train_tokens": "", "validation_tokens": "", "vocabulary": "tokens",
    "embed": "wide", "hidden": "wide", "bptt": "steps", "batch": "streams",
}  # fmt: skip


def show(path: Path) -> Shown:
    """All of it, as far as it is there.

    Raises:
        BadInput: if anything in the run is damaged or does not belong together.
    """
    run = open_run(path)
    ended = run.config.get("ended")
    if not (path / "model.safetensors").exists() and (ended or run.last.exists()):
        with torch.device("meta"):
            model = LanguageModel.of(run)
        why = f"The training has not saved a model yet; to go on: elman train text --resume {path}"
        missing = Missing("The weights of this run, its model.safetensors, are gone." if ended else why)
        return _shown(model, missing, missing)
    _, model, tokenizer = load(path)
    console = tables.console()
    with console.status("drawing samples"):
        samples = _samples(run, model, tokenizer)
    with console.status("going back through time"):
        flow = _flow(run, model, tokenizer)
    return _shown(model, samples, flow)


def _shown(model: LanguageModel, samples: tuple[Sample, ...] | Missing, flow: Recorded | Missing) -> Shown:
    weights = sum(parameter.numel() for parameter in model.parameters())
    return Shown(model.title, weights, "nats_per_token", samples, flow, UNITS)


def _samples(run: Run, model: LanguageModel, tokenizer: Tokenizer) -> tuple[Sample, ...]:
    length = LENGTH.get(run.config["options"].get("tokens"), max(LENGTH.values()))
    begin = tokens.encode(tokenizer, tokens.split_known(tokenizer, "\n")[0]).tolist() or [1]
    never = tokenizer.token_to_id(tokens.UNKNOWN)
    found = []
    for temperature in TEMPERATURES:
        drawn = sample.generate(model, begin, length, temperature, seed=SEED, never=never)
        found.append(
            Sample(f"temperature {temperature:g}, {length} tokens, seed {SEED}", tokenizer.decode(list(drawn)))
        )
    return tuple(found)


def _flow(run: Run, model: LanguageModel, tokenizer: Tokenizer) -> Recorded | Missing:
    source, encoding = source_of(run)
    try:
        text = corpus.read(source, encoding)
    except BadInput as error:
        return Missing(f"The text of the training cannot be read any more: {error}")
    name = source.name if source else corpus.DEFAULT
    if corpus.sha256(text) != run.config["data"].get("sha256"):
        return Missing(f"{name} is no longer the text that this run was trained on.")
    ids = tokens.encode(tokenizer, text)
    steps = min(STEPS, len(ids) - 1)
    recording, sequences = recorded(model, ids, steps, SEQUENCES)
    return Recorded(recording, f"{steps} steps of {sequences} pieces of {name}, side by side")
