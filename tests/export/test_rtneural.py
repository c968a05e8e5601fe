"""RTNeural's JSON, against the equations of its layers in NumPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman.export
from tests.tolerances import all_close


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def run(path: Path, rows: Any) -> Any:
    """Run a file as RTNeural does: one stream, from a state of zeros."""
    model = json.loads(path.read_text())
    assert model["in_shape"][-1] == rows.shape[1]
    for layer in model["layers"]:
        H, weights = layer["shape"][-1], [np.array(array) for array in layer["weights"]]
        outputs, h, c = [], np.zeros(H), np.zeros(H)
        for x in rows:
            match layer["type"]:
                case "lstm":
                    i, f, g, o = np.split(x @ weights[0] + h @ weights[1] + weights[2], 4)
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                case "gru":
                    (xz, xr, xn), (hz, hr, hn) = (
                        np.split(a @ w + b, 3) for a, w, b in zip((x, h), weights[:2], weights[2], strict=True)
                    )
                    z = sigmoid(xz + hz)
                    h = z * h + (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn)
                case "dense":
                    h = x @ weights[0] + weights[1]
                case "activation":
                    exponentials = np.exp(x - x.max())
                    h = {
                        "tanh": np.tanh(x), "relu": np.maximum(x, 0), "sigmoid": sigmoid(x),
                        "elu": np.where(x > 0, x, np.expm1(x)), "softmax": exponentials / exponentials.sum(),
                    }[layer["activation"]]  # fmt: skip
            outputs.append(h)
        rows = np.array(outputs)
    return rows


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = elman.LSTM(3, 5, batch_first=True), nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.recurrent(x)[0])


class Residual(Model):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) + x[..., :2]


ACTIVATIONS = nn.Sequential(
    nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Sigmoid(), nn.ELU(), nn.Linear(4, 4), nn.Softmax(-1), nn.Tanh()
)
MODULES = [elman.GRU(3, 5, num_layers=2), elman.LSTM(3, 5, bias=False), nn.GRU(3, 4), nn.LSTM(3, 4), ACTIVATIONS]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules(module: nn.Module, tmp_path: Path) -> None:
    x = torch.randn(20, 1, 3)
    elman.export.rtneural(module, tmp_path / "model.json")
    expected = module(x)
    expected = expected if isinstance(expected, Tensor) else expected[0]
    actual = torch.from_numpy(run(tmp_path / "model.json", x[:, 0].numpy())).float()
    all_close([actual], [expected[:, 0]], "outputs")


def test_a_model(tmp_path: Path) -> None:
    path, model = tmp_path / "model.json", Model()
    elman.export.rtneural(model, path)
    assert elman.export.check(path, model, torch.randn(2, 20, 3)).largest < 1e-5
    elman.export.rtneural([model.recurrent, model.head], tmp_path / "list.json")
    assert path.read_bytes() == (tmp_path / "list.json").read_bytes()
    assert model.training


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    cases: list[tuple[Any, type[Exception], str]] = [
        (elman.RNN(3, 5), TypeError, r"expected elman\.LSTM, .*, got RNN of RNN cells"),
        (elman.GRU(3, 5, bidirectional=True), ValueError, r"GRU: expected one direction"),
        (elman.LSTM(3, 5, proj_size=2), TypeError, r"expected .*, got LSTM of ProjectedLSTM cells"),
        (nn.Sequential(nn.Linear(3, 5), nn.Softplus()), TypeError, r"expected .*, got Softplus"),
        (nn.Sequential(nn.Linear(3, 5), nn.ELU(0.5)), ValueError, r"ELU: expected its default options"),
        (nn.Tanh(), ValueError, r"expected a first layer with weights, got Tanh"),
        (Residual(), ValueError, r"Residual: expected a model that applies LSTM, Linear one after another"),
    ]
    for module, error, message in cases:
        with pytest.raises(error, match=rf"^elman\.export\.rtneural: {message}"):
            elman.export.rtneural(module, path)
    with pytest.raises(ValueError, match=r"path: expected a file name that ends with \.json, got 'model\.txt'"):
        elman.export.rtneural(elman.GRU(3, 5), tmp_path / "model.txt")
    assert not list(tmp_path.iterdir())
