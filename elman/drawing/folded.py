"""The folded network: every part once, with its parameters, and its states on their way to the next step."""

from collections.abc import Sequence

from elman.drawing.parts import DrawnPart, Level
from elman.drawing.scene import MINUS, MONO, Arrow, Box, DrawnText, Scene
from elman.drawing.tower import SHIFT, UP, Placed, tower

PAD = 9.0  # in boxes, around what is written
LINE, HEADING = 11.5, 26.0  # heights of lines
SIZE = 8.0  # of the letters of names and shapes
LOOP, DELAY, NEAR = 30.0, (27.0, 13.0), 5.0  # how far a loop goes out; the box on it; how near its label is
LOOPED = 58.0  # height of a box with a loop, at least

Line = tuple[str, str, str, str]


def lines(part: DrawnPart) -> list[Line]:
    """What is written in a box: kinds, names, shapes in letters and in numbers."""
    found: list[Line] = []
    for kind, rows in (("states", part.states), ("parameters", part.parameters)):
        found += [(kind * (i == 0), row.name, row.letters, row.shape) for i, row in enumerate(rows)]
    return [*found, ("gates", part.gates, "", "")] if part.gates else found


def height(part: DrawnPart) -> float:
    """Of the box of a part; there has to be room for its loop."""
    return max(HEADING + LINE * len(lines(part)), LOOPED if part.states else 0.0)


def width(levels: Sequence[Level]) -> float:
    """Of the boxes of all parts, which are as wide as the widest has to be."""
    parts = [part for level in levels for part in level.parts]
    headings = [_title(part, 0).width + 16 + _place(part, 0).width for part in parts]
    return max(sum(_columns(levels)), *headings) + 2 * PAD


def folded(scene: Scene, levels: Sequence[Placed], left: float) -> float:
    """Draw it from `left` on; returns where it ends on the right."""
    own = [placed.level for placed in levels]
    wide, parts = width(own), [part for level in own for part in level.parts]
    beside = max(
        (max(LOOP + DELAY[0] / 2, _symbols(part).width + NEAR) + SHIFT for part in parts if part.back), default=0
    )
    x = left + wide / 2 + beside
    boxes = tower(scene, levels, x, wide, height)
    right = x + wide / 2
    for part, box in zip(parts, boxes, strict=True):
        _write(scene, part, box, _columns(own))
        if part.states:
            right = max(right, _loop(scene, part, box))
    for low, high in zip([None, *levels], [*levels, None], strict=True):
        _edge(scene, low, high, x)
    return right


def _columns(levels: Sequence[Level]) -> list[float]:
    """Their widths."""
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
    return DrawnText(", ".join(part.symbols), x, y, 9.5, "variable", "right" if part.back else "left")


def _loop(scene: Scene, part: DrawnPart, box: Box) -> float:
    """The way of the states to the next step, on the right of a box; on the left, where time goes back."""
    side = -1 if part.back else 1
    x, reach = box.x + side * box.width / 2, min(box.height / 2 - 8, 26.0)
    far, (wide, high) = x + side * LOOP, DELAY
    names = ", ".join(part.keys)
    up, down = box.y + reach, box.y - reach
    scene.arrows.append(Arrow(((x, up), (far, up), (far, box.y + high / 2)), "state", names, head=False))
    scene.arrows.append(Arrow(((far, box.y - high / 2), (far, down), (x, down)), "state", names))
    scene.boxes.append(Box(far, box.y, wide, high, "delay", part.place))
    scene.texts.append(DrawnText("t+1" if part.back else f"t{MINUS}1", far, box.y - 3, 8.5))
    label = _symbols(part, x + side * NEAR, up + 4)
    scene.texts.append(label)
    return max(label.bounds.right, far + wide / 2)


def _edge(scene: Scene, low: Placed | None, high: Placed | None, x: float) -> None:
    """How wide what goes up between two levels is, where that is known."""
    reads, gives = high and high.level.reads, low and low.level.gives
    size = reads or gives
    if low is None and high is not None:
        scene.texts.append(DrawnText("x", x, high.bottom - UP - 11, 10, "variable"))
    if high is None and low is not None:
        scene.texts.append(DrawnText("y", x, low.top + UP + 5, 10, "variable"))
    if size is not None:
        two = low is not None and len(low.level.parts) > 1 and gives is not None and gives % 2 == 0
        told = f"{gives} = {gives // 2} + {gives // 2}" if two and gives is not None else str(size)
        y = (low.top + UP / 2 if low else high.bottom - UP / 2 if high else 0.0) - 3
        scene.texts.append(DrawnText(told, x + 6, y, SIZE, "mono", "left", kind="faint"))
