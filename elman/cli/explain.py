"""The command `elman explain`. Imports nothing heavy, so that `--help` is fast."""

import math
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from elman.errors import BadInput
from elman.io.files import check_place, write_whole
from elman.io.format import counted
from elman.io.terminal import show
from elman.options import Real, Whole, with_parameters

if TYPE_CHECKING:
    from elman.report.explain.lesson import ExplainedTraining, Lesson

# Limits that keep the page readable.
MAX_WORDS, MAX_UNITS, MAX_STEPS = 12, 8, 1000


@with_parameters()
def explain(
    context: typer.Context,
    sentence: Annotated[str, typer.Argument(help=f"2 to {MAX_WORDS} words.", metavar="SENTENCE", show_default=False)],
    hidden: Annotated[
        Whole, Field(ge=1, le=MAX_UNITS, description=f"Number of hidden units, at most {MAX_UNITS}.")
    ] = 4,
    activation: Annotated[Literal["tanh", "sigmoid", "relu"], Field(description="g")] = "tanh",
    lr: Annotated[Real, Field(gt=0, description="Learning rate.")] = 0.5,
    steps: Annotated[
        Whole, Field(ge=1, le=MAX_STEPS, description=f"Number of gradient descent steps, at most {MAX_STEPS}.")
    ] = 100,
    seed: Annotated[Whole, Field(ge=0, description="Random seed for the weights.")] = 0,
    out: Annotated[Path, typer.Option(help="Output file.", metavar="FILE")] = Path("explain.html"),
) -> None:
    """Write a page that shows every number of a network learning a sentence: forward, back through time, training."""
    words = _words(sentence)
    check_place(out, [".html"], "--out " if _was_given(context, "out") else "")
    from elman.report.explain import page
    from elman.report.explain.lesson import Lesson, train

    lesson = Lesson(words, hidden, activation, lr, steps, seed)
    trained = train(lesson)
    names = [name for name in ("hidden", "activation", "lr", "steps", "seed") if _was_given(context, name)]
    options = "".join(f" --{name} {context.params[name]}" for name in names)
    command = f"elman explain {shlex.quote(' '.join(words))}{options}"
    write_whole(out, page.write(lesson, trained.losses, command))
    show("\n".join([*_summary(lesson, trained), "", f"page: {out}"]))


def _words(sentence: str) -> tuple[str, ...]:
    """Split and check a sentence."""
    words = tuple(sentence.split())
    kinds = {unicodedata.category(letter): letter for word in words for letter in word}
    _expect("Cs" not in kinds, "SENTENCE: expected UTF-8 text, got invalid bytes")
    _expect("Cc" not in kinds, f"SENTENCE: expected words, got the control character {kinds.get('Cc')!r}")
    got = f"got {len(words)}" + (f", {sentence!r}" if len(words) < 2 else "")
    _expect(2 <= len(words) <= MAX_WORDS, f"SENTENCE: expected 2 to {MAX_WORDS} words, in quotes; {got}")
    _expect(len(set(words)) > 1, f"SENTENCE: expected at least two different words, got only {words[0]!r}")
    return words


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise BadInput(message)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _summary(lesson: "Lesson", trained: "ExplainedTraining") -> Iterator[str]:
    """Yield the lines that describe the result of the training."""
    losses = trained.losses
    yield f"RNN with {counted(lesson.hidden, 'unit')}, {sum(w.size for w in trained.p)} weights"
    yield f"{counted(lesson.steps, 'step')} of gradient descent, learning rate {lesson.learning_rate:g}:"
    yield f"loss {losses[0]:.3f} untrained, {losses[-1]:z.3f} trained"
    non_finite_steps = [step for step, loss in enumerate(losses) if not math.isfinite(loss)]
    if lesson.steps in non_finite_steps:
        yield "training diverged, as the page shows; try a smaller --lr"
        return
    if non_finite_steps:
        first, again = counted(non_finite_steps[0], "step"), counted(non_finite_steps[-1] + 1, "step")
        yield f"the loss was infinite after {first} and finite again after {again}; try a smaller --lr"
    for t, y in enumerate(trained.y):
        context, target = " ".join(lesson.words[: t + 1]), lesson.words[t + 1]
        yield f'after "{context}": {target} {y[lesson.vocabulary.index(target)]:.0%}'
