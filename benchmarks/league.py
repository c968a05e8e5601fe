"""A league table of engines that run recurrent networks on a CPU: `python benchmarks/league.py --threads 1`.

LSTM, GRU, tanh RNN and layer-normalized GRU, forward and both ways, by elman, torch.nn (a Python loop for the last),
JAX (`lax.scan` under `jit`), Keras 3 on JAX, `torch.compile` of the unrolled steps (of short sequences only, since
compiling takes minutes), ONNX Runtime and OpenVINO (inference). Needs jax, keras, onnx, onnxruntime and openvino.

Each engine has a process of its own, bound to the same cores, and computes with the same weights and inputs. Before any
time is taken, its outputs and gradients are compared with those of the loop executor in float64. Then the processes
take turns, and the median of the medians of all turns counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import elman
from elman.bench.layers import Shape, parse
from elman.bench.run import geometric_mean, machine

SHAPES = (
    "128,1,64,64 128,1,256,256 128,16,64,64 128,16,256,256 128,32,128,128 128,32,256,256 64,32,512,512 16,32,128,128"
)
SHORT = 16  # the longest sequence that is unrolled for torch.compile
TOLERANCE = 1e-4  # of the norm of each result, against float64
KERAS_GATES = {"lstm": [0, 1, 2, 3], "gru": [1, 0, 2], "rnn": [0]}  # their order; of the GRU: z, r, n
Arrays = dict[str, NDArray[Any]]
Run = Callable[[], Sequence[Any]]  # the outputs, then the gradients of x and of every parameter


class Row(NamedTuple):
    """A row of the table: a cell, its sizes, and whether the backward pass is measured."""

    cell: str
    shape: Shape
    backward: bool


def layer_of(cell: str, shape: Shape, executor: str = "auto") -> torch.nn.Module:
    """Return elman's layer."""
    makers: dict[str, Callable[..., torch.nn.Module]] = {
        "lstm": elman.LSTM,
        "gru": elman.GRU,
        "rnn": elman.RNN,
        "layer_norm_gru": partial(elman.GRU, layer_norm=True),
    }
    return makers[cell](shape.D, shape.H, executor=executor)


def torch_run(layer: torch.nn.Module, arrays: Arrays, backward: bool) -> Run:
    """Return a function that runs a layer of elman or of torch.nn."""
    x, dy = torch.from_numpy(arrays["x"]).requires_grad_(backward), torch.from_numpy(arrays["dy"])
    for name, parameter in layer.named_parameters():
        parameter.data.copy_(torch.from_numpy(arrays[name]))
    parameters = list(layer.parameters())

    def run() -> Sequence[Any]:
        if not backward:
            with torch.no_grad():
                return [layer(x)[0].numpy()]
        outputs = layer(x)[0]
        return [outputs.detach(), *torch.autograd.grad(outputs, [x, *parameters], dy)]

    return run


