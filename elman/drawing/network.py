"""A recurrent network as the articles draw it, folded and unfolded, with the names and shapes of the model."""

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

GAP = 34.0  # between the folded network and the unfolded one
TOLD = (
    "The arrows back carry the gradient of the loss, from later steps and from the loss itself. The number is its norm",
    "where it arrives at the state after this step: root mean square over the sequences. How wide the arrows are:",
)
SHARES = ("the largest", "1/10 of it", "1/100", "1/1,000", "1/10,000", "1/100,000 or less")
KEY, SPACE = 26.0, 5.0  # length of an arrow in the key, and what is between it and its text


def draw(model: nn.Module, path: str | Path, recording: "Recording | None" = None) -> None:
    """Draw a recurrent network, folded and unfolded.

    Every layer of elman's is a box with the names of its states and parameters and their shapes, and so is every
    other module with parameters of its own, in the order in which the model holds them, from the input up; a module of
    several others, none of them a layer, is one box, as only it knows how they go together. Recurrent layers of
    torch.nn's are boxes without a memory, until `elman.convert` makes them elman's.

    Args:
        model: an elman layer, or a module that holds some; its parameters may be on meta.
        path: of the picture, PNG or SVG by its ending.
        recording: of a backward pass through this model (`elman.flow.record`): at the first, the last and two steps
            between, the gradient that arrives at each state is drawn too, of each layer's first call.

    Raises:
        TypeError: for what is no model or no recording.
        ValueError: for a recording of another model.
        BadInput: for a model without layers of elman's, a name that ends otherwise, or that of a file that elman did
            not make.
        RuntimeError: for a recording without a backward pass.

    >>> import elman, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.draw(elman.LSTM(16, 32, num_layers=2), f"{folder}/lstm.png")
    """
    render(drawing(model, recording), Path(path))


def drawing(model: nn.Module, recording: "Recording | None" = None) -> Scene:
    """What `draw` draws, as data: arguments and errors as there."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"draw: model: expected a torch.nn.Module, got {type(model).__name__}")
    levels = levels_of(model)
    keys = [key for level in levels for part in level.parts for key in part.keys]
    gradients = {} if recording is None else _gradients(recording, model, keys)
    steps = steps_of(max(map(len, gradients.values()))) if gradients else ANY
    scene = Scene(f"{_name(model)}, folded and unfolded")
    at = placed(levels, lambda part: max(height(part), unfolded.height(part, bool(gradients))))
    count = sum(parameter.numel() for parameter in model.parameters())
    top = at[-1].top + UP + 56
    left = max(folded(scene, at, 0.0), _head(scene, 0.0, top, "folded", _name(model), f"{count:,} parameters")) + GAP
    Unfolded(scene, at, steps, gradients).draw(left)
    _head(scene, left, top, "unfolded", "the same parameters at every step")
    if gradients:
        _key(scene)
    return scene


def _key(scene: Scene) -> None:
    """What the arrows back mean."""
    y = scene.bounds.bottom - 18
    scene.texts += [DrawnText(line, 0.0, y - 12 * i, 8.5, "plain", "left") for i, line in enumerate(TOLD)]
    x, y = 0.0, y - 12 * len(TOLD) - 3
    values = [10.0**-i for i in range(len(SHARES))] + [inf] * any(arrow.broken for arrow in scene.arrows)
    for value, share in zip(values, (*SHARES, "nan or inf"), strict=False):
        width = unfolded.thickness(value, 1.0)
        scene.arrows.append(Arrow(((x + KEY, y + 3), (x, y + 3)), "gradient", width=width, broken=value == inf))
        text = DrawnText(share, x + KEY + SPACE, y, 8.5, "plain", "left")
        scene.texts.append(text)
        x = text.bounds.right + 2 * SPACE


def _head(scene: Scene, x: float, y: float, title: str, *lines: str) -> float:
    """What is written above; returns where it ends on the right."""
    texts = [DrawnText(line, x, y - 14 - 12 * i, 8.5, "plain", "left", kind="faint") for i, line in enumerate(lines)]
    scene.texts += [DrawnText(title, x, y, 12, "bold", "left"), *texts]
    return max(text.bounds.right for text in texts)


def _name(model: nn.Module) -> str:
    """As torch prints it: of a layer, with its sizes."""
    sizes = model.extra_repr() if isinstance(model, Layer) else ""
    return f"{model._get_name()}({sizes})" if sizes else model._get_name()


def _gradients(recording: "Recording", model: nn.Module, keys: list[str]) -> Gradients:
    from elman.flow import Recording

    if not isinstance(recording, Recording):
        raise TypeError(f"draw: recording: expected what elman.flow.record gives, got {type(recording).__name__}")
    norms, own = recording.state_gradients, set(model.modules())
    found = {key: norms[key].double().square().mean(1).sqrt().tolist() for key in keys if key in norms}
    if not found or any(call.label.layer not in own for call in recording.calls.values()):
        expected = f"one of this {type(model).__name__}, with {', '.join(keys)}"
        raise ValueError(f"draw: recording: expected {expected}; got one of another model, with {', '.join(norms)}")
    return found
