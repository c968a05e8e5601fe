"""Options of the command line that several commands share, and how a wrong value is told."""

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from elman.cells import SHELF
from elman.training.options import OPTIMIZERS, SCHEDULES


def whole(help: str, least: int, most: float = math.inf, **more: Any) -> Any:
    """An option that takes a whole number."""
    expected = f"a whole number {_bounds(least, most)}"
    return _number(help, int, expected, lambda value: least <= value <= most, metavar="N", **more)


def real(help: str, least: float, most: float = math.inf, **more: Any) -> Any:
    """An option that takes a finite number."""
    return _number(help, float, f"a number {_bounds(least, most)}", lambda value: least <= value <= most, **more)


def _bounds(least: float, most: float) -> str:
    return f"from {least} up" if most == math.inf else f"from {least} to {most}"


def positive(help: str, most: float = math.inf, **more: Any) -> Any:
    """An option that takes a finite number above zero."""
    bounds = "above 0" if most == math.inf else f"above 0, and {most} at most"
    return _number(help, float, f"a number {bounds}", lambda value: 0 < value <= most, **more)


def choice(help: str, names: "tuple[str, ...] | dict[str, Any]") -> Any:
    """An option that takes one of a few names."""

    def parse(text: str) -> str:
        name = meant(text, names)
        if name is None:
            raise typer.BadParameter(f"expected one of {', '.join(names)}; got {text!r}{perhaps(text, names)}")
        return name

    return typer.Option(help=f"{help}: {', '.join(names)}.", parser=parse, metavar="NAME")


def meant(text: str, names: Iterable[str]) -> str | None:
    """Which of these names a text is, in capitals or not, in one word or several.

    >>> meant("PeepholeLSTM", ["lstm", "peephole_lstm"]), meant("ltsm", ["lstm"])
    ('peephole_lstm', None)
    """
    return {_plain(name): name for name in names}.get(_plain(text))


def perhaps(text: str, names: Iterable[str]) -> str:
    """What to add to a complaint about a text that is none of these names, but looks like one.

    >>> perhaps("Ltsm", ["gru", "lstm"]), perhaps("tree", ["gru", "lstm"])
    ('; did you mean lstm?', '')
    """
    known = {_plain(name): name for name in names}
    near = get_close_matches(_plain(text), known, 1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def _number(
    help: str,
    kind: Callable[[str], float],
    expected: str,
    fits: Callable[[float], bool],
    metavar: str = "X",
    **more: Any,
) -> Any:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise typer.BadParameter(f"expected {expected}; got {text!r}")
        return value

    return typer.Option(help=help, parser=parse, metavar=metavar, **more)


Cell = Annotated[str, choice("The recurrent cell", SHELF)]
Hidden = Annotated[int, whole("Width of each recurrent layer.", 1)]
Layers = Annotated[int, whole("How many recurrent layers.", 1)]
Dropout = Annotated[float, real("Dropout on what each recurrent layer hands up.", 0, 1)]
Batch = Annotated[int, whole("How many sequences side by side.", 1)]
Epochs = Annotated[
    float | None,
    positive("Passes over the data; with --minutes too, what is reached first ends it.", show_default=False),
]
Minutes = Annotated[float | None, positive("Time to train for.", show_default=False)]
Optimizer = Annotated[str, choice("The rule of gradient descent", OPTIMIZERS)]
Rate = Annotated[float | None, positive("Learning rate at its highest.", show_default="by optimizer")]
Schedule = Annotated[str, choice("What the learning rate does in the course of the training", SCHEDULES)]
Clip = Annotated[float, real("Norm that gradients are scaled down to; 0 for never.", 0)]
Patience = Annotated[int, whole("Validations without a new best before giving up; 0 for never.", 0)]
Seed = Annotated[int, whole("Of the weights at the start and of dropout.", 0)]
FlowEvery = Annotated[
    int, whole("Steps between two looks at the gradient's way back through time, into flow.csv; 0 for never.", 0)
]
Encoding = Annotated[str, typer.Option(help="Of the text.", metavar="NAME")]
Out = Annotated[Path | None, typer.Option(help="Folder for the run.", metavar="RUN", show_default="runs/TASK-N")]
Resume = Annotated[Path | None, typer.Option(help="Go on with this run.", metavar="RUN", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN", show_default=False)]
