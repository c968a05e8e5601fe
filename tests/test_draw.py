"""Networks as pictures: what is drawn, where it stands, and the files."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import elman as package
from elman import cells
from elman.drawing.network import drawing
from elman.drawing.parts import levels_of
from elman.drawing.render import write
from elman.drawing.scene import Arrow, Bounds, Box, DrawnText, Scene
from elman.drawing.unfolded import thickness
from elman.errors import BadInput
from elman.flow import Recording, record
from elman.layers import Recurrent, Stack
from elman.tasks.music.model import Frames
from elman.tasks.text.model import LanguageModel

D, H, T, B = 3, 5, 9, 2
every_cell = pytest.mark.parametrize("name", cells.REGISTRY)


def stack(name: str, layers: int = 1, bidirectional: bool = False) -> Stack:
    return Stack(D, H, layers, bidirectional=bidirectional, cell_type=cells.by_name(name), device="meta")


class Own(nn.Module):
    """A cell that is on no shelf, and says what its states are called."""

    state_names = ("slow_state", "fast")

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.state_size = D, (H, 2)
        self.mix = nn.Linear(D, 2)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        slow, fast = state
        return slow * 0.5 + fast.sum(-1, keepdim=True), torch.tanh(self.mix(x))


def recorded(model: nn.Module, x: Tensor) -> Recording:
    with record(model) as found:
        outputs, _ = model(x)
        outputs.square().sum().backward()
    return found


def with_gradients(model: nn.Module, steps: int = T) -> Scene:
    return drawing(model, recorded(model, torch.randn(steps, B, D)))


MODELS: dict[str, Callable[[], Scene]] = {
    **{name: lambda name=name: drawing(stack(name)) for name in cells.REGISTRY},  # type: ignore[misc]
    "two layers, both directions": lambda: drawing(stack("lstm", 2, True)),
    "four states, both directions": lambda: drawing(stack("slstm", 1, True)),
    "a language model": lambda: drawing(LanguageModel(104, "gru", 64, 384, 2)),
    "a cell of one's own": lambda: drawing(Recurrent(Own())),
    "a cell of torch's": lambda: drawing(
        nn.Sequential(Recurrent(nn.LSTMCell(D, H), learn_state=True), nn.Linear(H, 2))
    ),
    "a function": lambda: drawing(Recurrent(lambda x, h, decay: h * decay + x, parameters={"decay": torch.ones(D)})),
    "cells around cells": lambda: drawing(package.LSTM(D, H, zoneout=0.1, recurrent_dropout=0.1)),
    "gradients": lambda: with_gradients(package.LSTM(D, H, num_layers=2)),
    "gradients of both directions": lambda: with_gradients(package.LSTM(D, H, bidirectional=True), 1000),
    "gradients of a step": lambda: with_gradients(package.GRU(D, H), 1),
    "gradients of a cell of one's own": lambda: with_gradients(Recurrent(Own()), 2),
}
MEASURED = ("slstm", "two layers, both directions", "a language model", "a cell of one's own", "gradients")
every_model = pytest.mark.parametrize("model", MODELS)


@cache
def scene_of(model: str) -> Scene:
    return MODELS[model]()


def segments(arrow: Arrow) -> Iterator[Bounds]:
    half = arrow.width / 2
    for (x, y), (to_x, to_y) in pairwise(arrow.points):
        yield Bounds(min(x, to_x) - half, min(y, to_y) - half, max(x, to_x) + half, max(y, to_y) + half)


def holds(outer: Bounds, inner: Bounds) -> bool:
    return (
        outer.left <= inner.left
        and inner.right <= outer.right
        and outer.bottom <= inner.bottom
        and inner.top <= outer.top
    )


@pytest.mark.sample(8)
@every_model
def test_everything_has_a_place_of_its_own(model: str) -> None:
    scene = scene_of(model)
    for one, other in combinations(scene.texts, 2):
        assert not one.bounds.meets(other.bounds), (one, other)
    for text in scene.texts:
        for arrow in scene.arrows:
            assert not any(text.bounds.meets(segment) for segment in segments(arrow)), (text, arrow)
        for box in scene.boxes:
            assert holds(box.bounds, text.bounds) or not box.bounds.meets(text.bounds), (text, box)
    for box, another in combinations([box for box in scene.boxes if box.kind != "dot"], 2):
        assert not box.bounds.meets(another.bounds)
    for arrow in scene.arrows:
        assert all(x == to_x or y == to_y for (x, y), (to_x, to_y) in pairwise(arrow.points))


@pytest.mark.slow
def test_texts_are_no_larger_than_they_say() -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=720)  # ten dots to a point
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 72), ylim=(0, 72))
    for text in {text._replace(x=36.0, y=36.0) for model in MEASURED for text in scene_of(model).texts}:
        drawn = Bounds(*(write(axes, text).get_window_extent().extents / 10))
        assert holds(text.bounds, drawn), text
        assert drawn.right - drawn.left >= 0.6 * text.width - 1, text


def row(scene: Scene, name: str) -> list[str]:
    """What stands on the line of a name, to the right of it."""
    of = next(text for text in scene.texts if text.text == name and text.look == "mono")
    line = [text for text in scene.texts if text.look == "mono" and text.y == of.y and text.x > of.x]
    return [text.text for text in sorted(line, key=lambda text: text.x)]


@every_cell
def test_names_and_shapes(name: str) -> None:
    layer = stack(name, 2, True)
    scene = drawing(layer)
    cell = layer._cells[0]
    for full, parameter in layer.named_parameters():
        letters, shape = row(scene, full)
        assert shape == f"({', '.join(map(str, parameter.shape))})"
        reads = D if "_l0" in full else layer.output_size
        sizes = {"D": reads, "H": H, "P": getattr(cell, "proj_size", 0), "L": getattr(cell, "depth", 0)}
        found = re.findall(r"(\d*)([DHPL])", letters)
        assert [int(times or 1) * sizes[letter] for times, letter in found] == list(parameter.shape)
    for letter, width in zip("hcnm", layer._widths, strict=False):
        for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
            assert row(scene, f"{letter}{suffix}")[1] == f"({width})"


def boxes(scene: Scene, step: str) -> list[Box]:
    return [box for box in scene.boxes if box.step == step and box.kind not in ("delay", "dot")]


def states(scene: Scene, name: str) -> list[Arrow]:
    return [arrow for arrow in scene.arrows if arrow.kind == "state" and arrow.carries == name]


def test_states_go_from_step_to_step() -> None:
    scene = drawing(stack("lstm", 1, True))
    steps = ["t\N{MINUS SIGN}1", "t", "t+1"]
    for part, (name, way) in enumerate({"c_l0": 1, "c_l0_reverse": -1}.items()):
        column = [boxes(scene, step)[part] for step in steps][::way]
        for (step, box), after in zip(zip(steps[::way], column, strict=True), column[1:], strict=False):
            (arrow,) = [arrow for arrow in states(scene, name) if arrow.step == step]
            (x, y), (to_x, to_y) = arrow.points
            assert (x, to_x) == pytest.approx((box.x + way * box.width / 2, after.x - way * after.width / 2))
            assert box.bounds.bottom < y == to_y < box.bounds.top
        assert len(states(scene, name)) == 4  # one from before, one to what follows
    labels = {(text.text, text.subscript) for text in scene.texts if text.look == "variable"}
    for subscript in ("t\N{MINUS SIGN}2", *steps, "t+2"):
        assert ("h", subscript) in labels
    assert {("x", "t"), ("y", "t"), ("x", ""), ("y", ""), ("h, c", "")} <= labels
    delays = [text.text for text in scene.texts if text.text in ("t\N{MINUS SIGN}1", "t+1") and not text.subscript]
    assert delays == ["t\N{MINUS SIGN}1", "t+1"]


@pytest.mark.parametrize("step", ["", "t"])
def test_what_goes_up(step: str) -> None:
    scene = drawing(LanguageModel(10, "gru", 4, 6, 2))
    column = boxes(scene, step)
    assert [box.part for box in column] == ["embedding", "recurrent, layer 0", "recurrent, layer 1", "output"]
    assert [box.kind for box in column] == ["module", "cell", "cell", "module"]
    up = [arrow.points for arrow in scene.arrows if arrow.kind == "data" and arrow.step == step]
    assert len(up) == 5
    for low, high in pairwise(column):
        assert ((low.x, low.bounds.top), (high.x, high.bounds.bottom)) in up
    widths = [text.text for text in scene.texts if text.look == "mono" and text.text.isdigit()]
    assert widths == ["4", "6", "6", "10"]


def test_both_directions_read_the_same_and_give_one_output() -> None:
    scene = drawing(stack("gru", 1, True))
    ahead, back = boxes(scene, "t")
    assert (ahead.kind, back.kind) == ("cell", "reverse")
    arrows = [arrow.points for arrow in scene.arrows if arrow.kind == "data" and arrow.step == "t"]
    (branch,) = [points for points in arrows if points[-1][1] == back.bounds.bottom]
    (trunk,) = [points for points in arrows if points[-1][1] == ahead.bounds.bottom]
    assert branch[0][0] == trunk[0][0]  # it leaves the line up to the other
    assert trunk[0][1] < branch[0][1] < trunk[1][1]
    assert back.bounds.left < branch[-1][0] < ahead.bounds.left
    (joined,) = [points for points in arrows if points[0][1] == ahead.bounds.top]
    (out,) = [points for points in arrows if points[0][1] == back.bounds.top]
    assert joined[-1][0] == out[0][0]
    assert out[0][1] < joined[-1][1] < out[1][1]
    assert f"{2 * H} = {H} + {H}" in {text.text for text in scene.texts}


def test_what_only_a_module_itself_knows_the_order_of_is_one_box() -> None:
    """Of an output whose parts stand side by side; what is in a row stays apart."""
    found = levels_of(Frames(hidden=H))
    assert [part.title for level in found for part in level.parts] == ["GRU", "Chain"]
    assert "above.weight" in [parameter.name for parameter in found[-1].parts[0].parameters]
    found = levels_of(nn.Sequential(stack("gru"), nn.Sequential(nn.Linear(H, 2), nn.Linear(2, 1))))
    assert [part.title for level in found for part in level.parts] == ["GRU", "Linear", "Linear"]


def test_a_cell_of_ones_own() -> None:
    scene = drawing(nn.Sequential(Recurrent(Own())))
    assert row(scene, "slow_state") == [f"({H})"]
    assert row(scene, "fast") == ["(2)"]
    assert row(scene, "cell.mix.weight") == [f"(2, {D})"]
    assert len(states(scene, "0.fast")) == 4
    assert [box.part for box in boxes(scene, "")] == ["0"]
    unknown = drawing(Recurrent(lambda x, h: h + x))
    assert row(unknown, "h") == []


def test_gradients() -> None:
    model = nn.ModuleDict({"one": package.LSTM(D, H, bidirectional=True), "other": package.GRU(D, H)})
    with record(model) as found:
        outputs, _ = model["one"](torch.randn(T, B, D))
        (outputs[-1].sum() + model["other"](torch.randn(4, B, D))[0].square().sum()).backward()
    scene = drawing(model, found)
    arrows = {(arrow.carries, arrow.step): arrow for arrow in scene.arrows if arrow.value is not None}
    told = [text.text for text in scene.texts if text.kind == "gradient"]
    expected = {
        (name, str(t)): norms[t].square().mean().sqrt().item()
        for name, norms in found.state_gradients.items()
        for t in (0, 3, 5, 8)
        if t < len(norms)
    }
    assert {key: arrow.value for key, arrow in arrows.items()} == pytest.approx(
        {key: value for key, value in expected.items() if value}
    )
    assert sorted(told) == sorted(f"{value:.2g}" for value in expected.values())
    assert "0" in told  # at the reversed state at step 0, which no loss has seen
    for (name, step), arrow in arrows.items():
        (x, _), (to_x, _) = arrow.points
        (state,) = [state for state in states(scene, name) if state.step == step][-1:]
        assert (x < to_x) == name.endswith("_reverse")
        assert (x < to_x) != (state.points[0][0] < state.points[-1][0])
    ordered = sorted(arrows.values(), key=lambda arrow: arrow.value or 0.0)
    assert [arrow.width for arrow in ordered] == sorted(arrow.width for arrow in ordered)
    assert ordered[0].width < ordered[-1].width


def test_the_key_shows_the_widths_that_are_drawn() -> None:
    scene = scene_of("gradients")
    key = sorted((arrow for arrow in scene.arrows if arrow.kind == "gradient" and arrow.value is None), key=left_end)
    largest = max(arrow.value or 0.0 for arrow in scene.arrows)
    assert [arrow.width for arrow in key] == [thickness(largest / 10**i, largest) for i in range(6)]
    assert len({arrow.width for arrow in key}) == 6
    texts = {text.text for text in scene.texts}
    assert {"maximum", "1/10", "1/100,000 or less"} < texts
    assert "nan or inf" not in texts
    assert not any(arrow.broken for arrow in scene.arrows)


def left_end(arrow: Arrow) -> float:
    return arrow.points[-1][0]


def test_gradients_that_are_no_numbers() -> None:
    layer = package.RNN(D, H)
    with record(layer) as found:
        (layer(torch.randn(T, B, D))[0] * torch.inf).sum().backward()
    scene = drawing(layer, found)
    told = [text.text for text in scene.texts if text.kind == "gradient"]
    assert set(told) <= {"inf", "nan"}
    assert len(told) == 4
    assert "nan or inf" in {text.text for text in scene.texts}
    assert all(arrow.broken for arrow in scene.arrows if arrow.value is not None)


def test_bad_input_in_python(tmp_path: Path) -> None:
    layer = package.GRU(D, H)
    with pytest.raises(BadInput, match=r"^draw: Linear: expected a model with elman layers .*, got none"):
        package.draw(nn.Linear(2, 3), tmp_path / "x.svg")
    with pytest.raises(BadInput, match=r"x\.jpg: expected a file name that ends with \.png or \.svg$"):
        package.draw(layer, tmp_path / "x.jpg")
    other = nn.Sequential(package.LSTM(D, H))
    found = recorded(other[0], torch.randn(T, B, D))
    named_otherwise = (
        r"^draw: recording: expected one of this Sequential, with 0\.h_l0, .*another model, with h_l0, c_l0"
    )
    with pytest.raises(ValueError, match=named_otherwise):
        package.draw(other, tmp_path / "x.svg", found)
    with pytest.raises(
        ValueError, match=r"^draw: recording: expected one of this LSTM, with h_l0, c_l0; got one of an"
    ):
        package.draw(package.LSTM(D, H), tmp_path / "x.svg", found)
    with pytest.raises(TypeError, match=r"^draw: model: expected a torch\.nn\.Module, got str"):
        package.draw("lstm", tmp_path / "x.svg")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^draw: recording: expected a recording of elman\.flow\.record, got int"):
        package.draw(layer, tmp_path / "x.svg", 5)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_estimates_are_of_the_text() -> None:
    assert DrawnText("WWW", 0, 0).width > DrawnText("iii", 0, 0).width
    assert DrawnText("h", 0, 0, subscript="t").width > DrawnText("h", 0, 0).width
    right = DrawnText("word", 10, 0, align="right").bounds
    assert right.right == 10
    assert right.left < 10
