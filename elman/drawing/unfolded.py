"""Draws the unfolded network: its parts at several time steps, the states between them, and gradients."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from elman.drawing.parts import DrawnPart
from elman.drawing.scene import MINUS, Arrow, Box, DrawnText, Scene
from elman.drawing.tower import SHIFT, UP, Placed, tower

# Sizes in points.
SIZE, LINE = 8.5, 11.0  # font size and line height of the names of boxes
LANE, LANE_OF_GRADIENT = 21.0, 37.0  # height of a state between boxes, without and with its gradient
MIN_ARROW, DOTS, SHORT = 44.0, 16.0, 16.0  # minimum length of an arrow; length of an ellipsis and of the arrow after it
MAX_WIDTH, MIN_WIDTH, DECADE = 3.6, 0.6, 0.6  # widths of gradient arrows; decrease of the width per factor of ten

Gradients = Mapping[str, Sequence[float]]  # the norm at each time step, by the name of the state in the model


class DrawnSteps(NamedTuple):
    """The time steps that are drawn.

    Attributes:
        numbers: the steps, numbered from 0, or relative to t if `total` is None.
        total: number of time steps; None if it is arbitrary.
    """

    numbers: tuple[int, ...]
    total: int | None = None

    def name(self, number: int) -> str:
        """Return the name of a step, or "start" for the initial state."""
        if self.total is None:
            return "t" if number == 0 else f"t+{number}" if number > 0 else f"t{MINUS}{-number}"
        return str(number) if 0 <= number < self.total else "start"


ANY = DrawnSteps((-1, 0, 1))


def steps_of(T: int) -> DrawnSteps:
    """Select up to four of T time steps, evenly spaced, with the first and the last."""
    return DrawnSteps(tuple(sorted({round(i * (T - 1) / 3) for i in range(4)})), T)


def height(part: DrawnPart, with_gradients: bool) -> float:
    """Return the height of a part's box, in points."""
    lane = LANE_OF_GRADIENT if with_gradients else LANE
    return max(LINE * len(words(part.name)) + 14, lane * len(part.states) + 8)


def words(title: str) -> list[str]:
    """Split a name into lines at spaces and capital letters.

    >>> words("MultiplicativeLSTM"), words("RNN"), words("GRU with zoneout")
    (['Multiplicative', 'LSTM'], ['RNN'], ['GRU with', 'zoneout'])
    """
    starts = [i for i in range(1, len(title)) if title[i - 1] == " " or (title[i].isupper() and title[i - 1].islower())]
    pieces = [title[i:j] for i, j in pairwise([0, *starts, len(title)])]
    max_length, rows = max(9, *(len(piece.strip()) for piece in pieces)), [""]
    for piece in pieces:
        is_short = len((rows[-1] + piece).strip()) <= max_length
        rows = [*rows[:-1], rows[-1] + piece] if is_short else [*rows, piece]
    return [word if len(word) <= 16 else f"{word[:15]}…" for word in map(str.strip, rows)]


