"""Operations that a cell may be made of: the native executor says what the loop says, gradients included."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.trace.capture import MARKERS, capture
from tests.cases import call, cotangents
from tests.tolerances import all_close

T, B, D, H = 5, 3, 7, 8

Operation = Callable[[Tensor, Tensor, "Cell"], Tensor]


class Cell(nn.Module):
    """One operation on a and b, which depend on x and h, and on parameters; its result is any multiple of H wide."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation, self.state_size = operation, H
        self.read = nn.Linear(D, 2 * H)
        self.recur = nn.Linear(H, 2 * H)
        self.p = nn.Parameter(torch.rand(H) + 0.5)
        self.one = nn.Parameter(torch.tensor([0.3]))
        self.heads = nn.Parameter(torch.randn(2, H // 2))
        self.blocks = nn.Parameter(torch.arange(32.0).sin().view(2, H // 2, H // 2))
        self.write = nn.Parameter(torch.randn(H, H) / 2)
        self.norm, self.rms = nn.LayerNorm(H), nn.RMSNorm(H)
        for module in (self.norm, self.rms):
            nn.init.normal_(module.weight, 1, 0.3)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a, b = (self.read(x) + self.recur(h)).chunk(2, -1)
        made = self.operation(a, b, self).reshape(len(x), -1, H).unbind(1)
        return torch.tanh(sum(made[1:], made[0]) @ self.write) + h / 2


def positive(a: Tensor) -> Tensor:
    return a * a + 0.1


def split_by(a: Tensor, heads: int = 2) -> Tensor:
    return a.view(a.shape[0], heads, -1)


def heads_first(a: Tensor) -> Tensor:
    return split_by(a).transpose(0, 1)


def side_by_side(heads: Tensor) -> Tensor:
    return heads.transpose(0, 1).flatten(1)


OPERATIONS: dict[str, Operation] = {
    # element by element
    "exp": lambda a, b, p: a.exp(),
    "expm1": lambda a, b, p: a.expm1(),
    "log": lambda a, b, p: positive(a).log(),
    "log1p": lambda a, b, p: positive(a).log1p(),
    "sqrt": lambda a, b, p: positive(a).sqrt(),
    "rsqrt": lambda a, b, p: positive(a).rsqrt(),
    "square": lambda a, b, p: a**2,
    "pow 3": lambda a, b, p: a.pow(3),
    "pow 2.5": lambda a, b, p: (positive(a) / 4) ** 2.5,
    "pow -1": lambda a, b, p: positive(a) ** -1,
    "pow of two": lambda a, b, p: positive(a) ** b.tanh(),
    "2 to the": lambda a, b, p: 2.0**a,
    "abs": lambda a, b, p: a.abs(),
    "sign": lambda a, b, p: a.sign() * b,
    "sin": lambda a, b, p: a.sin(),
    "cos": lambda a, b, p: a.cos(),
    "atan": lambda a, b, p: a.atan(),
    "erf": lambda a, b, p: a.erf(),
    "sinh": lambda a, b, p: a.sinh(),
    "cosh": lambda a, b, p: a.cosh(),
    "floor": lambda a, b, p: (3 * a).floor() * b,
    "ceil": lambda a, b, p: (3 * a).ceil() * b,
    "trunc": lambda a, b, p: (3 * a).trunc() * b,
    "round": lambda a, b, p: (3 * a).round() * b,
    "reciprocal": lambda a, b, p: 1 / positive(a),
    "a quotient": lambda a, b, p: b / positive(a),
    "addcmul": lambda a, b, p: torch.addcmul(a, a, b, value=0.5),
    "lerp": lambda a, b, p: torch.lerp(a, b, p.p),
    "lerp by a number": lambda a, b, p: torch.lerp(a, b, 0.3),
    # activations
    "relu": lambda a, b, p: a.relu(),
    "gelu": lambda a, b, p: F.gelu(a),
    "gelu by tanh": lambda a, b, p: F.gelu(a, approximate="tanh"),
    "silu": lambda a, b, p: F.silu(a),
    "mish": lambda a, b, p: F.mish(a),
    "elu": lambda a, b, p: F.elu(a),
    "selu": lambda a, b, p: F.selu(a),
    "celu": lambda a, b, p: F.celu(a, 0.7),
    "softplus": lambda a, b, p: F.softplus(30 * a),
    "softsign": lambda a, b, p: F.softsign(a),
    "leaky relu": lambda a, b, p: F.leaky_relu(a, 0.2),
    "prelu": lambda a, b, p: F.prelu(a, p.one),
    "hardtanh": lambda a, b, p: F.hardtanh(a, -0.3, 0.4),
    "relu6": lambda a, b, p: F.relu6(a),
    "hardsigmoid": lambda a, b, p: F.hardsigmoid(4 * a),
    "hardswish": lambda a, b, p: F.hardswish(4 * a),
    "logsigmoid": lambda a, b, p: F.logsigmoid(a),
    "tanhshrink": lambda a, b, p: F.tanhshrink(a),
    "glu": lambda a, b, p: F.glu(torch.cat((a, b), -1)),
    # choices
    "clamp": lambda a, b, p: a.clamp(-0.5, 0.4),
    "clamp from below": lambda a, b, p: a.clamp(min=0.1),
    "clamp from above": lambda a, b, p: a.clamp(max=0.1),
    "clamp_max": lambda a, b, p: a.clamp_max(0.1),
    "clamp between tensors": lambda a, b, p: a.clamp(b, b + 0.3),
    "maximum": lambda a, b, p: torch.maximum(a, b),
    "minimum": lambda a, b, p: torch.min(a, b),
    "where": lambda a, b, p: torch.where(a > b, a, 2 * b),
    "where a number": lambda a, b, p: torch.where(a <= 0, a, 0.5),
    "masked_fill": lambda a, b, p: a.masked_fill(b > 0, 0.25),
    "masked_fill by a tensor": lambda a, b, p: a.masked_fill(b > 0, p.one.sum()),
    "isnan": lambda a, b, p: torch.where(a.isnan(), b, 2 * a),
    "not": lambda a, b, p: (a > 0).logical_not() * a,
    "either": lambda a, b, p: ((a > 0) ^ (b != 0.25)) * a + torch.logical_xor(a > 0, b > 0) * b,
    "conditions": lambda a, b, p: ((a > 0) & ~(b < 0.1) | (a == b) | (a <= -2)) * a,
    "a mask as numbers": lambda a, b, p: (a != b).to(a.dtype) * a + (a >= 0).float() * b,
    # over the columns
    "sum": lambda a, b, p: a * b.sum(-1, keepdim=True),
    "sum without its axis": lambda a, b, p: a * (a * b).sum(1).unsqueeze(1),
    "mean": lambda a, b, p: a - a.mean(-1, keepdim=True),
    "var": lambda a, b, p: a * b.var(-1, keepdim=True),
    "std": lambda a, b, p: a / (b.std(-1, keepdim=True, unbiased=False) + 1),
    "amax": lambda a, b, p: a * b.amax(-1, keepdim=True),
    "amin": lambda a, b, p: a * b.amin(-1, keepdim=True),
    "softmax": lambda a, b, p: a.softmax(-1),
    "log_softmax": lambda a, b, p: a.log_softmax(-1),
    "logsumexp": lambda a, b, p: a * b.logsumexp(-1, keepdim=True),
    "layer norm": lambda a, b, p: p.norm(a) * b,
    "layer norm without weights": lambda a, b, p: F.layer_norm(a, (H,)),
    "rms norm": lambda a, b, p: p.rms(a + b),
    "L2 norm": lambda a, b, p: a * b.norm(dim=-1, keepdim=True),
    "L1 norm": lambda a, b, p: a * b.norm(1, -1, keepdim=True) / H,  # so large, it would magnify every rounding
    "normalize": lambda a, b, p: F.normalize(a, dim=-1) * b,
    "one of another": lambda a, b, p: p.norm(F.softmax(p.norm(a * b), -1) + a),
    "cosine": lambda a, b, p: a * ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).unsqueeze(-1),
    "mv": lambda a, b, p: a * (b @ p.p).unsqueeze(-1),
    # arrangements of columns
    "slices": lambda a, b, p: torch.cat((a[:, 3:], b[:, 1:4]), -1) * a,
    "a column": lambda a, b, p: a * b[:, 2:3] + a[:, 5].unsqueeze(-1),
    "split and cat": lambda a, b, p: torch.cat(a.split((3, 5), -1)[::-1], -1),
    "stack": lambda a, b, p: torch.stack((a, b, a * b), 1).flatten(1),
    "halves that change places": lambda a, b, p: torch.cat((-a[:, 4:], a[:, :4]), -1) * b,
    "zeros beside": lambda a, b, p: torch.cat((a[:, :6], a.new_zeros(len(a), 2)), -1) + torch.ones_like(b),
    "a norm of pieces": lambda a, b, p: p.norm(torch.cat((a[:, 4:], b[:, :4]), -1)),
    "expand": lambda a, b, p: a[:, :1].expand(-1, H) * b,
    "all columns": lambda a, b, p: torch.cat([column.unsqueeze(1) for column in a.unbind(1)], 1) * b,
    # heads
    "a vector for each head": lambda a, b, p: (split_by(a) * p.heads).flatten(1),
    "a number for each head": lambda a, b, p: (split_by(a) * p.heads[:, :1]).flatten(1),
    "the same for every head": lambda a, b, p: (split_by(a) * p.heads[0]).flatten(1),
    "sums of heads": lambda a, b, p: (split_by(a) * split_by(b).sum(-1, keepdim=True)).flatten(1),
    "softmax of heads": lambda a, b, p: (split_by(a).softmax(-1) * split_by(b)).flatten(1),
    "norm of heads": lambda a, b, p: F.layer_norm(split_by(a), (H // 2,)).flatten(1),
    "a sum over heads": lambda a, b, p: (split_by(a) * split_by(b).sum(1, keepdim=True)).flatten(1),
    "a gate for each head": lambda a, b, p: (split_by(a) * b[:, :2].unsqueeze(-1)).flatten(1),
    "a head": lambda a, b, p: split_by(a)[:, 1].repeat_interleave(1, 0).sum(-1, keepdim=True) * b,
    # the batch axis moved, and products of many matrices
    "columns": lambda a, b, p: (p.write @ a.t()).t() * b,
    "a matrix for each head": lambda a, b, p: torch.einsum("bhd,hed->bhe", split_by(a), p.blocks).flatten(1) * b,
    "baddbmm": lambda a, b, p: side_by_side(
        torch.baddbmm(p.heads[:, None], heads_first(a), p.blocks).tanh() * heads_first(b)
    ),
    "norm of products": lambda a, b, p: side_by_side((heads_first(a) @ p.blocks + p.heads[0]).softmax(-1)) * b,
    "heads one by one": lambda a, b, p: side_by_side(
        torch.stack([head @ p.blocks[i] for i, head in enumerate(heads_first(a))]) - heads_first(b).mean(0)
    ),
    "a layer for every head": lambda a, b, p: F.linear(split_by(a), p.blocks[0], p.heads[0]).sigmoid().flatten(1) * b,
    "the same matrix for every head": lambda a, b, p: torch.einsum("bhd,de->bhe", split_by(a), p.blocks[0]).flatten(1),
    "fast weights": lambda a, b, p: torch.einsum(
        "bd,be->bde", b[:, 2:4], torch.einsum("bde,bd->be", split_by(a), b[:, :2])
    ).flatten(1),
    "a vector by a matrix": lambda a, b, p: (torch.bmm(b[:, :2].unsqueeze(1), split_by(a)) * split_by(b)).flatten(1),
    "a vector by a matrix in each head": lambda a, b, p: (
        torch.einsum("bhde,bhd->bhe", a.view(-1, 2, 2, 2), b[:, :4].view(-1, 2, 2)).view(-1, 1, 4) * split_by(b)
    ),
    "columns in another order": lambda a, b, p: (split_by(a) * split_by(b)).transpose(1, 2).reshape(len(a), -1) * a,
}


# Together, they have every operation that plans may consist of.
ALL = [
    "normalize", "clamp between tensors", "logsigmoid", "conditions", "rms norm", "pow of two", "either", "sin", "sinh",
    "relu", "clamp_max", "a mask as numbers", "softmax of heads", "expm1", "abs", "sign", "atan", "erf", "floor",
    "ceil", "trunc", "round", "reciprocal", "gelu by tanh", "maximum", "minimum", "masked_fill by a tensor", "isnan",
    "not", "amin", "the same for every head", "a layer for every head",
]  # fmt: skip


def all_at_once(a: Tensor, b: Tensor, p: Cell) -> Tensor:
    return torch.cat([OPERATIONS[name](a, b, p).reshape(len(a), -1) for name in ALL], -1) / len(ALL)


OPERATIONS["all at once"] = all_at_once


def test_all_at_once_has_every_operation() -> None:
    cell = Cell(all_at_once)
    shapes = {name: value.shape for name, value in cell.named_parameters()}
    step, _ = capture(cell, shapes, D, H, MARKERS[0])
    assert {node.target for node in step.graph.nodes} >= POINTWISE | set(REDUCTIONS)


# What is done element by element is tried in single precision below, on special numbers and many others.
NAMES = list(OPERATIONS)
BOTH = [
    *((name, torch.float64) for name in NAMES),
    *((name, torch.float32) for name in NAMES[NAMES.index("sum") :]),
]


def found(operation: Operation, executor: str, dtype: torch.dtype) -> tuple[Any, Any]:
    torch.manual_seed(0)
    layer = elman.Recurrent(Cell(operation), executor=executor).to(dtype)
    x = torch.randn(T, B, D, dtype=dtype, requires_grad=True)
    h = torch.randn(B, H, dtype=dtype, requires_grad=True)
    results = call(layer, x, [h])
    inputs = (x, h, *layer.parameters())
    return results, torch.autograd.grad(results, inputs, cotangents(results), allow_unused=True, materialize_grads=True)


@pytest.mark.sample(8)
@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
@pytest.mark.parametrize(("name", "dtype"), BOTH, ids=str)
def test_native_is_loop(name: str, dtype: torch.dtype) -> None:
    results, gradients = found(OPERATIONS[name], "native", dtype)
    expected = found(OPERATIONS[name], "loop", dtype)
    all_close(results, expected[0], "outputs")
    all_close(gradients, expected[1], "gradients")


# What is no number, or none that is finite, or nearly so: each dtype's own limits are beside its tiny and its largest.
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 20.0, -20.0, 1e-8, -1e-8, -0.999, 88.7, -87.3, 100.0, -100.0, 710.0, -710.0]
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp, "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "square": torch.square, "reciprocal": torch.reciprocal, "abs": torch.abs, "sign": torch.sign,
    "relu": torch.relu, "clamp": lambda x: x.clamp(-1, 1), "maximum": lambda x: torch.maximum(x, -x),
    "minimum": lambda x: torch.minimum(x, x * 0), "isnan": lambda x: torch.where(x.isnan(), 7.0, x),
    "equal": lambda x: (x == x).to(x.dtype), "unequal": lambda x: (x != x).to(x.dtype), "floor": torch.floor,
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "logsigmoid": F.logsigmoid, "elu": F.elu,
    "pow": lambda x: x**2.5,
}  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_numbers(name: str, dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    special = [*SPECIAL, math.inf, -math.inf, math.nan, limits.max, limits.min, limits.tiny, -limits.tiny]
    x = torch.cat((torch.tensor(special, dtype=dtype), torch.linspace(-90, 90, 1001, dtype=dtype)))
    layer = elman.Recurrent(lambda x, h: (FUNCTIONS[name](x), h), state_size=1, executor="native")
    found, expected = layer(x.view(1, 1, -1))[0].flatten(), FUNCTIONS[name](x)
    finite = expected.isfinite()
    torch.testing.assert_close(found[~finite], expected[~finite], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found[finite], expected[finite], rtol=4 * limits.eps, atol=limits.tiny)
