"""Renders scenes to image files with matplotlib."""

import math
from pathlib import Path
from typing import Any

from elman.drawing.scene import MINUS, Arrow, Box, DrawnText, Point, Scene
from elman.extras import needs
from elman.io.files import PICTURES, check_place, save_picture

MARGIN, DPI, RADIUS = 12.0, 144, 5.0  # margin in points; resolution of a PNG; corner radius in points
INK, FAINT, GRADIENT = "#1c2733", "#5d6873", "#a8321c"
FILLS = {"cell": "#dbe7f3", "reverse": "#f6ead3", "module": "#f4f4f4", "delay": "white", "dot": INK}
COLOURS = {"main": INK, "faint": FAINT, "gradient": GRADIENT}
HEAD = (7.0, 2.6)  # length and half the width of an arrow head, in points
FONTS = {"plain": "DejaVu Sans", "bold": "DejaVu Sans", "mono": "DejaVu Sans Mono", "variable": "DejaVu Sans"}


def render(scene: Scene, path: Path) -> None:
    """Render a scene to a file; equal scenes give equal files.

    Args:
        scene: the scene.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        BadInput: if the picture cannot be written there.
    """
    check_place(path, PICTURES)
    with needs("draw", "a picture"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    left, bottom, right, top = scene.bounds
    width, height = right - left + 2 * MARGIN, top - bottom + 2 * MARGIN
    figure = Figure(figsize=(width / 72, height / 72), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left - MARGIN, right + MARGIN), ylim=(bottom - MARGIN, top + MARGIN))
    axes.axis("off")
    for arrow in scene.arrows:
        _arrow(axes, arrow)
    for box in scene.boxes:
        _box(axes, box)
    for text in scene.texts:
        write(axes, text)
    with rc_context({"svg.hashsalt": "elman", "svg.fonttype": "path"}):
        save_picture(figure, path, Title=scene.title)


def write(axes: Any, text: DrawnText) -> Any:
    """Write a text on axes whose unit is a point; return matplotlib's `Text`."""
    shown, weight, style = text.text, "bold" if text.look == "bold" else "normal", "normal"
    math_like = text.look == "variable"
    if math_like and text.subscript:
        shown = f"$\\mathit{{{_escaped(text.text)}}}_{{\\mathrm{{{_escaped(text.subscript)}}}}}$"
    elif math_like:
        style = "italic"
    return axes.text(
        text.x, text.y, shown, ha=text.align, va="baseline", size=text.size, family=FONTS[text.look], weight=weight,
        style=style, color=COLOURS[text.kind], parse_math=math_like and bool(text.subscript),
        math_fontfamily="dejavusans", zorder=5,
    )  # fmt: skip


def _escaped(text: str) -> str:
    """Escape a text for matplotlib's math mode; signs are in braces, since binary operators get extra space."""
    return "".join(
        f"\\{c}" if c in "_$%#&{}" else f"{{{c}}}" if c in f"{MINUS}+" else c for c in text if c not in "\\^~"
    )


def _box(axes: Any, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, bottom, _, _ = box.bounds
    rounding = {"delay": 2.0, "dot": box.width / 2}.get(box.kind, RADIUS)
    style = f"round,pad=0,rounding_size={rounding}"
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom), box.width, box.height, boxstyle=style, facecolor=FILLS[box.kind], edgecolor=INK,
            linewidth=1.1 if box.kind != "module" else 0.8, zorder=3,
        )
    )  # fmt: skip


def _arrow(axes: Any, arrow: Arrow) -> None:
    """Draw an arrow over a wider white line, so that crossing lines remain distinguishable."""
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Line

    gradient = arrow.kind == "gradient"
    colour, width = GRADIENT if gradient else INK, arrow.width
    *rest, before, end = arrow.points
    length, half = HEAD[0] + width / 2, HEAD[1] + width / 2
    angle = math.atan2(end[1] - before[1], end[0] - before[0])
    direction = (math.cos(angle), math.sin(angle))
    foot = (end[0] - direction[0] * length, end[1] - direction[1] * length) if arrow.head else end
    line = Line(*_rounded([*rest, before, foot]))
    dashes = (0, (6 / max(width, 1), 2.5 / max(width, 1))) if gradient and not arrow.broken else "solid"
    for ink, wide, style, order in (("white", width + 3, "solid", 1), (colour, width, dashes, 1 + gradient)):
        axes.add_patch(
            PathPatch(line, fill=False, edgecolor=ink, linewidth=wide, linestyle=style, capstyle="butt", zorder=order)
        )
    if arrow.head:
        side = (-direction[1] * half, direction[0] * half)
        corners = [end, (foot[0] + side[0], foot[1] + side[1]), (foot[0] - side[0], foot[1] - side[1])]
        axes.add_patch(Polygon(corners, closed=True, facecolor=colour, edgecolor="none", zorder=2))


def _rounded(points: list[Point]) -> tuple[list[Point], list[int]]:
    """Return the vertices and codes of a matplotlib path through points, with rounded corners."""
    move, line, curve = 1, 2, 3
    vertices, codes = [points[0]], [move]
    for a, b, c in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(b, a), b, _towards(b, c)]
        codes += [line, curve, curve]
    return [*vertices, points[-1]], [*codes, line]


def _towards(a: Point, b: Point) -> Point:
    """Return the point between a and b where the rounded corner at a ends."""
    length = math.dist(a, b)
    fraction = min(RADIUS, length / 2) / length if length else 0.0
    return a[0] + (b[0] - a[0]) * fraction, a[1] + (b[1] - a[1]) * fraction