class Unfolded:
    """Draws the unfolded network.

    Args:
        scene: the scene to draw into.
        levels: the levels with their heights.
        steps: the time steps to draw.
        gradients: gradient norms to draw at the states; empty to draw none.
    """

    def __init__(self, scene: Scene, levels: Sequence[Placed], steps: DrawnSteps, gradients: Gradients) -> None:
        self.scene, self.levels, self.steps, self.gradients = scene, levels, steps, gradients
        self.parts = [part for placed in levels for part in placed.level.parts]
        self.shift = SHIFT * any(part.is_reverse for part in self.parts)
        self.reach, self.dots = self._reach(), 0.0 if steps.total else DOTS
        self.arrow = self.reach + self.shift
        self.width = max(DrawnText(word, 0, 0, SIZE).width for part in self.parts for word in words(part.name)) + 12
        self.largest = max((v for norms in gradients.values() for v in norms if math.isfinite(v)), default=0.0)

    def draw(self, left: float) -> None:
        """Draw the network with its left edge at `left`, in points."""
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
                begin, stop = (right, left) if part.is_reverse else (left, right)
                lane.draw(steps[::-1] if part.is_reverse else steps, begin, stop)

    def _reach(self) -> float:
        """Return the length of the state arrows, which fits the longest label, in points."""
        names = {self.steps.name(number + by) for number in self.steps.numbers for by in (-1, 0, 1)}
        labels = (_label(symbol, name) for part in self.parts for symbol in part.symbols for name in names)
        return max(MIN_ARROW, *(label.width + 10 for label in labels))

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
    """Draws one state of a part along the time steps.

    Args:
        network: the unfolded network.
        part: the part that has the state.
        s: index of the state.
        middle: vertical center of the part, in points.
    """

    def __init__(self, network: Unfolded, part: DrawnPart, s: int, middle: float) -> None:
        self.network, self.scene, self.steps = network, network.scene, network.steps
        self.symbol, self.key, self.direction = part.symbols[s], part.keys[s], -1 if part.is_reverse else 1
        self.norms = network.gradients.get(self.key, ())
        lane, off = (LANE_OF_GRADIENT, 4.5) if network.gradients else (LANE, -4.0)
        self.y = middle + lane * ((len(part.states) - 1) / 2 - s) + off

    def draw(self, steps: Sequence[tuple[int, Box]], begin: float, end: float) -> None:
        """Draw the state at all steps.

        Args:
            steps: step numbers and boxes, in the order in which the cell processes them.
            begin: horizontal start of the lane, in points.
            end: horizontal end of the lane, in points.
        """
        for i, (number, box) in enumerate(steps):
            here = box.x - self.direction * box.width / 2
            before = steps[i - 1][0] if i else None
            self._between(number - self.direction if before is None else before, number, before is None, begin, here)
            begin = box.x + self.direction * box.width / 2
        number = steps[-1][0]
        if self.network.dots:
            self._dots(end - self.direction * DOTS / 2)
        self._state(number, begin, end - self.direction * self.network.dots)
        self._gradient(number, begin, end - self.direction * self.network.dots)

    def _between(self, source: int, target: int, is_first: bool, begin: float, end: float) -> None:
        """Draw the state between two steps, or from the start of the lane to the first step."""
        if is_first and self.network.dots:
            self._dots(begin + self.direction * DOTS / 2)
            begin += self.direction * DOTS
        elif abs(target - source) > 1:
            stop = begin + self.direction * self.network.arrow
            self._dots(stop + self.direction * DOTS / 2)
            before = self.steps.name(target - self.direction)
            self.scene.arrows.append(self._arrow(before, stop + self.direction * DOTS, end))
            end = stop
        self._state(source, begin, end)
        if not is_first:
            self._gradient(source, begin, end)

    def _arrow(self, step: str, begin: float, end: float) -> Arrow:
        return Arrow(((begin, self.y), (end, self.y)), "state", self.key, step)

    def _state(self, number: int, begin: float, end: float) -> None:
        name = self.steps.name(number)
        self.scene.arrows.append(self._arrow(name, begin, end))
        self.scene.texts.append(_label(self.symbol, name, begin + self.direction * self.network.reach / 2, self.y + 5))

    def _gradient(self, number: int, begin: float, end: float) -> None:
        """Draw the gradient norm at the state after this step, if it is known."""
        if not 0 <= number < len(self.norms):
            return
        value, y = self.norms[number], self.y - 7
        width = thickness(value, self.network.largest)
        if width:
            points = ((end, y), (begin, y))
            self.scene.arrows.append(
                Arrow(
                    points, "gradient", self.key, self.steps.name(number), value, width, broken=not math.isfinite(value)
                )
            )
        self.scene.texts.append(
            DrawnText(
                format_norm(value), begin + self.direction * self.network.reach / 2, y - 11, 8, "bold", kind="gradient"
            )
        )

    def _dots(self, x: float) -> None:
        self.scene.texts.append(DrawnText("…", x, self.y, 9))


def _label(symbol: str, step: str, x: float = 0.0, y: float = 0.0) -> DrawnText:
    """Return the label of a state, to be placed above its arrow."""
    return DrawnText(symbol, x, y, 9, "variable", subscript=step)


def format_norm(value: float) -> str:
    """Format a gradient norm.

    >>> format_norm(0.00123), format_norm(2.0), format_norm(123.4), format_norm(1.5e9)
    ('0.0012', '2', '123', '1.5e+09')
    """
    return f"{value:.0f}" if 100 <= value < 1e5 else f"{value:.2g}"


def thickness(value: float, largest: float) -> float:
    """Return the line width of a gradient arrow, which decreases linearly with the logarithm of the norm.

    Args:
        value: the norm.
        largest: the largest norm in the diagram.

    Returns:
        The line width, in points; 0 for a zero gradient, and the maximum for one that is not finite.

    >>> thickness(2.0, 2.0), thickness(0.2, 2.0), thickness(1e-30, 2.0), thickness(0.0, 2.0)
    (3.6, 3.0, 0.6, 0.0)
    """
    if value == 0:
        return 0.0
    if not math.isfinite(value):
        return MAX_WIDTH
    return max(MAX_WIDTH + DECADE * math.log10(value / largest), MIN_WIDTH)