class Unrolled(torch.nn.Module):
    """A layer whose steps are written out, by the equations of elman's cell."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.cell = elman.cells.by_name(row.cell)(row.shape.D, row.shape.H)
        self.states = 2 if row.cell == "lstm" else 1

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        zeros = x.new_zeros(x.shape[1], self.cell.hidden_size)
        state: Any = (zeros, zeros) if self.states == 2 else zeros
        outputs = []
        for x_t in x.unbind():
            state = self.cell(x_t, state)
            outputs.append(state[0] if self.states == 2 else state)
        return (torch.stack(outputs),)


def elman_engine(row: Row, arrays: Arrays, threads: int) -> Run:
    """The layer of elman, on the executor that `auto` chooses."""
    torch.set_num_threads(threads)
    return torch_run(layer_of(row.cell, row.shape), arrays, row.backward)


def torch_engine(row: Row, arrays: Arrays, threads: int) -> Run:
    """The layer of torch.nn; a Python loop over the steps for the cell that torch.nn does not have."""
    torch.set_num_threads(threads)
    if row.cell == "layer_norm_gru":
        return torch_run(Unrolled(row), _of_cell(arrays), row.backward)
    layer: torch.nn.Module = getattr(torch.nn, row.cell.upper())(row.shape.D, row.shape.H)
    return torch_run(layer, arrays, row.backward)


def compile_engine(row: Row, arrays: Arrays, threads: int) -> Run | None:
    """The steps written out and compiled; None for long sequences."""
    if row.shape.T > SHORT:
        return None
    torch.set_num_threads(threads)
    layer: Any = Unrolled(row)
    run = torch_run(layer, _of_cell(arrays), row.backward)
    layer.compile(dynamic=False)
    return run


def _of_cell(arrays: Arrays) -> Arrays:
    """The arrays of a layer by the names that its cell has in `Unrolled`."""
    return {f"cell.{name.removesuffix('_l0')}" if name.endswith("_l0") else name: a for name, a in arrays.items()}


def jax_engine(row: Row, arrays: Arrays, threads: int) -> Run:
    """`lax.scan` under `jit`; the product of the inputs is one for all steps, before the scan."""
    del threads
    import jax
    import jax.numpy as jnp

    names = [name for name in arrays if name not in ("x", "dy")]
    sigmoid, H = jax.nn.sigmoid, row.shape.H

    def normalized(a: Any, gain: Any, bias: Any) -> Any:
        parts = []
        for part in (slice(0, 2 * H), slice(2 * H, 3 * H)):
            p = a[..., part]
            mean = p.mean(-1, keepdims=True)
            variance = ((p - mean) ** 2).mean(-1, keepdims=True)
            parts.append((p - mean) / jnp.sqrt(variance + 1e-5) * gain[part] + bias[part])
        return jnp.concatenate(parts, -1)

    def forward(x: Any, *values: Any) -> Any:
        w = dict(zip((name.removesuffix("_l0") for name in names), values, strict=True))
        zeros = jnp.zeros((x.shape[1], H), x.dtype)
        if row.cell == "layer_norm_gru":
            inputs = normalized(x @ w["weight_ih"].T, w["gain_ih"], w["bias_ih"])
        else:
            inputs = x @ w["weight_ih"].T + w["bias_ih"]

        def product(h: Any) -> Any:
            total = h @ w["weight_hh"].T
            return normalized(total, w["gain_hh"], w["bias_hh"]) if "gain_hh" in w else total + w["bias_hh"]

        def lstm(state: Any, x_t: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x_t + product(h), 4, -1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        def gru(h: Any, x_t: Any) -> Any:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(x_t, 3, -1), jnp.split(product(h), 3, -1)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            h = (1 - z) * jnp.tanh(x_n + r * h_n) + z * h
            return h, h

        def rnn(h: Any, x_t: Any) -> Any:
            h = jnp.tanh(x_t + product(h))
            return h, h

        if row.cell == "lstm":
            return jax.lax.scan(lstm, (zeros, zeros), inputs)[1]
        return jax.lax.scan(rnn if row.cell == "rnn" else gru, zeros, inputs)[1]

    return _jitted(forward, [arrays["x"], *(arrays[name] for name in names)], arrays["dy"], row.backward)


def _jitted(forward: Callable[..., Any], inputs: Sequence[Any], dy: Any, backward: bool) -> Run:
    import jax
    import jax.numpy as jnp

    inputs, dy = [jnp.asarray(value) for value in inputs], jnp.asarray(dy)

    def both(dy: Any, *inputs: Any) -> Any:
        y, gradients = jax.vjp(forward, *inputs)
        return y, *gradients(dy)

    if backward:
        compiled = jax.jit(both)
        return lambda: jax.block_until_ready(compiled(dy, *inputs))
    compiled = jax.jit(forward)
    return lambda: [compiled(*inputs).block_until_ready()]


def keras_engine(row: Row, arrays: Arrays, threads: int) -> Run | None:
    """Keras's layers on JAX. LSTM and SimpleRNN have one bias, the sum of two; gates are in another order."""
    del threads
    if row.cell == "layer_norm_gru":
        return None
    import keras

    H, order = row.shape.H, KERAS_GATES[row.cell]

    def columns(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([matrix[k * H : (k + 1) * H] for k in order]).T

    make = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[row.cell]
    layer = make(H, return_sequences=True)
    layer.build((row.shape.B, row.shape.T, row.shape.D))
    biases = [columns(arrays[f"bias_{kind}_l0"]) for kind in ("ih", "hh")]
    bias = np.stack(biases) if row.cell == "gru" else biases[0] + biases[1]
    weights = [columns(arrays["weight_ih_l0"]), columns(arrays["weight_hh_l0"]), bias]
    others = [variable.value for variable in layer.non_trainable_variables]

    def forward(x: Any, *weights: Any) -> Any:
        # Keras takes batches first: transposing is part of neither side, so its inputs are transposed before.
        return layer.stateless_call(list(weights), others, x)[0]

    x, dy = (np.ascontiguousarray(arrays[name].transpose(1, 0, 2)) for name in ("x", "dy"))
    return _jitted(forward, [x, *weights], dy, row.backward)


def of_keras(row: Row, results: Sequence[Any]) -> Sequence[Any]:
    """Convert results of Keras to the layout of torch.nn."""
    outputs, *gradients = (np.asarray(value) for value in results)
    converted = [outputs.transpose(1, 0, 2)]
    if gradients:
        dx, d_ih, d_hh, d_bias = gradients
        d_biases = list(d_bias) if row.cell == "gru" else [d_bias, d_bias]
        H, inverse = row.shape.H, np.argsort(KERAS_GATES[row.cell])
        rows = [np.concatenate([m.T[k * H : (k + 1) * H] for k in inverse]) for m in (d_ih, d_hh, *d_biases)]
        converted += [dx.transpose(1, 0, 2), *rows]
    return converted


def onnx_model(row: Row, arrays: Arrays) -> bytes:
    """The operator of ONNX: x (T, B, D) to y (T, 1, B, H)."""
    from onnx_stack import model_of

    layer = layer_of(row.cell, row.shape)
    for name, parameter in layer.named_parameters():
        parameter.data.copy_(torch.from_numpy(arrays[name]))
    name = "rnn-tanh" if row.cell == "rnn" else row.cell
    serialized: bytes = model_of(name, layer, row.shape.T, row.shape.B).SerializeToString()
    return serialized


def onnx_runtime_engine(row: Row, arrays: Arrays, threads: int) -> Run | None:
    """ONNX's operator in ONNX Runtime."""
    if row.backward or row.cell == "layer_norm_gru":
        return None
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(onnx_model(row, arrays), settings, ["CPUExecutionProvider"])
    feed = {"x": arrays["x"]}
    return lambda: [session.run(None, feed)[0][:, 0]]


def openvino_engine(row: Row, arrays: Arrays, threads: int) -> Run | None:
    """ONNX's operator in OpenVINO."""
    if row.backward or row.cell == "layer_norm_gru":
        return None
    import openvino

    core = openvino.Core()
    # Left to itself it computes in bf16 where the processor has it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    model = core.read_model(onnx_model(row, arrays))
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(arrays["x"], shared_memory=True))

    def run() -> Sequence[Any]:
        request.infer()
        return [request.get_output_tensor(0).data[:, 0]]

    return run


