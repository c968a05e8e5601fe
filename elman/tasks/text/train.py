"""`elman train text`: from a file to a run."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from elman.errors import BadInput
from elman.files import write_whole
from elman.report import curves, tables
from elman.runs import Run, free_path, new_run, open_run
from elman.tasks.text import corpus as corpora
from elman.tasks.text import ngram, score, tokens
from elman.tasks.text.corpus import Corpus
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.options import TextOptions
from elman.tasks.text.score import evaluation_streams
from elman.tasks.text.streams import streams
from elman.training.callbacks import Interrupted
from elman.training.diverged import Diverged
from elman.training.options import TrainingOptions
from elman.training.room import Outcome, fit
from elman.training.task import Batches

HIGHEST_ORDER = {"char": 10, "word": 4, "bpe": 6}  # of the n-grams that are tried as the baseline


class TextTask:
    """What the training room is given."""

    unit = "tokens"

    def __init__(self, model: LanguageModel, corpus: Corpus, options: TextOptions) -> None:
        self.model: nn.Module = model
        self.train: Batches = streams(corpus.train, options.batch, options.bptt)
        self.validation: Batches = evaluation_streams(corpus.validation.ids)
        self.loss = model.loss


def start(
    file: Path | None, encoding: str, options: TextOptions, training: TrainingOptions, out: Path | None, began: float
) -> int:
    """Train a new model; returns the exit code."""
    path = free_path(out, "text")
    name = str(file) if file else corpora.DEFAULT
    console = tables.console()
    with console.status(f"reading {name}"):
        corpus = corpora.prepare(corpora.read(file, encoding), name, options.tokens, options.vocabulary)
    least = options.batch * options.bptt + 1
    if len(corpus.train) < least:
        raise BadInput(
            f"{name}: expected at least {least:,} tokens to train on (--batch {options.batch} streams of --bptt "
            f"{options.bptt} steps, and one more), got {len(corpus.train):,}; give a longer text, or a smaller --batch "
            "or --bptt"
        )
    shape = options.shape(corpus.tokenizer.get_vocab_size())
    torch.manual_seed(training.seed)
    model = LanguageModel(**shape)
    config = {
        "task": "text",
        "data": {
            "name": name,
            "file": str(file.resolve()) if file else None,
            "encoding": encoding,
            "sha256": corpus.sha256,
            "characters": corpus.characters,
            "train_tokens": len(corpus.train),
            "validation_tokens": len(corpus.validation.ids),
        },
        "model": shape,
        "options": asdict(options),
        "training": asdict(training),
    }
    with new_run(path, config) as run:
        write_whole(run.path / "tokenizer.json", corpus.tokenizer.to_str())
        return _train(run, model, corpus, options, training, console, name, began)


def resume(
    path: Path,
    file: Path | None,
    epochs: float | None,
    minutes: float | None,
    patience: int,
    given: set[str],
    began: float,
) -> int:
    """Go on with a training that was interrupted, or longer than was asked for at first; returns the exit code."""
    fixed = given - {"resume", "file", "epochs", "minutes", "patience"}
    if fixed:
        raise BadInput(
            f"--{sorted(fixed)[0].replace('_', '-')}: cannot be changed with --resume; only --epochs, --minutes and "
            "--patience can"
        )
    run = open_run(path)
    model = LanguageModel.of(run)
    try:
        options, training = TextOptions(**run.config["options"]), TrainingOptions(**run.config["training"])
    except TypeError as error:
        raise BadInput(f"{path / 'config.json'}: expected the options of `elman train text`: {error}") from None
    if epochs or minutes:
        training = replace(training, epochs=epochs, minutes=minutes)
    elif run.config.get("ended"):
        raise BadInput(f"--resume {path}: this training has ended; to go on, give more --epochs or --minutes")
    if "patience" in given:
        training = replace(training, patience=patience)
    console = tables.console()
    with console.status("reading the text"):
        corpus, name = _same_corpus(run, file, options)
    run.update(training=asdict(training), ended=None)
    return _train(run, model, corpus, options, training, console, name, began, resume=True)


def _same_corpus(run: Run, file: Path | None, options: TextOptions) -> tuple[Corpus, str]:
    data = run.config["data"]
    source = file or (Path(data["file"]) if data.get("file") else None)
    name = str(source) if source else corpora.DEFAULT
    text = corpora.read(source, data.get("encoding", "utf-8"))
    if corpora.sha256(text) != data.get("sha256"):
        raise BadInput(f"{name}: expected the text that {run.path} was trained on, got another or a changed one")
    tokenizer = tokens.load(run.path / "tokenizer.json")
    return corpora.prepare(text, name, options.tokens, options.vocabulary, tokenizer), name


def _train(
    run: Run,
    model: LanguageModel,
    corpus: Corpus,
    options: TextOptions,
    training: TrainingOptions,
    console: Console,
    name: str,
    began: float,
    resume: bool = False,
) -> int:
    weights = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"{name}: {corpus.characters:,} characters; {len(corpus.train):,} tokens to train on, "
        f"{len(corpus.validation.ids):,} to validate; {corpus.tokenizer.get_vocab_size():,} different ones"
    )
    console.print(f"{model.title}, {weights:,} weights, into {run.path}")
    try:
        outcome = fit(TextTask(model, corpus, options), training, run, console, began, resume)
    except Interrupted:
        console.print(f"Interrupted. All is saved; to go on: elman train text --resume {run.path}")
        return 130
    except Diverged as error:
        raise BadInput(str(error)) from None
    _conclude(run, model, corpus, options.tokens, outcome, console)
    return 0


def _conclude(run: Run, model: LanguageModel, corpus: Corpus, kind: str, outcome: Outcome, console: Console) -> None:
    """Scores, beside the baseline's; the picture; what to do next."""
    with console.status("fitting the n-gram baseline"):
        baseline = ngram.best(
            corpus.train, corpus.validation.ids, corpus.tokenizer.get_vocab_size(), HIGHEST_ORDER[kind]
        )
    text = corpus.validation
    run.save_tensors("baseline", {name: torch.from_numpy(array) for name, array in baseline.tensors().items()})
    nats = {model.title: outcome.best * (len(text.ids) - 1), baseline.title: float(baseline.nats(text.ids).sum())}
    scores = score.show(text, nats, console)
    picture = run.path / "curves.png"
    line = (baseline.title, scores[baseline.title]["nats_per_token"])
    curves.draw(run.path / "metrics.csv", picture, "nats per token", line)
    run.update(scores=scores, ended={"steps": outcome.steps, "seconds": round(outcome.seconds, 1)})
    console.print(f"curves: {picture}\nto write: elman generate {run.path}")
