"""A drawing as data: boxes, arrows and texts at places in points (1/72 inch), y upward. Nothing here draws."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Point = tuple[float, float]
Look = Literal["plain", "bold", "mono", "variable"]
Align = Literal["left", "center", "right"]

MINUS = "\N{MINUS SIGN}"
# Upper bounds of the widths of DejaVu Sans, in sizes of the font.
MONO, NARROW, CAPITAL, WIDE, OTHER = 0.603, 0.42, 0.79, 1.0, 0.64
NARROW_ONES, WIDE_ONES = "iljIJftr.,:; ()[]|'!-/", f"mwMW=+…<>{MINUS}"
ASCENT, DESCENT, LOWER = 0.78, 0.25, 0.16  # in sizes too; LOWER is how much lower a subscript stands
SUBSCRIPT, APART = 0.7, 0.06  # its size, and how far it stands behind


class Bounds(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Bounds") -> bool:
        """Whether both have some area in common."""
        apart = self.left >= other.right or other.left >= self.right
        return not (apart or self.bottom >= other.top or other.bottom >= self.top)


class Box(NamedTuple):
    """A rectangle around its centre.

    part: what it stands for, by the place of that in the model.
    step: at which it does, in the unfolded network; "" in the folded one.
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
        """Its sides."""
        half, high = self.width / 2, self.height / 2
        return Bounds(self.x - half, self.y - high, self.x + half, self.y + high)


class Arrow(NamedTuple):
    """A line through points, with a head at its end.

    carries: a state, by its name in the model; "" for what goes from layer to layer.
    step: after which it is that state.
    value: of a gradient, its norm.
    broken: it carries what is no finite number.
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
    """A line of text on its baseline.

    subscript: smaller and lower, behind it.
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
        """At most; the fonts are known where it is drawn."""
        bold = 1.13 if self.look == "bold" else 1.0
        behind = APART + SUBSCRIPT * _widths(self.subscript, self.look) if self.subscript else 0.0
        return self.size * (_widths(self.text, self.look) * bold + behind)

    @property
    def bounds(self) -> Bounds:
        """What it covers, at most."""
        left = self.x - self.width * {"left": 0.0, "center": 0.5, "right": 1.0}[self.align]
        low = DESCENT + (LOWER if self.subscript else 0.0)
        return Bounds(left, self.y - low * self.size, left + self.width, self.y + ASCENT * self.size)


def _widths(text: str, look: Look) -> float:
    if look == "mono":
        return MONO * len(text)
    return sum(
        NARROW if c in NARROW_ONES else WIDE if c in WIDE_ONES else CAPITAL if c.isupper() else OTHER for c in text
    )


@dataclass
class Scene:
    """All that is in a picture of this title."""

    title: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    texts: list[DrawnText] = field(default_factory=list)

    @property
    def bounds(self) -> Bounds:
        """Of all of it."""
        every = [box.bounds for box in self.boxes] + [text.bounds for text in self.texts]
        every += [Bounds(x, y, x, y) for arrow in self.arrows for x, y in arrow.points]
        left, bottom, right, top = zip(*every, strict=True)
        return Bounds(min(left), min(bottom), max(right), max(top))
