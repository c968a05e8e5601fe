"""A recurrent network as the articles draw it, folded and unfolded, with the names and shapes of the model."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from elman.drawing import unfolded
from elman.drawing.folded import folded, height
from elman.drawing.parts import levels_of
from elman.drawing.render import render
from elman.drawing.scene import Scene, Text
from elman.drawing.tower import UP, placed
from elman.drawing.unfolded import ANY, Gradients, Unfolded, steps_of
from elman.errors import BadInput
from elman.layers._layer import Layer

if TYPE_CHECKING:
    from elman.flow import Recording

GAP = 34.0  # between the folded network and the unfolded one
TOLD = (
    "Dashed arrows go back: the norm of the gradient that arrives at a state after this step, from later steps and",
    "from the loss, as root mean square over the sequences; the arrow of a tenth is one step thinner.",
)


def draw(model: nn.Module, path: str | Path, recording: "Recording | None" = None) -> None:
    """Draw a recurrent network, folded and unfolded.

    Every layer of elman's is a box with the names of its states and parameters and their shapes, and so is every
    other module with parameters of its own, in the order in which the model holds them, from the input up. Recurrent
    layers of torch.nn's are boxes without a memory, until `elman.convert` makes them elman's.

    Args:
        model: an elman layer, or a module that holds some; its parameters may be on meta.
        path: of the picture, PNG or SVG by its ending.
        recording: of a backward pass through this model (`elman.flow.record`): at the first, the last and two steps
            between, the gradient that arrives at each state is drawn too, of each layer's first call.

    Raises:
        BadInput: for a model without layers of elman's, a name that ends otherwise, or a recording of another model.
        RuntimeError: for a recording without a backward pass.

    >>> import elman, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.draw(elman.LSTM(16, 32, num_layers=2), f"{folder}/lstm.png")
    """
    render(drawing(model, recording), Path(path))


def drawing(model: nn.Module, recording: "Recording | None" = None) -> Scene:
    """What `draw` draws, as data: arguments and errors as there."""
    levels = levels_of(model)
    keys = [key for level in levels for part in level.parts for key in part.keys]
    gradients = {} if recording is None else _gradients(recording, keys)
    steps = steps_of(max(map(len, gradients.values()))) if gradients else ANY
    scene = Scene(f"{_name(model)}, folded and unfolded")
    at = placed(levels, lambda part: max(height(part), unfolded.height(part, bool(gradients))))
    count = sum(parameter.numel() for parameter in model.parameters())
    top = at[-1].top + UP + 56
    left = max(folded(scene, at, 0.0), _head(scene, 0.0, top, "folded", _name(model), f"{count:,} parameters")) + GAP
    Unfolded(scene, at, steps, gradients).draw(left)
    _head(scene, left, top, "unfolded", "the same parameters at every step")
    if gradients:
        bottom = scene.bounds.bottom - 18
        scene.texts += [Text(line, 0.0, bottom - 12 * i, 8.5, "plain", "left") for i, line in enumerate(TOLD)]
    return scene


def _head(scene: Scene, x: float, y: float, title: str, *lines: str) -> float:
    """What is written above; returns where it ends on the right."""
    texts = [Text(line, x, y - 14 - 12 * i, 8.5, "plain", "left", kind="faint") for i, line in enumerate(lines)]
    scene.texts += [Text(title, x, y, 12, "bold", "left"), *texts]
    return max(text.bounds.right for text in texts)


def _name(model: nn.Module) -> str:
    """As torch prints it: of a layer, with its sizes."""
    sizes = model.extra_repr() if isinstance(model, Layer) else ""
    return f"{model._get_name()}({sizes})" if sizes else model._get_name()


def _gradients(recording: "Recording", keys: list[str]) -> Gradients:
    norms = recording.state_gradients
    found = {key: norms[key].double().square().mean(1).sqrt().tolist() for key in keys if key in norms}
    if not found:
        raise BadInput(f"draw: recording: expected one of this model, with {', '.join(keys)}; got {', '.join(norms)}")
    return found
