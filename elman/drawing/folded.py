"""Draws the folded network: every part once, with its parameters and a loop for its states."""

from collections.abc import Sequence

from elman.drawing.parts import DrawnPart, Level
from elman.drawing.scene import MINUS, MONO, Arrow, Box, DrawnText, Scene
from elman.drawing.tower import SHIFT, UP, Placed, tower

# Sizes in points.
PAD = 9.0  # padding inside boxes
LINE, HEADING = 11.5, 26.0  # line heights
SIZE = 8.0  # font size of names and shapes
LOOP, DELAY, LABEL_GAP = 30.0, (27.0, 13.0), 5.0  # width of a loop; size of its delay box; gap before its label
MIN_LOOP_HEIGHT = 58.0  # minimum height of a box with a loop

Line = tuple[str, str, str, str]


def lines(part: DrawnPart) -> list[Line]:
    """Return the lines of text in a box, as (kind, name, symbolic shape, numeric shape)."""
    table: list[Line] = []
    for kind, rows in (("states", part.states), ("parameters", part.parameters)):
        table += [(kind * (i == 0), row.name, row.letters, row.shape) for i, row in enumerate(rows)]
    return [*table, ("gates", part.gates, "", "")] if part.gates else table


def height(part: DrawnPart) -> float:
    """Return the height of a part's box, which has room for its text and its loop, in points."""
    return max(HEADING + LINE * len(lines(part)), MIN_LOOP_HEIGHT if part.states else 0.0)


def width(levels: Sequence[Level]) -> float:
    """Return the width of all boxes, which the widest part determines, in points."""
    parts = [part for level in levels for part in level.parts]
    headings = [_title(part, 0).width + 16 + _place(part, 0).width for part in parts]
    return max(sum(_columns(levels)), *headings) + 2 * PAD


def folded(scene: Scene, levels: Sequence[Placed], left: float) -> float:
    """Draw the folded network.

    Args:
        scene: the scene to draw into.
        levels: the levels with their heights.
        left: left edge of the network, in points.

    Returns:
        Its right edge, in points.
    """
    all_levels = [placed.level for placed in levels]
    box_width, parts = width(all_levels), [part for level in all_levels for part in level.parts]
    loop_width = max(
        (max(LOOP + DELAY[0] / 2, _symbols(part).width + LABEL_GAP) + SHIFT for part in parts if part.is_reverse),
        default=0,
    )
    x = left + box_width / 2 + loop_width
    boxes = tower(scene, levels, x, box_width, height)
    right = x + box_width / 2
    for part, box in zip(parts, boxes, strict=True):
        _write(scene, part, box, _columns(all_levels))
        if part.states:
            right = max(right, _loop(scene, part, box))
    for low, high in zip([None, *levels], [*levels, None], strict=True):
        _edge(scene, low, high, x)
    return right


def _columns(levels: Sequence[Level]) -> list[float]:
    """Return the widths of the text columns in a box, in points."""
    rows = [line for level in levels for part in level.parts for line in lines(part)]
    counts = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return [(count + 2 * (count > 0)) * MONO * SIZE for count in counts[:-1]] + [counts[-1] * MONO * SIZE]


def _title(part: DrawnPart, x: float, y: float = 0.0) -> DrawnText:
    return DrawnText(part.title, x, y, 10, "bold", "left")


def _place(part: DrawnPart, x: float, y: float = 0.0) -> DrawnText:
    return DrawnText(part.place, x, y, 8.5, "plain", "right", kind="faint")


def _write(scene: Scene, part: DrawnPart, box: Box, columns: Sequence[float]) -> None:
    left, _, right, top = box.bounds
    y = top - 15
    scene.texts += [_title(part, left + PAD, y), *([_place(part, right - PAD, y)] if part.place else [])]
    for k, line in enumerate(lines(part), 1):
        x, y = left + PAD, top - HEADING + 8 - LINE * k
        for i, (cell, wide) in enumerate(zip(line, columns, strict=True)):
            if cell:
                scene.texts.append(DrawnText(cell, x, y, SIZE, "mono", "left", kind="main" if i else "faint"))
            x += wide


def _symbols(part: DrawnPart, x: float = 0.0, y: float = 0.0) -> DrawnText:
    return DrawnText(", ".join(part.symbols), x, y, 9.5, "variable", "right" if part.is_reverse else "left")


def _loop(scene: Scene, part: DrawnPart, box: Box) -> float:
    """Draw the state loop to the next step: on the right of a box, on the left if it reads backward in time."""
    side = -1 if part.is_reverse else 1
    x, reach = box.x + side * box.width / 2, min(box.height / 2 - 8, 26.0)
    far, (wide, high) = x + side * LOOP, DELAY
    names = ", ".join(part.keys)
    up, down = box.y + reach, box.y - reach
    scene.arrows.append(Arrow(((x, up), (far, up), (far, box.y + high / 2)), "state", names, head=False))
    scene.arrows.append(Arrow(((far, box.y - high / 2), (far, down), (x, down)), "state", names))
    scene.boxes.append(Box(far, box.y, wide, high, "delay", part.place))
    scene.texts.append(DrawnText("t+1" if part.is_reverse else f"t{MINUS}1", far, box.y - 3, 8.5))
    label = _symbols(part, x + side * LABEL_GAP, up + 4)
    scene.texts.append(label)
    return max(label.bounds.right, far + wide / 2)


def _edge(scene: Scene, low: Placed | None, high: Placed | None, x: float) -> None:
    """Write the number of features between two levels, if it is known, and the labels x and y."""
    input_width, output_width = high and high.level.input_width, low and low.level.output_width
    size = input_width or output_width
    if low is None and high is not None:
        scene.texts.append(DrawnText("x", x, high.bottom - UP - 11, 10, "variable"))
    if high is None and low is not None:
        scene.texts.append(DrawnText("y", x, low.top + UP + 5, 10, "variable"))
    if size is not None:
        text = str(size)
        if low is not None and len(low.level.parts) > 1 and output_width is not None and output_width % 2 == 0:
            text = f"{output_width} = {output_width // 2} + {output_width // 2}"
        y = (low.top + UP / 2 if low else high.bottom - UP / 2 if high else 0.0) - 3
        scene.texts.append(DrawnText(text, x + 6, y, SIZE, "mono", "left", kind="faint"))
