"""Products in bfloat16: where numbers are rounded, and by which instruction; contract/test_bfloat16.py has the laws."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest
import torch

import elman
from elman import flow
from elman.engine import EXECUTORS
from elman.engine.compiled.torch_ops import forward_op
from elman.engine.cpu import jit
from elman.engine.cpu.matmul import PackedMatmul
from tests.cases import CASES, SMALL, Case, Sizes, name_of
from tests.contract import test_oracle
from tests.native.pairs import LAYERS, Build, forward_and_backward, key_of, on_loop
from tests.tolerances import HALF_TOLERANCES, TOLERANCES, all_close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
DTYPE = torch.bfloat16
LARGE = Sizes(T=3, B=40, D=65, H=131)  # odd, where numbers are taken in pairs; several tiles and blocks of depth


@pytest.mark.sample(4)
@pytest.mark.parametrize("sizes", [*test_oracle.SIZES, LARGE], ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if case.oracle], ids=name_of)
def test_outputs_and_gradients(case: Case, sizes: Sizes) -> None:
    if sizes not in SMALL and "relu" in case.name:
        pytest.skip("near zero, a rounding decides whether a gradient passes relu; of so many, some are")
    test_oracle.check(case, "native", DTYPE, sizes, bias=True)


@every_layer
def test_autocast_has_master_weights(build: Build) -> None:
    """Under autocast, only the factors of products are rounded: results and gradients are float32."""
    layer, x = build(40, 24, executor="native"), torch.randn(6, 3, 40, requires_grad=True)
    with torch.autocast("cpu", DTYPE):
        outputs = layer(x)[0]
    inputs = [x, *layer.parameters()]
    received = torch.randn(outputs.shape).bfloat16()
    gradients = torch.autograd.grad(outputs, inputs, received.to(outputs.dtype))
    exact = on_loop(layer).double()
    wide = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(exact(wide)[0], [wide, *exact.parameters()], received.double())
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    # Further from it than float32 is, but nothing is rounded to bfloat16 in the end.
    for a, b in zip(gradients, expected, strict=True):
        error = (a - b).abs().max() / b.abs().max()
        assert TOLERANCES[torch.float32].gradients < error <= HALF_TOLERANCES[DTYPE].gradients
        assert not torch.equal(a, a.bfloat16().float())


@pytest.mark.sample(1)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_compiled_layers(num_layers: int) -> None:
    """Small calls, which are prepared if there is one layer, round in the same places as the operators."""
    layer = elman.LSTM(3, 5, num_layers, executor="native", dtype=DTYPE)
    compiled: Any = torch.compile(layer, backend="aot_eager")
    x = torch.randn(4, 2, 3, dtype=DTYPE, requires_grad=True)
    for a, b in zip(forward_and_backward(compiled, x), forward_and_backward(layer, x), strict=True):
        assert all(map(torch.equal, a, b))


@pytest.mark.parametrize("save", [True, False])
def test_the_operator_foretells_the_dtypes_of_its_results(save: bool) -> None:
    layer = elman.LSTM(3, 5, executor="native", dtype=DTYPE)
    x, *states = torch.randn(4, 2, 3, dtype=DTYPE), *(torch.zeros(2, 5, dtype=DTYPE) for _ in range(2))
    parameters = [parameter.detach() for parameter in layer.parameters()]
    arguments: Any = (key_of(layer), x, states, parameters, [], None, save)
    torch.library.opcheck(forward_op, arguments, test_utils="test_faketensor")


@pytest.mark.parametrize("B", [2, 200])  # prepared, or not
def test_gradients_that_arrive_at_states(B: int) -> None:
    layer, x = elman.LSTM(3, 5, executor="native", dtype=DTYPE), torch.randn(4, B, 3, dtype=DTYPE)
    norms = []
    for each, given in ((layer, x), (on_loop(layer).double(), x.double())):
        with flow.record(each) as found:
            each(given)[0].double().sum().backward()
        norms.append([found.state_gradients[name].to(DTYPE) for name in ("h_l0", "c_l0")])
    all_close(norms[0], norms[1], "gradients")


def test_factors_are_rounded_to_nearest_and_ties_to_even() -> None:
    column = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3.39e38, 1e-30, torch.inf])
    product = PackedMatmul(torch.ones(1, 1).bfloat16())(column[:, None])
    assert torch.equal(product[:, 0], column.bfloat16().float())
    # All that is set of their fractions is in the lower half, or all of it.
    nans = torch.tensor([0x7F800001, -1, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    assert PackedMatmul(torch.ones(1, 3).bfloat16())(nans[:, None]).isnan().all()


SCRIPT = """
import hashlib
import torch
from elman.engine.cpu.matmul import PackedMatmul
from tests.native.pairs import LAYERS, forward_and_backward, problem

digest = hashlib.sha256()
def add(tensors):
    for tensor in tensors:
        digest.update(tensor.detach().float().numpy().tobytes())

torch.manual_seed(0)
for M, K, N in ((1, 1, 1), (3, 5, 7), (17, 33, 65), (60, 300, 40)):
    add([PackedMatmul(torch.randn(K, N).bfloat16())(torch.randn(M, K))])
for name, (T, B, D, H) in zip(("LSTM", "GRU", "RNN"), [(4, 3, 5, 7), (3, 9, 40, 17), (2, 1, 33, 1)]):
    layer = LAYERS[name](D, H, executor="native", dtype=torch.bfloat16)
    for tensors in forward_and_backward(layer, *problem(layer, T, B, D)):
        add(tensors)
print(digest.hexdigest())
"""


@functools.cache
def digest(**environment: str) -> str:
    """The digest of all numbers, in a process with these variables."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],  # where `tests` is found
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout


@pytest.mark.parametrize(
    ("name", "value"), [("ELMAN_BF16_DOT", "1"), ("ELMAN_VECTOR_BYTES", "32"), ("ELMAN_VECTOR_BYTES", "16")]
)
def test_the_same_bits_by_every_instruction(name: str, value: str) -> None:
    if name == "ELMAN_BF16_DOT" and not llvm.get_host_cpu_features().get("avx512bf16"):
        pytest.skip("this machine has no instruction for pairs of products in bfloat16")
    if name == "ELMAN_VECTOR_BYTES" and int(value) >= jit.this_machine().vector_bytes:
        pytest.skip(f"the vectors of this machine are no wider than {value} bytes")
    assert digest(**{name: value}) == digest(ELMAN_BF16_DOT="0")
