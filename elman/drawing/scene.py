"""A diagram as data: boxes, arrows and texts, with coordinates in points (1/72 inch) and y pointing up."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Point = tuple[float, float]
Look = Literal["plain", "bold", "mono", "variable"]
Align = Literal["left", "center", "right"]

MINUS = "\N{MINUS SIGN}"
# Upper bounds of the character widths of DejaVu Sans, as multiples of the font size.
MONO, NARROW, CAPITAL, WIDE, OTHER = 0.603, 0.42, 0.79, 1.0, 0.64
NARROW_LETTERS, WIDE_LETTERS = "iljIJftr.,:; ()[]|'!-/", f"mwMW=+…<>{MINUS}"
ASCENT, DESCENT = 0.78, 0.25  # multiples of the font size
SUBSCRIPT, SUBSCRIPT_DROP, SUBSCRIPT_GAP = 0.7, 0.16, 0.06  # size, drop and gap of a subscript, likewise


class Bounds(NamedTuple):
    """A rectangle, by its sides."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Bounds") -> bool:
        """Return whether the two rectangles overlap."""
        is_beside = self.left >= other.right or other.left >= self.right
        return not (is_beside or self.bottom >= other.top or other.bottom >= self.top)


class Box(NamedTuple):
    """A box, by its center and size.

    Attributes:
        x: horizontal center.
        y: vertical center.
        width: width.
        height: height.
        kind: what the box represents, which determines its style.
        part: place of the part in the model.
        step: name of the time step in the unfolded network; "" in the folded network.
    """

    x: float
    y: float
    width: float
    height: float
    kind: Literal["cell", "reverse", "module", "delay", "dot"]
    part: str = ""
    step: str = ""

    @property
    def bounds(self) -> Bounds:
        """The sides of the box."""
        dx, dy = self.width / 2, self.height / 2
        return Bounds(self.x - dx, self.y - dy, self.x + dx, self.y + dy)


class Arrow(NamedTuple):
    """A polyline with an arrow head at its end.

    Attributes:
        points: the vertices.
        kind: what the arrow represents, which determines its style.
        carries: name of the state in the model; "" for data between layers.
        step: name of the time step that the state belongs to.
        value: norm of a gradient; None for other arrows.
        width: line width.
        head: whether the arrow has a head.
        broken: whether the gradient is not finite.
    """

    points: tuple[Point, ...]
    kind: Literal["data", "state", "gradient"] = "data"
    carries: str = ""
    step: str = ""
    value: float | None = None
    width: float = 1.0
    head: bool = True
    broken: bool = False


class DrawnText(NamedTuple):
    """A line of text.

    Attributes:
        text: the text.
        x: horizontal position of the point that `align` refers to.
        y: vertical position of the baseline.
        size: font size.
        look: font style.
        align: horizontal alignment.
        subscript: subscript after the text; "" for none.
        kind: what the text represents, which determines its color.
    """

    text: str
    x: float
    y: float
    size: float = 8.5
    look: Look = "plain"
    align: Align = "center"
    subscript: str = ""
    kind: Literal["main", "faint", "gradient"] = "main"

    @property
    def width(self) -> float:
        """Upper bound of the width, since the exact font metrics are known only to the renderer."""
        bold = 1.13 if self.look == "bold" else 1.0
        subscript = SUBSCRIPT_GAP + SUBSCRIPT * _relative_width(self.subscript, self.look) if self.subscript else 0.0
        return self.size * (_relative_width(self.text, self.look) * bold + subscript)

    @property
    def bounds(self) -> Bounds:
        """Upper bound of the area of the text."""
        left = self.x - self.width * {"left": 0.0, "center": 0.5, "right": 1.0}[self.align]
        low = DESCENT + (SUBSCRIPT_DROP if self.subscript else 0.0)
        return Bounds(left, self.y - low * self.size, left + self.width, self.y + ASCENT * self.size)


def _relative_width(text: str, look: Look) -> float:
    """Return an upper bound of the width of a text, as a multiple of the font size."""
    if look == "mono":
        return MONO * len(text)
    return sum(
        NARROW if c in NARROW_LETTERS else WIDE if c in WIDE_LETTERS else CAPITAL if c.isupper() else OTHER
        for c in text
    )


@dataclass
class Scene:
    """The contents of a diagram.

    Attributes:
        title: title in the metadata of the file.
        boxes: the boxes.
        arrows: the arrows, which are drawn below the boxes.
        texts: the texts, which are drawn on top.
    """

    title: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    texts: list[DrawnText] = field(default_factory=list)

    @property
    def bounds(self) -> Bounds:
        """The smallest rectangle around all boxes, arrows and texts."""
        bounds = [box.bounds for box in self.boxes] + [text.bounds for text in self.texts]
        bounds += [Bounds(x, y, x, y) for arrow in self.arrows for x, y in arrow.points]
        left, bottom, right, top = zip(*bounds, strict=True)
        return Bounds(min(left), min(bottom), max(right), max(top))
