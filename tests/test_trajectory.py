"""`layer.trajectory`: every state of every step, and what the cell gives a name to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS, as_tuple
from elman.layers._trajectory import Trajectory
from tests.cases import every_executor
from tests.tolerances import all_close, close

T, B, D, H = 6, 3, 4, 8
NAMED = {"lstm": "ifgo", "gru": "rzn", "slstm": "ifzo", "min_gru": "zn", "recurrent_highway": ("n_1", "n_2", "z_1")}


def built(name: str, executor: str, layers: int = 2, **options: Any) -> elman.Stack:
    torch.manual_seed(0)
    return elman.Stack(D, H, layers, cell_type=cells.by_name(name), executor=executor, **options).double()


def sequence(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(*(shape or (T, B, D)), dtype=torch.float64)


def everything(found: Trajectory) -> list[Tensor]:
    return [found.outputs, *as_tuple(found.states), *found.named.values()]


@pytest.mark.sample(4)
@every_executor
@pytest.mark.parametrize("name", NAMED)
def test_states_are_those_of_shorter_calls(name: str, executor: str) -> None:
    layer, x = built(name, executor), sequence()
    found = layer.trajectory(x)
    assert set(NAMED[name]) <= set(found.named)
    assert all(value.shape == (T, 2, B, H) for value in (*found.named.values(), *as_tuple(found.states)))
    for t in range(T):
        outputs, final = layer(x[: t + 1])
        close(found.outputs[: t + 1], outputs, "outputs")
        all_close([state[t] for state in as_tuple(found.states)], as_tuple(final), "outputs")


@every_executor
def test_the_gates_of_an_lstm(executor: str) -> None:
    layer, x = built("lstm", executor, 1), sequence()
    h0, c0 = torch.randn(1, B, H, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    found = layer.trajectory(x, (h0, c0))
    h, c = found.states
    before = torch.cat([h0.unsqueeze(0), h[:-1]])[:, 0]
    weights = [getattr(layer, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]
    i, f, g, o = (x @ weights[0].t() + before @ weights[1].t() + weights[2] + weights[3]).chunk(4, -1)
    expected = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid()}
    for name, value in expected.items():
        close(found.named[name][:, 0], value, "outputs")
    close(c[1:], found.named["f"][1:] * c[:-1] + found.named["i"][1:] * found.named["g"][1:], "outputs")


@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
@pytest.mark.parametrize("name", NAMED)
def test_gradients_are_those_of_the_loop(name: str) -> None:
    gradients = []
    for executor in ("loop", "native"):
        layer, x = built(name, executor), sequence().requires_grad_()
        values = everything(layer.trajectory(x, lengths=[T, 2, 0]))
        torch.manual_seed(2)
        loss = sum((value * torch.randn_like(value)).sum() for value in values)
        assert isinstance(loss, Tensor)
        gradients.append(torch.autograd.grad(loss, (x, *layer.parameters())))
    all_close(gradients[1], gradients[0], "gradients")


@every_executor
@pytest.mark.parametrize("lengths", [[T, 2, 0], torch.tensor([1, T, 3])], ids=str)
def test_lengths(lengths: Any, executor: str) -> None:
    layer, x = built("gru", executor), sequence()
    for row, length in enumerate(lengths):
        x[length:, row] = torch.nan
    x.requires_grad_()
    values = everything(layer.trajectory(x, lengths=lengths))
    d_x, *d_parameters = torch.autograd.grad(values[0].sum(), (x, *layer.parameters()))
    assert all(gradient.isfinite().all() for gradient in d_parameters)
    for row, length in enumerate(map(int, lengths)):
        assert not d_x[length:, row].any()
        assert not any(value[length:, ..., row, :].any() for value in values)
        if length:
            alone = everything(layer.trajectory(x[:length, row : row + 1].detach()))
            all_close([value[:length, ..., row : row + 1, :] for value in values], alone, "outputs")


@pytest.mark.parametrize("lengths", [[1, 2], [1, 2, T + 1], [1, 2, -1], [1.0, 2.0, 3.0], [[1, 2, 3]]], ids=str)
def test_impossible_lengths(lengths: Any) -> None:
    with pytest.raises(ValueError, match=f"Stack: lengths: expected {B} integers from 0 to {T}, got "):
        built("gru", "loop").trajectory(sequence(), lengths=lengths)


@every_executor
@pytest.mark.parametrize("lengths", [None, [1, T, 3]], ids=str)
def test_batch_first(lengths: list[int] | None, executor: str) -> None:
    layer, x = built("lstm", executor), sequence()
    found = layer.trajectory(x, lengths=lengths)
    layer.batch_first = True
    turned = layer.trajectory(x.transpose(0, 1), lengths=lengths)
    close(turned.outputs, found.outputs.transpose(0, 1), "outputs")
    all_close(everything(turned)[1:], everything(found)[1:], "outputs")


@every_executor
def test_without_a_batch(executor: str) -> None:
    layer, x = built("lstm", executor), sequence()
    found, row = layer.trajectory(x), layer.trajectory(x[:, 0])
    assert row.outputs.shape == (T, H)
    assert row.states[0].shape == (T, 2, H)
    all_close(everything(row)[1:], [value[:, :, 0] for value in everything(found)[1:]], "outputs")


def test_dropout_of_both_executors() -> None:
    options: dict[str, Any] = {"dropout": 0.2, "zoneout": 0.1, "recurrent_dropout": 0.3, "locked_dropout": 0.2}
    results = []
    for executor in (name for name, executor in EXECUTORS.items() if executor.any_cell):
        layer = built("lstm", executor, **options)
        torch.manual_seed(3)
        results.append(everything(layer.trajectory(sequence())))
        torch.manual_seed(3)
        close(results[-1][0], layer(sequence())[0], "outputs")
    all_close(results[-1], results[0], "outputs")


class Attending(nn.Module):
    """A cell with two outputs by name, of which one has a number for each head, and named values of both shapes."""

    state_size = H

    def __init__(self) -> None:
        super().__init__()
        self.U, self.W = nn.Linear(D, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        heads = elman.named(heads=self.W(h).view(len(x), 2, H // 2).tanh())
        weights = elman.named(weights=heads.sum(-1).sigmoid())
        h = h + self.U(x) * (heads * weights.unsqueeze(-1)).flatten(1)
        return {"value": h * 2, "weights": weights.unsqueeze(-1)}, h


@every_executor
def test_outputs_by_name(executor: str) -> None:
    torch.manual_seed(0)
    layer: Any = elman.Recurrent(Attending(), executor=executor, batch_first=True).double()
    x = sequence(B, T, D)
    outputs, h = layer(x)
    assert {name: value.shape for name, value in outputs.items()} == {"value": (B, T, H), "weights": (B, T, 2, 1)}
    close(outputs["value"][:, -1], 2 * h, "outputs")
    found = layer.trajectory(x)
    all_close(list(found.outputs.values()), list(outputs.values()), "outputs")
    assert {name: value.shape for name, value in found.named.items()} == {"heads": (T, B, 2, 4), "weights": (T, B, 2)}
    close(found.named["weights"], outputs["weights"].squeeze(-1).transpose(0, 1), "outputs")
    gradients = torch.autograd.grad(found.named["heads"].square().sum(), list(layer.cell.W.parameters()))
    torch.manual_seed(0)
    other: Any = elman.Recurrent(Attending(), executor="loop", batch_first=True).double()
    expected = other.trajectory(x).named["heads"].square().sum()
    all_close(gradients, torch.autograd.grad(expected, list(other.cell.W.parameters())), "gradients")


@every_executor
def test_a_cell_that_names_nothing(executor: str) -> None:
    layer = elman.Recurrent(nn.LSTMCell(D, H), executor=executor).double()
    found = layer.trajectory(sequence())
    outputs, (_, c) = layer(sequence())
    assert found.named == {}
    close(found.outputs, outputs, "outputs")
    close(found.states[1][-1], c, "outputs")
    assert list(layer.state_dict()) == ["cell.weight_ih", "cell.weight_hh", "cell.bias_ih", "cell.bias_hh"]


class TwoCells(nn.Module):
    """The names of the second cell come again."""

    state_size = (H, H)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = cells.MinGRU(D, H), cells.MinGRU(H, H)

    def forward(self, x: Tensor, state: Any) -> Any:
        h = self.first(x, state[0])
        return h, self.second(h, state[1])


@every_executor
def test_names_that_come_again(executor: str) -> None:
    layer = elman.Recurrent(TwoCells(), executor=executor).double()
    found = layer.trajectory(sequence())
    assert list(found.named) == ["z", "n", "z_2", "n_2"]
    cell: Any = layer.cell
    close(found.named["n_2"], cell.second.from_input(found.states[0]).chunk(2, -1)[1], "outputs")


def without_a_batch(x: Tensor, h: Tensor, a: Tensor) -> Tensor:
    return h + x * elman.named(a=a.sigmoid())  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*cannot run on the native executor")
def test_a_name_for_what_has_no_rows() -> None:
    layer = elman.Recurrent(without_a_batch, state_size=D, parameters={"a": torch.zeros(D)})
    layer(torch.randn(T, B, D))
    with pytest.raises(ValueError, match=r"named: a: expected shape \(B, \.\.\.\) with B = \d+, got \(4,\)"):
        layer.trajectory(torch.randn(T, B, D))
