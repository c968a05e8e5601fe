"""What pictures of a recording show, and where they can go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import elman
from elman.errors import BadInput
from elman.flow import Recording, plots, record
from elman.flow.credit import Credit
from elman.report.page import credit as page

T, B = 24, 2
HERE = Path("x.png")


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those of the figures that would have been saved."""
    found: list[Any] = []
    monkeypatch.setattr(plots, "save_picture", lambda figure, path: found.append(figure.axes[0]))
    return found


def recorded(scale: float) -> Recording:
    """h_t = x_t + scale h_{t-1}, with x between 0 and 1, and a loss of the last step."""
    layer = elman.Recurrent(lambda x, h, a: x + a * h, state_size=1, parameters={"a": torch.tensor(scale).double()})
    with record(layer) as found:
        layer(torch.rand(T, B, 1).double())[0][-1].sum().backward()
    return found


BACKWARD = Credit("h", (0, 3), torch.tensor([[1.0, 1e-3, 1e-9, 0.0], [0.0, 0.0, 0.0, 1.0]]).double())

DRAWN: dict[str, Callable[[Path], None]] = {
    "gradients": lambda path: plots.gradients(recorded(1.0), path),
    "gates": lambda path: plots.gates(recorded(0.0), path),
    "decay": lambda path: plots.decay(recorded(1.0).jacobians(), path),
    "credit": lambda path: plots.credit(BACKWARD, path),
    "singular_values": lambda path: plots.singular_values(recorded(1.0).jacobians(), path),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", DRAWN)
def test_where_a_picture_can_go(name: str, tmp_path: Path) -> None:
    DRAWN[name](tmp_path / "x.svg")
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()
    with pytest.raises(BadInput, match=r"no/x\.png: the folder .*no does not exist; create it first$"):
        DRAWN[name](tmp_path / "no" / "x.png")
    with pytest.raises(BadInput, match=r"x\.pdf: expected a file name that ends with \.png or \.svg$"):
        DRAWN[name](tmp_path / "x.pdf")


def test_a_recording_without_gates() -> None:
    with pytest.raises(ValueError, match=r"^flow.plots.gates: expected gates, or states between -1 and 1, got"):
        plots.gates(recorded(2.0), HERE)


@pytest.mark.parametrize(("scale", "lowest", "cut"), [(0.5, 1e-6, True), (0.99, 0.001, False), (3.0, 0.001, False)])
def test_an_axis_ends_where_nobody_looks(scale: float, lowest: float, cut: bool, axes: list[Any]) -> None:
    plots.decay(recorded(scale).jacobians(), HERE)
    bottom, top = axes[0].get_ylim()
    assert bottom >= lowest
    assert top >= max(1.0, scale**T)
    assert axes[0].get_ylabel() == "remaining share of the gradient" + "\n(cut off below 1e-06)" * cut


def test_the_axis_of_a_gradient_that_vanishes(axes: list[Any]) -> None:
    plots.gradients(recorded(0.1), HERE)
    plots.gradients(recorded(0.9), HERE)
    assert axes[0].get_ylim()[0] == pytest.approx(1e-12)
    assert axes[0].get_ylabel().endswith("(cut off below 1e-12)")
    assert "cut" not in axes[1].get_ylabel()
    for of in axes:
        assert of.get_xlim() == pytest.approx((-0.1 - 0.03 * (T - 1), T - 1 + 0.1 + 0.03 * (T - 1)))


def test_few_losses_of_a_layer_that_reads_backward(axes: list[Any]) -> None:
    plots.credit(BACKWARD, HERE)
    (image,) = axes[0].images
    assert image.get_array().mask.tolist() == [[False, False, False, True], [True, True, True, False]]
    assert image.get_extent() == [-0.5, 3.5, 1.5, -0.5]  # two rows of the same height
    label = axes[0].yaxis.get_major_formatter()
    assert [label(row, 0) for row in (-1, 0, 0.5, 1, 2)] == ["", "0", "", "3", ""]


def test_the_map_of_a_page_is_blank_where_nothing_arrives() -> None:
    chart, _ = page.charts(BACKWARD)
    (heat,) = chart.figure["data"]
    assert heat["z"] == [[0, -3, -6, None], [None, None, None, 0]]
    assert heat["customdata"] == [[1, 1e-3, 1e-9, None], [None, None, None, 1]]
