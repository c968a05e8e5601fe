"""Draws a recurrent network folded and unfolded in time, with the names and shapes of its parameters."""

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from elman.drawing import unfolded
from elman.drawing.folded import folded, height
from elman.drawing.parts import levels_of
from elman.drawing.render import render
from elman.drawing.scene import Arrow, DrawnText, Scene
from elman.drawing.tower import UP, placed
from elman.drawing.unfolded import ANY, Gradients, Unfolded, steps_of
from elman.layers._layer import Layer

if TYPE_CHECKING:
    from elman.flow import Recording

GAP = 34.0  # between the folded and the unfolded network, in points
CAPTION = (
    "Backward arrows are the gradient of the loss, through later steps and directly. Numbers are its norm at the state",
    "after the step: root mean square over sequences. Arrow widths, relative to the maximum:",
)
KEY_LABELS = ("maximum", "1/10", "1/100", "1/1,000", "1/10,000", "1/100,000 or less")
KEY_ARROW, SPACE = 26.0, 5.0  # length of an arrow in the key, and the gap before its label, in points


def draw(model: nn.Module, path: str | Path, recording: "Recording | None" = None) -> None:
    """Draw a recurrent network, folded and unfolded in time.

    Every elman layer, and every other module that has parameters, is drawn as a box with the names and shapes of its
    parameters and states. Boxes are stacked from the input upward, in the order in which the model registers them. A
    module with several submodules, none of them an elman layer, is one box, because its data flow is not known.
    Recurrent layers of torch.nn are drawn without states; convert the model with `elman.convert` to draw them.

    Args:
        model: an elman layer, or a module that contains some; its parameters may be on the meta device.
        path: the file to write, with the suffix .png or .svg.
        recording: a recorded backward pass of this model (`elman.flow.record`). With it, the gradient norm at each
            state is drawn for four steps, the first and the last among them, for the first call of each layer.

    Raises:
        TypeError: if `model` is not a module, or `recording` not a recording.
        ValueError: if `recording` is of another model.
        BadInput: if the model has no elman layer, if the suffix is not supported, or if the file exists and was not
            written by elman.
        RuntimeError: if `recording` has no backward pass.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.draw(elman.LSTM(16, 32, num_layers=2), f"{folder}/lstm.png")
    """
    render(drawing(model, recording), Path(path))


def drawing(model: nn.Module, recording: "Recording | None" = None) -> Scene:
    """Return the diagram that `draw` renders, as data; it has the same arguments and raises the same errors."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"draw: model: expected a torch.nn.Module, got {type(model).__name__}")
    levels = levels_of(model)
    keys = [key for level in levels for part in level.parts for key in part.keys]
    gradients = {} if recording is None else _gradients(recording, model, keys)
    steps = steps_of(max(map(len, gradients.values()))) if gradients else ANY
    scene = Scene(f"{_name(model)}, folded and unfolded")
    placed_levels = placed(levels, lambda part: max(height(part), unfolded.height(part, bool(gradients))))
    count = sum(parameter.numel() for parameter in model.parameters())
    top = placed_levels[-1].top + UP + 56
    right = folded(scene, placed_levels, 0.0)
    left = max(right, _head(scene, 0.0, top, "folded", _name(model), f"{count:,} parameters")) + GAP
    Unfolded(scene, placed_levels, steps, gradients).draw(left)
    _head(scene, left, top, "unfolded", "the same parameters at every step")
    if gradients:
        _key(scene)
    return scene


def _key(scene: Scene) -> None:
    """Draw the key of the gradient arrows."""
    y = scene.bounds.bottom - 18
    scene.texts += [DrawnText(line, 0.0, y - 12 * i, 8.5, "plain", "left") for i, line in enumerate(CAPTION)]
    x, y = 0.0, y - 12 * len(CAPTION) - 3
    values = [10.0**-i for i in range(len(KEY_LABELS))] + [inf] * any(arrow.broken for arrow in scene.arrows)
    for value, label in zip(values, (*KEY_LABELS, "nan or inf"), strict=False):
        width = unfolded.thickness(value, 1.0)
        scene.arrows.append(Arrow(((x + KEY_ARROW, y + 3), (x, y + 3)), "gradient", width=width, broken=value == inf))
        text = DrawnText(label, x + KEY_ARROW + SPACE, y, 8.5, "plain", "left")
        scene.texts.append(text)
        x = text.bounds.right + 2 * SPACE


def _head(scene: Scene, x: float, y: float, title: str, *lines: str) -> float:
    """Write a heading and lines below it; return the right edge of the text, in points."""
    texts = [DrawnText(line, x, y - 14 - 12 * i, 8.5, "plain", "left", kind="faint") for i, line in enumerate(lines)]
    scene.texts += [DrawnText(title, x, y, 12, "bold", "left"), *texts]
    return max(text.bounds.right for text in texts)


def _name(model: nn.Module) -> str:
    """Return the class name of a model; for a layer, with its sizes as torch prints them."""
    sizes = model.extra_repr() if isinstance(model, Layer) else ""
    return f"{model._get_name()}({sizes})" if sizes else model._get_name()


def _gradients(recording: "Recording", model: nn.Module, keys: list[str]) -> Gradients:
    from elman.flow import Recording

    if not isinstance(recording, Recording):
        raise TypeError(f"draw: recording: expected a recording of elman.flow.record, got {type(recording).__name__}")
    norms, modules = recording.state_gradients, set(model.modules())
    gradients = {key: norms[key].double().square().mean(1).sqrt().tolist() for key in keys if key in norms}
    if not gradients or any(call.label.layer not in modules for call in recording.calls.values()):
        expected = f"one of this {type(model).__name__}, with {', '.join(keys)}"
        raise ValueError(f"draw: recording: expected {expected}; got one of another model, with {', '.join(norms)}")
    return gradients
