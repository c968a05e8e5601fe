"""A model of torch.nn's layers, made one of elman's: the same numbers, the same parameters, nothing lost."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_sequence

import elman
from elman.layers.convert import Conversion
from tests.cases import call, gradients
from tests.tolerances import all_close

PAIRS: list[Any] = [(nn.RNN, elman.RNN), (nn.GRU, elman.GRU), (nn.LSTM, elman.LSTM)]
every_pair = pytest.mark.parametrize(("theirs", "ours"), PAIRS)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "dropout": 0.5},
    {"bias": False, "batch_first": True},
    {"dtype": torch.float64},
    {"bidirectional": True, "num_layers": 2},
]
x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))


def converted(model: nn.Module) -> tuple[Any, Conversion]:
    told: list[Conversion] = []
    return elman.convert(model, report=told.append), told[0]


@pytest.mark.sample(8)
@pytest.mark.filterwarnings("ignore:LSTM with projections")  # by torch of its own layer
@pytest.mark.parametrize("options", [*OPTIONS, {"nonlinearity": "relu"}, {"proj_size": 2}], ids=str)
@every_pair
def test_all_that_a_layer_is_made_of_goes_over(theirs: Any, ours: Any, options: dict[str, Any]) -> None:
    of_one = {"nonlinearity": nn.RNN, "proj_size": nn.LSTM}
    if any(theirs is not of_one.get(name, theirs) for name in options):
        pytest.skip(f"no option of {theirs.__name__}")
    layer = theirs(3, 5, **options)
    said, parameters = repr(layer), list(layer.named_parameters())
    made: Any = elman.convert(layer)
    assert type(made) is ours
    assert repr(made) == said
    for (name, old), (new_name, new) in zip(parameters, made.named_parameters(), strict=True):
        assert (name, id(old)) == (new_name, id(new))
    given = x.to(next(layer.parameters()).dtype).requires_grad_()
    torch.manual_seed(1)  # for dropout
    results = call(made, given)
    torch.manual_seed(1)
    expected = call(layer, given)
    all_close(results, expected, "outputs")
    inputs = (given, *layer.parameters())
    all_close(gradients(results, inputs), gradients(expected, inputs), "gradients")


class Model(nn.Module):
    """One layer in two places, one of a user's own class, a cell, and what is no recurrent layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Any = nn.ModuleDict({"rnn": nn.LSTM(3, 5), "out": nn.Linear(5, 3)})
        self.decoder: Any = nn.Sequential(self.encoder["rnn"])
        self.own: Any = Own(5, 3)
        self.cell = nn.GRUCell(3, 5)
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        self.encoder["rnn"].flatten_parameters()
        h, state = self.encoder["rnn"](x)
        h, _ = self.decoder[0](self.encoder["out"](h), state)
        summed: Tensor = h.sum() + self.own(h)[0].sum()
        return summed


class Own(nn.GRU):
    pass


def test_a_model_is_changed_in_place_and_what_is_left_is_told() -> None:
    model = Model()
    keys, expected = list(model.state_dict()), model(x)
    made, conversion = converted(model)
    assert made is model
    assert type(model.encoder["rnn"]) is elman.LSTM
    assert model.encoder["rnn"] is model.decoder[0]
    assert type(model.own) is Own
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(x), expected)
    assert str(conversion).splitlines() == [
        "swapped  encoder.rnn, decoder.0  LSTM(3, 5)",
        "left     own                     Own(5, 3): a subclass of torch.nn.GRU, which may compute something else",
        "left     cell                    GRUCell(3, 5): a single-step cell; elman.Recurrent runs it over time",
        f"note: {conversion.note}",
    ]
    assert "not instances of torch.nn.RNN, GRU or LSTM" in conversion.note
    assert len(conversion.swapped) == 1
    again = converted(model)[1]
    assert (again.swapped, again.note) == ((), "")
    assert str(converted(nn.Linear(2, 2))[1]) == "no recurrent layer of torch.nn in this model"


