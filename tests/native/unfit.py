"""Cells that cannot run natively, and what has to be told of each."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

T, B, H = 4, 3, 5


def problem(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """An input and a state for such a cell."""
    return torch.randn(T, B, H, dtype=dtype, requires_grad=True), torch.randn(B, H, dtype=dtype, requires_grad=True)


class Cell(nn.Module):
    """Reads x and h of one width; the line in the way is marked with `# here`."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size = H
        self.W = nn.Parameter(torch.randn(H, H) / 2)


class Cumsum(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a = x + h @ self.W
        return torch.tanh(a.cumsum(-1))  # here


class Asinh(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.asinh(  # here
            x + h @ self.W
        )


class Cube(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a = x + h @ self.W
        cube = self.W[:, :, None] + self.W
        return torch.tanh(
            (a[:, None, :, None] * cube).sum((1, 3))  # here
        )


class EverySecond(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a = x + h @ self.W
        return torch.tanh(x + a[:, ::2].sum(-1, keepdim=True))  # here


class Branch(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        if x.sum() > 0:  # here
            return torch.tanh(x + h @ self.W)
        return x - h @ self.W


class Item(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * self.W[0, 0].item()  # here


class Centered(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x - x.mean(0) + h @ self.W)  # here


class Summed(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x - x.sum(0) + h @ self.W)  # here


class Gram(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x @ (x.t() @ h) + h @ self.W)  # here


class BatchedGram(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        gram = torch.bmm(h.t().unsqueeze(0), h.unsqueeze(0))
        return torch.tanh(torch.bmm(x.unsqueeze(0), gram)[0] + h @ self.W)  # here


class Regrouped(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        heads = h.unflatten(1, (5, 1)).transpose(0, 1)
        return torch.tanh(x + heads.reshape(len(h), 5) @ self.W)  # here


class Matrices(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a, b = x[:, :4].view(-1, 2, 2), h[:, :4].view(-1, 2, 2)
        return torch.tanh(x + h @ self.W + torch.bmm(a, b).sum((1, 2)).unsqueeze(1))  # here


class FirstRow(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + x[:1] + h @ self.W)  # here


class Stranger(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.scale = [torch.linspace(0.5, 1.5, H)]  # in a list, so that no module knows it

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x * self.scale[0] + h @ self.W)  # here


class NumberOfRows(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * (1 + 0.1 * len(x))


class RowsInOrder(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * torch.linspace(0, 1, len(x)).to(x.dtype).unsqueeze(1)


class Flipped(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h.flip(0) @ self.W)  # here


class Normed(Cell):
    def __init__(self, remembering: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(H, track_running_stats=remembering)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.norm(x) + h @ self.W)  # here


class NormedRemembering(Normed):
    def __init__(self) -> None:
        super().__init__(remembering=True)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.norm(x) + h @ self.W)  # here


class ByNumPy(Cell):
    """Decides by what is rarely so: no few random numbers would show it."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        rare = x.detach().numpy().max() > 9  # here
        return x * h if rare else torch.tanh(x + h @ self.W)


class Halved(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        x = x.clone()
        h.data.mul_(0.5)  # here
        return torch.tanh(x + h @ self.W)


class Conditions(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        either = (x > 0) + (h > 0)  # here
        return torch.tanh(x + h @ self.W) * either


class Orthogonal(Cell):
    """The backward step of whose decomposition writes into parts of a matrix."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ torch.linalg.qr(self.W)[0])


class Attribute(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        new = torch.tanh(x + h @ self.W)
        self.last = new.detach()
        return new


class ClassTensor(Cell):
    mixing = torch.eye(H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.mixing @ self.W)  # here


class Eye(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + nn.functional.linear(h, torch.eye(H)) @ self.W)  # here


ADVICE = ["reads a tensor of torch.float32", "register_buffer", "dtype=x.dtype"]

UNFIT: list[tuple[type[Cell], Sequence[str]]] = [
    (Cumsum, ["aten.cumsum", "not one of the supported operations"]),
    (Asinh, ["aten.asinh", "not one of the supported operations"]),
    (Cube, ["aten.mul", "of shapes that differ"]),
    (EverySecond, ["aten.slice", "not one of the supported operations"]),
    (Branch, ["a Python number read from a tensor"]),
    (Item, ["a Python number read from a tensor"]),
    (Centered, ["aten."]),
    (Summed, ["mixes the rows"]),
    (Gram, ["mixes the rows"]),
    (BatchedGram, ["mixes the rows"]),
    (Regrouped, ["mixes the rows"]),
    (Matrices, ["a product of two matrices of the step"]),
    (FirstRow, ["aten."]),
    (NumberOfRows, ["the result for a sequence depends on the batch size"]),
    (RowsInOrder, ["the result for a sequence depends on the batch size"]),
    (Flipped, ["aten.flip"]),
    (Normed, ["batch_norm", "mixes the rows"]),
    (NormedRemembering, ["aten.add_", "a parameter or a buffer"]),
    (ByNumPy, ["a Python number read from a tensor"]),
    (Conditions, ["aten.add", "torch.bool"]),
    (Orthogonal, ["after a view of it, or its base, was written to"]),
    (Attribute, ["an attribute, 'last'"]),
    (ClassTensor, ["matmul", *ADVICE]),
    (Eye, ["linear", *ADVICE]),
    (Stranger, ["a tensor of shape (5,)", "not a parameter or buffer"]),
]


def line_of(cell_type: type[nn.Module]) -> str:
    lines, first = inspect.getsourcelines(cell_type)
    marked = [
        f"({Path(inspect.getfile(cell_type)).name}, line {first + i})"
        for i, line in enumerate(lines)
        if "# here" in line
    ]
    return marked[0] if marked else ""
