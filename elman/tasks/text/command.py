"""What the command line offers for texts. Imports nothing heavy: `--help` has to answer at once."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elman import options as shared
from elman.options import choice, positive, real, whole
from elman.tasks.text.options import KINDS, TextOptions

if TYPE_CHECKING:
    from torch import nn

    from elman.flow import Recording
    from elman.report.shown import Shown


def train(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="A text; without it, Python's own reference manual.", metavar="FILE", show_default=False),
    ] = None,
    tokens: Annotated[str, choice("What the text is made of", KINDS)] = "char",
    vocabulary: Annotated[
        int, whole("How many words or byte pairs to know.", 0, show_default="10,000 words, 1,000 byte pairs")
    ] = 0,
    cell: shared.Cell = "lstm",
    hidden: shared.Hidden = 384,
    layers: shared.Layers = 1,
    embed: Annotated[int, whole("Width of the embedding; 0: 64 for characters, else as --hidden.", 0)] = 0,
    dropout: shared.Dropout = 0.2,
    bptt: Annotated[int, whole("Steps that the gradient goes back: truncated BPTT.", 1)] = 64,
    batch: shared.Batch = 16,
    epochs: shared.Epochs = None,
    minutes: shared.Minutes = None,
    optimizer: shared.Optimizer = "adamw",
    lr: shared.Rate = None,
    schedule: shared.Schedule = "cosine",
    clip: shared.Clip = 1.0,
    patience: shared.Patience = 0,
    seed: shared.Seed = 0,
    flow_every: shared.FlowEvery = 0,
    encoding: shared.Encoding = "utf-8",
    out: shared.Out = None,
    resume: shared.Resume = None,
) -> int:
    """Train a language model on a text: 90 % to learn from, the last 10 % to be tested on.

    Without --epochs or --minutes it trains for 3 minutes.
    """
    began = time.monotonic()
    given = {name for name in context.params if context.get_parameter_source(name).name != "DEFAULT"}  # type: ignore[union-attr]
    from elman.tasks.text import train as work
    from elman.training.options import TrainingOptions

    if resume is not None:
        return work.resume(resume, file, epochs, minutes, patience, given, began)
    if epochs is None and minutes is None:
        minutes = 3.0
    training = TrainingOptions(epochs, minutes, optimizer, lr, schedule, clip, patience, seed, flow_every)
    text = TextOptions(tokens, vocabulary, cell, hidden, layers, embed, dropout, bptt, batch)
    return work.start(file, encoding, text, training, out, began)


def generate(
    run: shared.RunFolder,
    prompt: Annotated[str, typer.Option(help="Text to go on from.", metavar="TEXT", show_default="a new line")] = "\n",
    length: Annotated[int, whole("How many tokens to write.", 1)] = 500,
    temperature: Annotated[
        float, real("Below 1 bolder choices become rarer; 0 always takes the likeliest token.", 0)
    ] = 0.8,
    top_k: Annotated[int, whole("Choose among this many likeliest tokens; 0: all.", 0)] = 0,
    top_p: Annotated[float, positive("Choose among the likeliest tokens up to this probability.", 1)] = 1.0,
    seed: Annotated[
        int | None, whole("The same seed writes the same text.", 0, show_default="another each time")
    ] = None,
) -> None:
    """Write new text in the style of what a run was trained on."""
    from elman.tasks.text import use

    use.generate(run, prompt, length, temperature, top_k, top_p, seed)


def evaluate(
    run: shared.RunFolder,
    file: Annotated[Path, typer.Argument(help="A text.", metavar="FILE", show_default=False)],
    encoding: shared.Encoding = "utf-8",
) -> None:
    """Score a trained model on another text, beside its baseline."""
    from elman.tasks.text import use

    use.evaluate(run, file, encoding)


def flow(
    run: shared.RunFolder,
    file: Annotated[
        Path | None, typer.Argument(help="A text.", metavar="FILE", show_default="that of the training")
    ] = None,
    steps: Annotated[int, whole("How many steps to look at, from one end to the other.", 2)] = 128,
    sequences: Annotated[int, whole("How many pieces of the text side by side.", 1)] = 16,
    encoding: shared.Encoding = "utf-8",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures.", metavar="FOLDER", show_default="RUN/flow")
    ] = None,
) -> None:
    """Look at how the gradient of a trained model goes back through time: measured, judged, drawn."""
    from elman.tasks.text import use

    use.flow(run, file, encoding, steps, sequences, out)


def network(run: Path, gradients: bool) -> "tuple[nn.Module, Recording | None]":
    """The trained model of a run, and if they are wanted, the gradients of a backward pass."""
    from elman.tasks.text import use

    return use.network(run, gradients)


def show(run: Path) -> "Shown":
    """What the report of a run shows that only this task can tell."""
    from elman.tasks.text.show import show

    return show(run)