def test_a_training_goes_on_where_it_was() -> None:
    """Two steps of Adam, a conversion before the second; the layers' parameters tied, and one of them frozen."""

    def train(convert: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model: Any = nn.ModuleList([nn.LSTM(3, 5), nn.LSTM(3, 5)])
        model[1].weight_ih_l0 = model[0].weight_ih_l0
        model[0].bias_hh_l0.requires_grad_(False)
        optimizer = torch.optim.Adam(model.parameters())
        for step in range(2):
            if step and convert:
                model = elman.convert(model)
            optimizer.zero_grad()
            sum(layer(x)[0].square().sum() for layer in model).backward()
            optimizer.step()
        assert model[1].weight_ih_l0 is model[0].weight_ih_l0
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["0.bias_hh_l0"]
        return [parameter.detach() for parameter in model.parameters()]

    all_close(train(convert=True), train(convert=False), "gradients")


def test_hooks_modes_and_attributes_come_along() -> None:
    layer: Any = nn.GRU(3, 5, num_layers=2, bidirectional=True).eval()
    seen = []
    handle = layer.register_forward_hook(lambda *of_call: seen.append("after"))
    layer.register_forward_pre_hook(lambda *of_call: seen.append("before"))
    layer.title, layer.mark = "mine", nn.Buffer(torch.ones(1))
    made = elman.convert(layer)
    assert (made.training, made.title, made.bidirectional, made.mode) == (False, "mine", True, "GRU")
    assert made.mark is layer.mark
    made(x)
    handle.remove()
    made(x)
    assert seen == ["before", "after", "before"]
    assert [list(map(id, of)) for of in made.all_weights] == [list(map(id, of)) for of in layer.all_weights]
    assert made.train().training


def test_weights_that_a_hook_computes_stay_computed() -> None:
    layer: Any = nn.LSTM(3, 5)
    prune.random_unstructured(layer, "weight_hh_l0", amount=0.5)
    expected = call(layer, x)
    made: Any = elman.convert(layer)
    assert type(made) is elman.LSTM
    all_close(call(made, x), expected, "outputs")
    with torch.no_grad():
        made.get_parameter("weight_hh_l0_orig").mul_(2)
    assert not torch.equal(made(x)[0], expected[0])


PARAMETRIZED: dict[str, Callable[[Any], Any]] = {
    "weight_norm": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer, "weight_ih_l1"),
    "two": lambda layer: parametrizations.orthogonal(
        parametrizations.weight_norm(layer, "weight_ih_l0"), "weight_hh_l1"
    ),
}


@pytest.mark.parametrize("name", PARAMETRIZED)
def test_parametrized_weights_stay_parametrized(name: str) -> None:
    layer: Any = PARAMETRIZED[name](nn.LSTM(3, 5, num_layers=2)).eval()
    parameters, keys = dict(layer.named_parameters()), list(layer.state_dict())
    model, conversion = converted(nn.Sequential(layer))
    made: Any = model[0]
    assert [str(found.layer) for found in conversion.swapped] == ["ParametrizedLSTM(3, 5, num_layers=2)"]
    assert isinstance(made, elman.LSTM)
    assert list(made.state_dict()) == keys
    assert all(value is parameters[key] for key, value in made.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.mul_(1.5)
    results, expected = call(made, x), call(layer, x)
    all_close(results, expected, "outputs")
    all_close(
        gradients(results, list(parameters.values())), gradients(expected, list(parameters.values())), "gradients"
    )
    all_close(call(deepcopy(made), x), expected, "outputs")
    weights: Any = made.parametrizations
    for weight in list(weights):
        parametrize.remove_parametrizations(made, weight)
    assert type(made) is elman.LSTM
    all_close(call(made, x), expected, "outputs")


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_dropout_reach_every_way_of_running(training: bool) -> None:
    """Layers that share their windows are one cell, which draws dropout within its steps."""
    layer: Any = nn.GRU(3, 5, num_layers=2, dropout=0.5).train(training)
    made: Any = elman.convert(layer)
    made.bptt = elman.bptt.Truncated(1, 2)
    assert torch.equal(made(x)[0], made(x)[0]) is not training


def test_the_nonlinearity_is_the_one_that_torch_computes_by() -> None:
    layer: Any = nn.RNN(3, 5, nonlinearity="relu")
    layer.nonlinearity = "tanh"
    all_close(call(elman.convert(layer), x), call(layer, x), "outputs")


def replaced(layer: Any) -> Any:
    layer.forward = lambda given: given
    return layer


def compiled(layer: Any) -> Any:
    layer._compiled_call_impl = lambda given: given  # as layer.compile() does
    return layer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replaced, "its forward has been replaced"),
        (compiled, "compiled by torch.compile already; convert first, then compile"),
        (partial(torch.compile, backend="eager"), "compiled by torch.compile already; convert first, then compile"),
    ],
)
def test_a_layer_that_does_something_else_is_left(change: Any, reason: str) -> None:
    model = nn.Sequential(change(nn.GRU(3, 5)))
    before = model[0]
    made, conversion = converted(model)
    assert made[0] is before
    assert [found.reason for found in conversion.left] == [reason]


def test_packed_sequences_go_through_what_was_converted() -> None:
    layer: Any = nn.GRU(3, 5)
    packed = pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    expected, expected_h = layer(packed)
    (outputs, h) = elman.convert(layer)(packed)
    all_close((outputs.data, h), (expected.data, expected_h), "outputs")


def test_conversion_draws_no_random_numbers() -> None:
    layer = nn.LSTM(3, 5)
    before = torch.get_rng_state()
    elman.convert(layer)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_module() -> None:
    with pytest.raises(TypeError, match=r"convert: model: expected a torch\.nn\.Module, got list"):
        elman.convert([nn.GRU(3, 5)])  # type: ignore[arg-type]