ENGINES: dict[str, Callable[[Row, Arrays, int], Run | None]] = {
    "elman": elman_engine,
    "torch.nn": torch_engine,
    "JAX": jax_engine,
    "Keras": keras_engine,
    "torch.compile": compile_engine,
    "ONNX Runtime": onnx_runtime_engine,
    "OpenVINO": openvino_engine,
}


def work(engine: str, threads: int) -> None:
    """Serve a row after the other: build it, write its results into a file, then measure whenever asked."""
    out, run = sys.stdout, None
    sys.stdout = sys.stderr
    for line in sys.stdin:
        message = json.loads(line)
        if "row" in message:
            cell, shape, backward = message["row"]
            row, arrays = Row(cell, Shape(*shape), backward), dict(np.load(message["arrays"]))
            run = ENGINES[engine](row, arrays, threads)
            if run is not None:
                results = of_keras(row, run()) if engine == "Keras" else run()
                np.savez(message["results"], *(np.asarray(value) for value in results))
            answer: Any = run is not None
        else:
            assert run is not None
            run()  # the other engines have had the caches
            times, end = list[float](), perf_counter() + message["seconds"]
            while perf_counter() < end or len(times) < 3:
                begin = perf_counter()
                run()
                times.append(perf_counter() - begin)
            answer = median(times)
        print(json.dumps(answer), file=out, flush=True)


