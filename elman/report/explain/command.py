"""`elman explain`. Imports nothing heavy: `--help` has to answer at once."""

import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elman.errors import BadInput
from elman.files import check_place, write_whole
from elman.options import choice, positive, whole

if TYPE_CHECKING:
    from elman.report.explain.lesson import Lesson, Trained

# What a page can show and a reader follow.
WORDS, UNITS, STEPS = 12, 8, 1000


def explain(
    context: typer.Context,
    sentence: Annotated[str, typer.Argument(help=f"2 to {WORDS} words.", metavar="SENTENCE", show_default=False)],
    hidden: Annotated[int, whole(f"Units of the state, {UNITS} at most.", 1, UNITS)] = 4,
    activation: Annotated[str, choice("g", ("tanh", "sigmoid", "relu"))] = "tanh",
    lr: Annotated[float, positive("Learning rate.")] = 0.5,
    steps: Annotated[int, whole(f"Steps of gradient descent, {STEPS} at most.", 1, STEPS)] = 100,
    seed: Annotated[int, whole("Of the weights at the start.", 0)] = 0,
    out: Annotated[Path, typer.Option(help="The page.", metavar="FILE")] = Path("explain.html"),
) -> None:
    """Write a page that shows every number of a network learning a sentence: forward, back through time, training."""
    words = _words(sentence)
    check_place(out, [".html"], "--out " if _was_given(context, "out") else "")
    from elman.report.explain import page
    from elman.report.explain.lesson import Lesson, train

    lesson = Lesson(words, hidden, activation, lr, steps, seed)
    trained = train(lesson)
    given = [name for name in ("hidden", "activation", "lr", "steps", "seed") if _was_given(context, name)]
    options = "".join(f" --{name} {context.params[name]}" for name in given)
    write_whole(out, page.write(lesson, trained.losses, f"elman explain {shlex.quote(sentence)}{options}"))
    print("\n".join([*_said(lesson, trained), "", f"page: {out}"]))


def _words(sentence: str) -> tuple[str, ...]:
    words = tuple(sentence.split())
    _expect(sentence.isprintable() or not words, "SENTENCE: expected one line of text in UTF-8, got other characters")
    got = f"got {len(words)}" + (f", {sentence!r}" if len(words) < 2 else "")
    _expect(2 <= len(words) <= WORDS, f"SENTENCE: expected 2 to {WORDS} words, in quotes; {got}")
    _expect(len(set(words)) > 1, f"SENTENCE: expected at least two different words, got only {words[0]!r}")
    return words


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadInput(otherwise)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _said(lesson: "Lesson", trained: "Trained") -> Iterator[str]:
    units, steps = f"{lesson.hidden} unit", f"{lesson.steps} step"
    yield f"RNN with {units}{'s' * (lesson.hidden > 1)}, {sum(w.size for w in trained.p)} weights"
    yield f"{steps}{'s' * (lesson.steps > 1)} of gradient descent, learning rate {lesson.learning_rate:g}:"
    yield f"loss {trained.losses[0]:.3f} untrained, {trained.losses[-1]:.3f} trained"
    if not math.isfinite(trained.losses[-1]):
        yield "the training exploded, as the page shows; a smaller --lr may not"
        return
    for t, y in enumerate(trained.y):
        seen, right = " ".join(lesson.words[: t + 1]), lesson.words[t + 1]
        yield f'after "{seen}": {right} {y[lesson.vocabulary.index(right)]:.0%}'
