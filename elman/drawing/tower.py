"""Draws a network at one time step: a stack of boxes, with arrows from the input up to the output."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from elman.drawing.parts import DrawnPart, Level
from elman.drawing.scene import Arrow, Box, Scene

# Sizes in points.
UP = 30.0  # gap between levels
TURN = 20.0  # gap above and below the two directions of a level, where lines fork and join
BETWEEN = 14.0  # gap between the two directions
SHIFT = 10.0  # horizontal offset of each direction, which leaves room for lines beside the boxes
DOT = 4.0  # diameter of the dot where a line forks


class Placed(NamedTuple):
    """A level with its vertical position, in points.

    Attributes:
        level: the level.
        middles: vertical center of each part.
        bottom: height of its input.
        top: height of its output.
    """

    level: Level
    middles: tuple[float, ...]
    bottom: float
    top: float


def placed(levels: Sequence[Level], height: Callable[[DrawnPart], float]) -> list[Placed]:
    """Stack levels above one another.

    Args:
        levels: the levels, from the input upward.
        height: returns the height of a part's box, in points.
    """
    positions, y = [], 0.0
    for level in levels:
        bottom, turn, middles = y, TURN * (len(level.parts) > 1), []
        y += turn - BETWEEN
        for part in level.parts:
            middles.append(y + BETWEEN + height(part) / 2)
            y += BETWEEN + height(part)
        positions.append(Placed(level, tuple(middles), bottom, y + turn))
        y += turn + UP
    return positions


def tower(
    scene: Scene, levels: Sequence[Placed], x: float, width: float, height: Callable[[DrawnPart], float], step: str = ""
) -> list[Box]:
    """Draw all levels at one time step.

    Args:
        scene: the scene to draw into.
        levels: the levels with their heights.
        x: horizontal center, in points.
        width: width of the boxes, in points.
        height: returns the height of a part's box, in points.
        step: name of the time step; "" in the folded network.

    Returns:
        The boxes of all parts, in the order of the levels.
    """
    boxes: list[Box] = []
    y = levels[0].bottom - UP
    for level, middles, bottom, top in levels:
        level_boxes = [
            Box(x + _shift(level, part), middle, width, height(part), _kind(part), part.place, step)
            for part, middle in zip(level.parts, middles, strict=True)
        ]
        first, last = level_boxes[0].bounds, level_boxes[-1].bounds
        scene.arrows.append(Arrow(((x, y), (x, first.bottom)), step=step))
        if len(level_boxes) > 1:
            split, join, left, right = bottom + TURN / 4, top - TURN / 3, first.left - SHIFT, last.right + SHIFT
            scene.arrows.append(Arrow(((x, split), (left, split), (left, last.bottom)), step=step))
            scene.arrows.append(Arrow(((right, first.top), (right, join), (x, join)), step=step))
            scene.boxes.append(Box(x, split, DOT, DOT, "dot"))
        boxes += level_boxes
        y = last.top
    scene.arrows.append(Arrow(((x, y), (x, levels[-1].top + UP)), step=step))
    scene.boxes += boxes
    return boxes


def _shift(level: Level, part: DrawnPart) -> float:
    return 0.0 if len(level.parts) == 1 else -SHIFT if part.is_reverse else SHIFT


def _kind(part: DrawnPart) -> Literal["cell", "reverse", "module"]:
    return "module" if not part.states else "reverse" if part.is_reverse else "cell"
