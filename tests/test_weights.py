"""Weights of Keras and ONNX: another's equations, with the weights that we write, give our numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import elman
from elman import cells, weights
from tests.cases import in_a_row
from tests.tolerances import close

Array = NDArray[np.floating]
T, B, D, H = 4, 2, 3, 5
BIDIRECTIONAL = {"bidirectional": True, "num_layers": 2}


LAYERS: dict[str, Callable[..., Any]] = {
    "RNN": partial(elman.RNN, executor="loop"),
    "GRU": partial(elman.GRU, executor="loop"),
    "LSTM": partial(elman.LSTM, executor="loop"),
    "ResetBeforeGRU": partial(elman.Stack, cell_type=cells.ResetBeforeGRU, executor="loop"),
    "torch.nn.RNN": nn.RNN,
    "torch.nn.GRU": nn.GRU,
    "torch.nn.LSTM": nn.LSTM,
}
OPTIONS: list[dict[str, Any]] = [{}, {"num_layers": 2}, {"bias": False}, BIDIRECTIONAL]


def made(kind: str, **options: Any) -> Any:
    """In double precision."""
    peepholes = partial(elman.Stack, cell_type=cells.PeepholeLSTM, executor="loop")
    return (LAYERS | {"PeepholeLSTM": peepholes})[kind](D, H, **options).double()


def outputs(layer: nn.Module, x: Array) -> Tensor:
    return in_a_row(layer(torch.from_numpy(x)))[0].detach()


def given() -> Array:
    return np.random.default_rng(0).normal(size=(T, B, D))


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


# What keras.io says of SimpleRNN, LSTM and GRU, with x and h as rows and without their options.


def simple_rnn(x: Array, states: list[Array], kernel: Array, recurrent_kernel: Array, bias: Array) -> list[Array]:
    return [np.tanh(x @ kernel + bias + states[0] @ recurrent_kernel)]


def keras_lstm(x: Array, states: list[Array], kernel: Array, recurrent_kernel: Array, bias: Array) -> list[Array]:
    h, c = states
    i, f, candidate, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return [sigmoid(o) * np.tanh(c), c]


def reset_after(x: Array, states: list[Array], kernel: Array, recurrent_kernel: Array, bias: Array) -> list[Array]:
    input_bias, recurrent_bias = np.broadcast_to(bias, (2, kernel.shape[1]))
    x_z, x_r, x_h = np.split(x @ kernel + input_bias, 3, axis=1)
    inner_z, inner_r, inner_h = np.split(states[0] @ recurrent_kernel + recurrent_bias, 3, axis=1)
    z, r = sigmoid(x_z + inner_z), sigmoid(x_r + inner_r)
    return [z * states[0] + (1 - z) * np.tanh(x_h + r * inner_h)]


def reset_before(x: Array, states: list[Array], kernel: Array, recurrent_kernel: Array, bias: Array) -> list[Array]:
    [h] = states
    units = h.shape[1]
    x_z, x_r, x_h = np.split(x @ kernel + bias, 3, axis=1)
    z = sigmoid(x_z + h @ recurrent_kernel[:, :units])
    r = sigmoid(x_r + h @ recurrent_kernel[:, units : 2 * units])
    return [z * h + (1 - z) * np.tanh(x_h + (r * h) @ recurrent_kernel[:, 2 * units :])]


KERAS = {"RNN": simple_rnn, "LSTM": keras_lstm, "GRU": reset_after, "ResetBeforeGRU": reset_before}


def keras(kind: str, x: Array, arrays: list[list[Array]], directions: int) -> Array:
    """The outputs of Keras layers, one over the other, with these weights."""
    kind = kind.removeprefix("torch.nn.")
    states: list[Array]
    for of_layer in arrays:
        per, each = len(of_layer) // directions, []
        for d in range(directions):
            values = of_layer[d * per : (d + 1) * per]
            kernel, recurrent_kernel, bias = [*values, np.zeros(())][:3]
            states = [np.zeros((B, H))] * (1 + (kind == "LSTM"))
            steps = []
            for x_t in x[:: -1 if d else 1]:
                states = KERAS[kind](x_t, states, kernel, recurrent_kernel, bias)
                steps.append(states[0])
            each.append(np.stack(steps[:: -1 if d else 1]))
        x = np.concatenate(each, axis=-1)
    return x


@pytest.mark.sample(8)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_keras_gives_our_numbers_and_gives_the_weights_back(kind: str, options: dict[str, Any]) -> None:
    layer, x = made(kind, **options), given()
    arrays = weights.to_keras(layer)
    found = keras(kind, x, arrays, 2 if "bidirectional" in options else 1)
    close(torch.from_numpy(found), outputs(layer, x), "outputs")
    other = made(kind, **options)
    kept = list(other.parameters())
    weights.from_keras(other, arrays)
    close(outputs(other, x), outputs(layer, x), "outputs")
    assert list(map(id, other.parameters())) == list(map(id, kept))
    assert all(value.flags.c_contiguous for of_layer in arrays for value in of_layer)


NODES = {"ResetBeforeGRU": "GRU", "PeepholeLSTM": "LSTM"}


def evaluated(kind: str, x: Array, nodes: list[dict[str, Array]]) -> Array:
    """The outputs of ONNX's nodes, one over the other, with these weights, by ONNX's own reference evaluator."""
    pytest.importorskip("onnx", reason="onnx is not installed: its order of weights is not tested")
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    op = NODES.get(kind, kind.removeprefix("torch.nn."))
    inputs = ["W", "R", "B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    for node in nodes:
        wanted: dict[str, Any] = {"hidden_size": H, "direction": ["forward", "bidirectional"][len(node["W"]) - 1]}
        wanted |= {"linear_before_reset": int(kind != "ResetBeforeGRU")} if op == "GRU" else {}
        values = {"X": x, **node}
        made_node = helper.make_node(op, ["X", *(name if name in node else "" for name in inputs)], ["Y"], **wanted)
        typed = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, v.shape) for name, v in values.items()]
        out = [helper.make_tensor_value_info("Y", TensorProto.DOUBLE, None)]
        model = helper.make_model(helper.make_graph([made_node], op, typed, out))
        try:
            returned: Any = ReferenceEvaluator(model).run(None, values)
        except NotImplementedError as error:  # of old versions of onnx, for two directions
            pytest.skip(f"onnx itself: {error}")
        x = np.moveaxis(returned[0], 1, 2).reshape(T, B, -1)  # from (T, directions, B, H)
    return x


@pytest.mark.sample(8)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", [*LAYERS, "PeepholeLSTM"])
def test_onnx_gives_our_numbers_and_gives_the_weights_back(kind: str, options: dict[str, Any]) -> None:
    layer, x = made(kind, **options), given()
    nodes = weights.to_onnx(layer)
    other = made(kind, **options)
    weights.from_onnx(other, nodes)
    for ours, theirs in zip(other.parameters(), layer.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    close(torch.from_numpy(evaluated(kind, x, nodes)), outputs(layer, x), "outputs")


def test_what_a_node_of_onnx_leaves_out_is_zero() -> None:
    layer = made("PeepholeLSTM")
    [node] = weights.to_onnx(layer)
    weights.from_onnx(layer, [{"W": node["W"], "R": node["R"]}])
    assert not torch.cat([layer.bias_ih_l0, layer.bias_hh_l0, layer.weight_ch_l0]).any()
    assert np.array_equal(weights.to_onnx(layer)[0]["W"], node["W"])


def test_precision_and_freedom_of_what_is_given_and_taken() -> None:
    layer: Any = elman.LSTM(D, H).half()
    layer.weight_ih_l0.requires_grad_(False)
    [node] = weights.to_onnx(layer)
    assert {value.dtype for value in node.values()} == {np.dtype(np.float16)}
    node["W"] += 1  # a copy
    assert float(layer.weight_ih_l0.max()) < 1
    weights.from_onnx(layer, [{name: value.astype(np.float32) for name, value in node.items()}])
    assert float(layer.weight_ih_l0.min()) > 0
    assert {value.dtype for value in layer.parameters()} == {torch.float16}
    assert [value.requires_grad for value in layer.parameters()] == [False, True, True, True]
    assert weights.to_keras(layer.bfloat16())[0][0].dtype == np.float32


def zeros(*shapes: tuple[int, ...]) -> list[Array]:
    return [np.zeros(shape) for shape in shapes]


KERAS_GRU = zeros((3, 15), (5, 15), (2, 15))
ONNX_GRU = {"W": np.zeros((1, 15, 3)), "R": np.zeros((1, 15, 5)), "B": np.zeros((1, 30))}
WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "flat": (
        lambda layer: weights.from_keras(layer, KERAS_GRU),  # type: ignore[arg-type]
        "from_keras: arrays: expected a list of 2 results of get_weights() of Keras layers; got ndarray, ",
    ),
    "too few": (lambda layer: weights.from_keras(layer, []), "from_keras: arrays: expected a list of 2 results"),
    "no bias": (
        lambda layer: weights.from_keras(layer, [KERAS_GRU[:2]] * 2),
        "from_keras: layer 0: expected kernel, recurrent_kernel, bias; got 2 arrays",
    ),
    "shape": (
        lambda layer: weights.from_keras(layer, [KERAS_GRU] * 2),
        "from_keras: layer 1: kernel: expected shape (5, 15), got (3, 15)",
    ),
    "the other GRU": (
        lambda layer: weights.from_keras(layer, [[*KERAS_GRU[:2], np.zeros(15)]] * 2),
        "from_keras: layer 0: bias: expected shape (2, 15), got (15,); weights of reset_after=False belong to a layer "
        "of elman.cells.ResetBeforeGRU",
    ),
    "no numbers": (
        lambda layer: weights.from_keras(layer, [["kernel", *KERAS_GRU[1:]]] * 2),
        "from_keras: layer 0: kernel: expected an array of numbers, got str",
    ),
    "shape of ONNX": (
        lambda layer: weights.from_onnx(layer, [ONNX_GRU] * 2),
        "from_onnx: layer 1: W: expected shape (1, 15, 5), got (1, 15, 3)",
    ),
    "peepholes": (
        lambda layer: weights.from_onnx(layer, [ONNX_GRU | {"P": np.zeros((1, 15))}] * 2),
        "from_onnx: layer 0: expected W, R, B; got W, R, B, P",
    ),
    "missing": (
        lambda layer: weights.from_onnx(layer, [{"W": ONNX_GRU["W"]}] * 2),
        "from_onnx: layer 0: expected W, R, B; got W",
    ),
    "one node": (
        lambda layer: weights.from_onnx(layer, [ONNX_GRU]),
        "from_onnx: nodes: expected 2 dictionaries, one for each layer; got dict",
    ),
    "direction": (
        lambda layer: weights.from_onnx(layer, [{name: value.repeat(2, 0) for name, value in ONNX_GRU.items()}] * 2),
        "from_onnx: layer 0: W: expected shape (1, 15, 3), got (2, 15, 3)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(wrong: str) -> None:
    read, message = WRONG[wrong]
    layer = elman.GRU(D, H, num_layers=2)
    before = [value.detach().clone() for value in layer.parameters()]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read(layer)
    assert str(error.value).startswith(message)
    assert all(torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "of RNN, GRU, ResetBeforeGRU, LSTM; got Linear"),
        (elman.Stack(D, H, cell_type=cells.MGU), TypeError, "LSTM; got Stack of MGU"),
        (nn.LSTM(D, H, proj_size=2), ValueError, "to_keras: layer: expected no projection, got proj_size=2"),
    ],
    ids=["no layer", "another cell", "projection"],
)
def test_a_layer_that_keras_does_not_have(layer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        weights.to_keras(layer)
    assert str(raised.value).endswith(message)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


COMPUTED: dict[str, Any] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight_hh_l0", 0.3),
    "pruned twice": lambda layer: [prune.l1_unstructured(layer, "weight_hh_l0", 0.3) for _ in range(2)],
    "weight_norm": lambda layer: nn.utils.weight_norm(layer, "weight_ih_l0"),
    "spectral_norm": lambda layer: nn.utils.spectral_norm(layer, "weight_hh_l0"),
    "parametrized": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "orthogonal": lambda layer: parametrizations.orthogonal(layer, "weight_ih_l0"),
    "without inverse": lambda layer: parametrize.register_parametrization(layer, "bias_hh_l0", Doubled()),
}
EXACT = ("weight_norm", "parametrized")  # whatever the values are


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights(name: str) -> None:
    """Those of the next call are written out, and read where they can be computed; else nothing changes."""
    layer, plain, other = elman.LSTM(4, 3).double(), elman.LSTM(4, 3).double(), elman.LSTM(4, 3).double()
    COMPUTED[name](layer.eval())
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)  # what the last call has computed is old now
    arrays, nodes = weights.to_keras(layer), weights.to_onnx(layer)
    expected = layer(x)[0]
    assert [[w.shape for w in of] for of in layer.all_weights] == [[w.shape for w in of] for of in plain.all_weights]
    weights.from_keras(plain, arrays)
    close(plain(x)[0], expected, "outputs")
    weights.from_onnx(plain, nodes)
    close(plain(x)[0], expected, "outputs")
    pairs: list[tuple[Any, Any]] = [
        (weights.from_keras, weights.to_keras(other)),
        (weights.from_onnx, weights.to_onnx(other)),
    ]
    for read, values in pairs:
        if name in EXACT:
            read(layer, values)
            close(layer(x)[0], other(x)[0], "outputs")
            continue
        where = "(weight|bias)_.h_l0: the layer computes this weight, by .*, which cannot give the new values.*; make"
        with pytest.raises(ValueError, match=rf"^{read.__name__}: {where} the weight a plain parameter first, torch"):
            read(layer, values)
        assert torch.equal(layer(x)[0], expected)
    weights.from_onnx(layer, nodes)
    close(layer(x)[0], expected, "outputs")
