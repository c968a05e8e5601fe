"""The unfolded network: its parts at several steps, the states between them, and gradients on their way back."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from elman.drawing.parts import DrawnPart
from elman.drawing.scene import MINUS, Arrow, Box, DrawnText, Scene
from elman.drawing.tower import SHIFT, UP, Placed, tower

SIZE, LINE = 8.5, 11.0  # of the names of boxes, and the heights of their lines
LANE, LANE_OF_GRADIENT = 21.0, 37.0  # heights that a state needs between boxes, without and with its gradient
ARROW, DOTS, SHORT = 44.0, 16.0, 16.0  # lengths between boxes, the first at least
WIDEST, THINNEST, DECADE = 3.6, 0.6, 0.6  # widths of the arrows of gradients; how much thinner a tenth is

Gradients = Mapping[str, Sequence[float]]  # by the names of states in the model, the norm at each step


class DrawnSteps(NamedTuple):
    """Those that are drawn.

    total: how many there are; None for any number, of which those around t are drawn.
    """

    numbers: tuple[int, ...]
    total: int | None = None

    def name(self, number: int) -> str:
        """Of a step, or of what was before all."""
        if self.total is None:
            return "t" if number == 0 else f"t+{number}" if number > 0 else f"t{MINUS}{-number}"
        return str(number) if 0 <= number < self.total else "start"


ANY = DrawnSteps((-1, 0, 1))


def steps_of(T: int) -> DrawnSteps:
    """The first, the last, and two between."""
    return DrawnSteps(tuple(sorted({round(i * (T - 1) / 3) for i in range(4)})), T)


def height(part: DrawnPart, with_gradients: bool) -> float:
    """Of the box of a part."""
    lane = LANE_OF_GRADIENT if with_gradients else LANE
    return max(LINE * len(words(part.name)) + 14, lane * len(part.states) + 8)


def words(title: str) -> list[str]:
    """A name on as many lines as it needs: MultiplicativeLSTM on two.

    >>> words("MultiplicativeLSTM"), words("RNN"), words("GRU with zoneout")
    (['Multiplicative', 'LSTM'], ['RNN'], ['GRU with', 'zoneout'])
    """
    starts = [i for i in range(1, len(title)) if title[i - 1] == " " or (title[i].isupper() and title[i - 1].islower())]
    pieces = [title[i:j] for i, j in pairwise([0, *starts, len(title)])]
    longest, found = max(9, *(len(piece.strip()) for piece in pieces)), [""]
    for piece in pieces:
        fits = len((found[-1] + piece).strip()) <= longest
        found = [*found[:-1], found[-1] + piece] if fits else [*found, piece]
    return [word if len(word) <= 16 else f"{word[:15]}…" for word in map(str.strip, found)]


class Unfolded:
    """The unfolded network as it is drawn.

    Args:
        scene: into which.
        levels: of the network.
        steps: that are drawn.
        gradients: that are written at the states, if there are any.
    """

    def __init__(self, scene: Scene, levels: Sequence[Placed], steps: DrawnSteps, gradients: Gradients) -> None:
        self.scene, self.levels, self.steps, self.gradients = scene, levels, steps, gradients
        self.parts = [part for placed in levels for part in placed.level.parts]
        self.shift = SHIFT * any(part.back for part in self.parts)
        self.reach, self.dots = self._reach(), 0.0 if steps.total else DOTS
        self.arrow = self.reach + self.shift
        self.width = max(DrawnText(word, 0, 0, SIZE).width for part in self.parts for word in words(part.name)) + 12
        self.largest = max((v for norms in gradients.values() for v in norms if math.isfinite(v)), default=0.0)

    def draw(self, left: float) -> None:
        """Draw it from `left` on."""
        end = self.arrow + self.dots
        x, columns = left + end + self.shift + self.width / 2, []
        for number, after in zip(self.steps.numbers, [*self.steps.numbers[1:], None], strict=True):
            columns.append(self._column(number, x))
            broken = after is not None and after - number > 1
            x += self.width + (self.arrow + (DOTS + SHORT) * broken if after is not None else end + self.shift)
        right = x - self.width / 2
        for k, part in enumerate(self.parts):
            boxes = [column[k] for column in columns]
            steps = [*zip(self.steps.numbers, boxes, strict=True)]
            for s in range(len(part.states)):
                lane = Lane(self, part, s, boxes[0].y)
                lane.draw(steps[::-1] if part.back else steps, *((right, left) if part.back else (left, right)))

    def _reach(self) -> float:
        """How long an arrow is, over which the name of any state has to fit."""
        names = {self.steps.name(number + by) for number in self.steps.numbers for by in (-1, 0, 1)}
        labels = (_label(symbol, name) for part in self.parts for symbol in part.symbols for name in names)
        return max(ARROW, *(label.width + 10 for label in labels))

    def _column(self, number: int, x: float) -> list[Box]:
        name, with_gradients = self.steps.name(number), bool(self.gradients)
        boxes = tower(self.scene, self.levels, x, self.width, lambda part: height(part, with_gradients), name)
        for part, box in zip(self.parts, boxes, strict=True):
            rows = words(part.name)
            self.scene.texts += [
                DrawnText(word, box.x, box.y + LINE * (len(rows) / 2 - i) - 8.5, SIZE) for i, word in enumerate(rows)
            ]
        for letter, y in (("x", self.levels[0].bottom - UP - 11), ("y", self.levels[-1].top + UP + 5)):
            self.scene.texts.append(DrawnText(letter, x, y, 10, "variable", subscript=name))
        return boxes


class Lane:
    """The way of one state of a part through the steps.

    Args:
        drawn: the network.
        part: whose state.
        s: which of its states.
        middle: the height of the part.
    """

    def __init__(self, drawn: Unfolded, part: DrawnPart, s: int, middle: float) -> None:
        self.drawn, self.scene, self.steps = drawn, drawn.scene, drawn.steps
        self.symbol, self.key, self.way = part.symbols[s], part.keys[s], -1 if part.back else 1
        self.norms = drawn.gradients.get(self.key, ())
        lane, off = (LANE_OF_GRADIENT, 4.5) if drawn.gradients else (LANE, -4.0)
        self.y = middle + lane * ((len(part.states) - 1) / 2 - s) + off

    def draw(self, steps: Sequence[tuple[int, Box]], begin: float, end: float) -> None:
        """Through these steps, in the order in which the cell takes them, between two ends."""
        for i, (number, box) in enumerate(steps):
            here = box.x - self.way * box.width / 2
            before = steps[i - 1][0] if i else None
            self._between(number - self.way if before is None else before, number, before is None, begin, here)
            begin = box.x + self.way * box.width / 2
        number = steps[-1][0]
        if self.drawn.dots:
            self._dots(end - self.way * DOTS / 2)
        self._state(number, begin, end - self.way * self.drawn.dots)
        self._gradient(number, begin, end - self.way * self.drawn.dots)

    def _between(self, source: int, target: int, first: bool, begin: float, end: float) -> None:
        """From one step to a later one; or to the first, from where nothing is drawn."""
        if first and self.drawn.dots:
            self._dots(begin + self.way * DOTS / 2)
            begin += self.way * DOTS
        elif abs(target - source) > 1:
            stop = begin + self.way * self.drawn.arrow
            self._dots(stop + self.way * DOTS / 2)
            before = self.steps.name(target - self.way)
            self.scene.arrows.append(self._arrow(before, stop + self.way * DOTS, end))
            end = stop
        self._state(source, begin, end)
        if not first:
            self._gradient(source, begin, end)

    def _arrow(self, step: str, begin: float, end: float) -> Arrow:
        return Arrow(((begin, self.y), (end, self.y)), "state", self.key, step)

    def _state(self, number: int, begin: float, end: float) -> None:
        name = self.steps.name(number)
        self.scene.arrows.append(self._arrow(name, begin, end))
        self.scene.texts.append(_label(self.symbol, name, begin + self.way * self.drawn.reach / 2, self.y + 5))

    def _gradient(self, number: int, begin: float, end: float) -> None:
        """The norm of what arrives after this step, where it is known."""
        if not 0 <= number < len(self.norms):
            return
        value, y = self.norms[number], self.y - 7
        width = thickness(value, self.drawn.largest)
        if width:
            points = ((end, y), (begin, y))
            self.scene.arrows.append(
                Arrow(
                    points, "gradient", self.key, self.steps.name(number), value, width, broken=not math.isfinite(value)
                )
            )
        self.scene.texts.append(
            DrawnText(told(value), begin + self.way * self.drawn.reach / 2, y - 11, 8, "bold", kind="gradient")
        )

    def _dots(self, x: float) -> None:
        self.scene.texts.append(DrawnText("…", x, self.y, 9))


def _label(symbol: str, step: str, x: float = 0.0, y: float = 0.0) -> DrawnText:
    """Of a state, over its arrow."""
    return DrawnText(symbol, x, y, 9, "variable", subscript=step)


def told(value: float) -> str:
    """A norm as it is written.

    >>> told(0.00123), told(2.0), told(123.4), told(1.5e9)
    ('0.0012', '2', '123', '1.5e+09')
    """
    return f"{value:.0f}" if 100 <= value < 1e5 else f"{value:.2g}"


def thickness(value: float, largest: float) -> float:
    """Of the arrow of a gradient: the largest has the widest, and each tenth of it one that is thinner by a step.

    >>> thickness(2.0, 2.0), thickness(0.2, 2.0), thickness(1e-30, 2.0), thickness(0.0, 2.0)
    (3.6, 3.0, 0.6, 0.0)
    """
    if value == 0:
        return 0.0
    if not math.isfinite(value):
        return WIDEST
    return max(WIDEST + DECADE * math.log10(value / largest), THINNEST)
