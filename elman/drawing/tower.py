"""A network at one step: its boxes one above another, and what goes from the input up to the output."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from elman.drawing.parts import DrawnPart, Level
from elman.drawing.scene import Arrow, Box, Scene

UP = 30.0  # from one level to the next
TURN = 20.0  # above and below the two directions of a level, where lines part and meet
BETWEEN = 14.0  # those directions
SHIFT = 10.0  # of these to either side, so that lines get by
DOT = 4.0  # where a line parts


class Placed(NamedTuple):
    """A level at a height: the middles of its parts, where what it reads comes in, and where what it gives goes out."""

    level: Level
    middles: tuple[float, ...]
    bottom: float
    top: float


def placed(levels: Sequence[Level], height: Callable[[DrawnPart], float]) -> list[Placed]:
    """Levels one above another, whose parts need these heights."""
    found, y = [], 0.0
    for level in levels:
        bottom, turn, middles = y, TURN * (len(level.parts) > 1), []
        y += turn - BETWEEN
        for part in level.parts:
            middles.append(y + BETWEEN + height(part) / 2)
            y += BETWEEN + height(part)
        found.append(Placed(level, tuple(middles), bottom, y + turn))
        y += turn + UP
    return found


def tower(
    scene: Scene, levels: Sequence[Placed], x: float, width: float, height: Callable[[DrawnPart], float], step: str = ""
) -> list[Box]:
    """Draw all levels around x with boxes of this width, and what goes up; returns the boxes, part by part."""
    found: list[Box] = []
    y = levels[0].bottom - UP
    for level, middles, bottom, top in levels:
        boxes = [
            Box(x + _shift(level, part), middle, width, height(part), _kind(part), part.place, step)
            for part, middle in zip(level.parts, middles, strict=True)
        ]
        first, last = boxes[0].bounds, boxes[-1].bounds
        scene.arrows.append(Arrow(((x, y), (x, first.bottom)), step=step))
        if len(boxes) > 1:
            split, join, left, right = bottom + TURN / 4, top - TURN / 3, first.left - SHIFT, last.right + SHIFT
            scene.arrows.append(Arrow(((x, split), (left, split), (left, last.bottom)), step=step))
            scene.arrows.append(Arrow(((right, first.top), (right, join), (x, join)), step=step))
            scene.boxes.append(Box(x, split, DOT, DOT, "dot"))
        found += boxes
        y = last.top
    scene.arrows.append(Arrow(((x, y), (x, levels[-1].top + UP)), step=step))
    scene.boxes += found
    return found


def _shift(level: Level, part: DrawnPart) -> float:
    return 0.0 if len(level.parts) == 1 else -SHIFT if part.back else SHIFT


def _kind(part: DrawnPart) -> Literal["cell", "reverse", "module"]:
    return "module" if not part.states else "reverse" if part.back else "cell"