class Engine:
    """The process of an engine."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
        environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **message: Any) -> Any:
        """Send a message, and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} has ended, with code {self.process.wait()}")
        return json.loads(answer)


def reference(row: Row) -> tuple[Arrays, list[NDArray[Any]]]:
    """Return weights and inputs in float32, and the results of the loop executor in float64."""
    torch.manual_seed(0)
    T, B, D, H = row.shape
    layer = layer_of(row.cell, row.shape, "loop").double()
    for parameter in layer.parameters():  # the gains of normalization are not 1, nor its biases 0, as after training
        parameter.data += torch.randn_like(parameter) * 0.05
        parameter.data = parameter.data.float().double()
    x, dy = torch.randn(T, B, D).double().requires_grad_(), torch.randn(T, B, H).double()
    outputs = layer(x)[0]
    results = [outputs.detach()]
    if row.backward:
        results += torch.autograd.grad(outputs, [x, *layer.parameters()], dy)
    arrays = {name: p.detach().float().numpy() for name, p in layer.named_parameters()}
    arrays |= {"x": x.detach().float().numpy(), "dy": dy.float().numpy()}
    return arrays, [value.numpy() for value in results]


def measure(row: Row, engines: Sequence[Engine], folder: Path, seconds: float, turns: int) -> dict[str, float]:
    """Check the numbers of all engines for a row, and return their times in seconds."""
    arrays, expected = reference(row)
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    present = []
    for engine in engines:
        file = folder / "results.npz"
        if not engine.ask(row=row, arrays=str(folder / "arrays.npz"), results=str(file)):
            continue
        present.append(engine)
        results = list(np.load(file).values())
        for i, (value, exact) in enumerate(zip(results, expected, strict=True)):
            error = np.linalg.norm(value.reshape(exact.shape) - exact) / np.linalg.norm(exact)
            if not error < TOLERANCE:
                raise SystemExit(f"{engine.name}: {row.cell} {row.shape}: result {i} differs by {error:.1e}")
    times: dict[str, list[float]] = {engine.name: [] for engine in present}
    for _ in range(turns):
        for engine in present:
            sleep(0.02)  # threads of another engine that wait actively go to sleep
            times[engine.name].append(engine.ask(seconds=seconds))
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", type=parse, default=parse(SHAPES))
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "rnn", "layer_norm_gru"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=0.1, help="of each turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[-options.threads :]
    os.sched_setaffinity(0, cores)
    if options.worker:
        work(options.worker, options.threads)
        return
    torch.set_num_threads(options.threads)
    engines = [Engine(name, options.threads) for name in options.engines]
    rows = [Row(c, s, b) for c in options.cells for b in (False, True) for s in options.shapes]
    print(f"## {options.threads} thread{'s' * (options.threads > 1)}\n")
    print(f"| cell | T,B,D,H | direction | {' | '.join(options.engines)} | elman / first other |")
    print("|---" * (4 + len(engines)) + "|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            times = measure(row, engines, Path(folder), options.seconds, options.turns)
            fields = [f"{times[e] * 1e3:.2f}" if e in times else "" for e in options.engines]
            ratio = times["elman"] / min(time for name, time in times.items() if name != "elman")
            ratios.append(ratio)
            direction = "both" if row.backward else "forward"
            print(f"| {row.cell} | {row.shape} | {direction} | {' | '.join(fields)} | {ratio:.2f} |", flush=True)
    near = sum(ratio <= 1.1 for ratio in ratios)
    print(f"\nMilliseconds. elman is the first or within 10 % of the first in {near} of {len(ratios)} rows; geometric "
          f"mean of the last column {geometric_mean(ratios):.2f}, largest {max(ratios):.2f}. {options.threads} "
          f"thread{'s' * (options.threads > 1)}, {machine()['cpu']}.")  # fmt: skip


if __name__ == "__main__":
    main()
