"""C files give the numbers of their modules: whole, in chunks, ragged, by every compiler of this machine."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine.export.c_functions import functions_called
from elman.engine.export.c_lowering import COMBINE, LOWERING
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.errors import Failure
from elman.export import _c
from elman.export._c import CRunner
from elman.tasks.text.model import LanguageModel
from tests.odd import B, D, H, T
from tests.odd import Cell as OddCell

STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
ODD = [
    "a sum over time", "a weight and its transpose", "a diagonal matrix", "a product of a product", "a deep input",
    "a matrix made of others", "halves", "a state that stays", "three states of different widths",
    "an output that is no state", "a buffer",
]  # fmt: skip


class Filter(nn.Module):
    """Layers among modules that work on each step alone, with a connection past the layer."""

    def __init__(self, directions: int = 1) -> None:
        super().__init__()
        self.entry, self.norm = nn.Linear(D, 6), nn.LayerNorm(6)
        self.recurrent = elman.GRU(6, 6, num_layers=directions, bidirectional=directions == 2, executor="loop")
        self.output, self.scale = nn.Linear(6 * directions, 1), nn.Parameter(torch.randn(6))
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.entry(x)))
        h, _ = self.recurrent(x)
        h = self.dropout(h) if self.recurrent.bidirectional else h * self.scale + x
        y: Tensor = self.output(h)
        return y


def stack(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (elman.Stack(3, 5, cell_type=cells.by_name(name), executor="loop"), torch.randn(T, B, 3))


def odd(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (elman.Recurrent(OddCell(name, H), executor="loop"), torch.randn(T, B, D))


def language_model() -> tuple[nn.Module, Tensor]:
    return LanguageModel(20, "lstm", 8, 9, layers=2), torch.randint(0, 20, (T, B))


def layer(make: Callable[..., nn.Module], *args: Any, **options: Any) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (make(*args, executor="loop", **options), torch.randn(T, B, 3))


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    **{name: stack(name) for name in cells.REGISTRY},
    **{f"odd{k}": odd(name) for k, name in enumerate(ODD)},
    "torch_lstm_cell": lambda: (elman.Recurrent(nn.LSTMCell(3, 5), executor="loop"), torch.randn(T, B, 3)),
    "torch_gru_cell": lambda: (elman.Recurrent(nn.GRUCell(3, 5), executor="loop"), torch.randn(T, B, 3)),
    "learned_state": lambda: (elman.Recurrent(nn.GRUCell(3, 5), learn_state=True), torch.randn(T, B, 3)),
    "layers": layer(elman.LSTM, 3, 9, num_layers=2, batch_first=True),
    "wide": layer(elman.GRU, 3, 20, zoneout=0.1),
    "directions": layer(elman.LSTM, 3, 5, num_layers=3, bidirectional=True),
    "language_model": language_model,
    "filter": lambda: (Filter(), torch.randn(T, B, D)),
    "filter_of_directions": lambda: (Filter(2), torch.randn(T, B, D)),
}


class Shelf:
    """Every model, written in C and compiled into one library."""

    def __init__(self, folder: Path) -> None:
        self.models: dict[str, nn.Module] = {}
        self.inputs: dict[str, Tensor] = {}
        self.paths: dict[str, Path] = {}
        for name, make in MODELS.items():
            torch.manual_seed(0)
            self.models[name], self.inputs[name] = make()
            if name == "learned_state":
                for value in self.models[name].initial_state:  # type: ignore[union-attr]
                    nn.init.normal_(value)
            self.paths[name] = folder / f"{name}.c"
            elman.export.c(self.models[name], self.paths[name], self.inputs[name], name=f"m_{name}")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="module")
def library(shelf: Shelf) -> Any:
    need("cc")
    return _c.compile_library(list(shelf.paths.values()), options=("-O1", *STRICT))


@pytest.fixture
def compiled(shelf: Shelf, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_c, "compile_library", lambda paths: library)


@pytest.mark.sample(6)
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", MODELS)
def test_numbers(name: str, shelf: Shelf) -> None:
    result = elman.export.check(shelf.paths[name], shelf.models[name], shelf.inputs[name])
    assert result.largest < 1e-5


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("name", ["lstm", "language_model", "filter"])
def test_chunks_of_random_lengths_equal_the_whole(name: str, shelf: Shelf) -> None:
    runner, x = CRunner(shelf.paths[name], shelf.models[name]), shelf.inputs[name][:, 0]
    runner.reset()
    whole = runner.run_row(x)
    assert whole.abs().max() > 0.01
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        runner.reset()
        cut = int(torch.randint(1, T, (), generator=generator))
        assert torch.equal(torch.cat([runner.run_row(x[:cut]), runner.run_row(x[cut:])]), whole)


@pytest.mark.slow
def test_clang_warns_of_nothing(shelf: Shelf, tmp_path: Path) -> None:
    clang = need("clang")
    files = list(map(str, shelf.paths.values()))
    subprocess.run([clang, *STRICT, "-fsyntax-only", *files], check=True)


def test_a_header_is_cplusplus(shelf: Shelf, tmp_path: Path) -> None:
    compiler = need("c++")
    source = tmp_path / "user.cpp"
    source.write_text("".join(f'#include "{path.stem}.h"\n' for path in shelf.paths.values()))
    folder = f"-I{shelf.paths['lstm'].parent}"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", folder, source], check=True)


@pytest.mark.parametrize("name", ["lstm", "language_model"])
def test_weights_in_a_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = MODELS[name]()
    path = tmp_path / "model.c"
    elman.export.c(module, path, weights="file")
    assert elman.export.check(path, module, x).largest < 1e-5
    assert len(path.read_text()) < 20_000
    blob = path.with_suffix(".bin")
    elman.export.c(MODELS[name]()[0], tmp_path / "other.c", weights="file")
    blob.write_bytes((tmp_path / "other.bin").read_bytes())
    with pytest.raises(ValueError, match=r"expected the weights of model\.c, got those of another model"):
        elman.export.check(path, module, x)


@pytest.mark.parametrize("name", ["lstm", "filter", "language_model"])
def test_int8(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = MODELS[name]()
    for weights in ("inside", "file"):
        path = tmp_path / f"{weights}.c"
        elman.export.c(module, path, weights=weights, dtype="int8")
        assert 1e-5 < elman.export.check(path, module, x, tolerance=0.05).largest < 0.05


def test_int8_is_exact_for_weights_of_8_bits(tmp_path: Path) -> None:
    module = elman.LSTM(3, 12)
    for value in module.parameters():
        nn.init.uniform_(value)
        whole = (value.detach() * 254 - 127).round()
        if value.dim() > 1:
            whole[:, 0] = 127  # of each row, so that its scale is 1 / 127
        value.data = whole / 127
    elman.export.c(module, tmp_path / "m.c", dtype="int8")
    assert elman.export.check(tmp_path / "m.c", module).largest < 1e-5


def test_modules_one_after_the_other(tmp_path: Path) -> None:
    recurrent, output = elman.GRU(3, 5), nn.Linear(5, 2)
    for modules in ([recurrent, output], nn.Sequential(recurrent, output)):
        path = tmp_path / "m.c"
        elman.export.c(modules, path)
        x = torch.randn(T, 3)
        runner = CRunner(path, recurrent)
        runner.reset()
        torch.testing.assert_close(runner.run_row(x), output(recurrent(x)[0]), atol=1e-5, rtol=1e-5)


def test_cortex_m(shelf: Shelf, tmp_path: Path) -> None:
    compiler = need("arm-none-eabi-gcc")
    options = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os", "-ffreestanding"]
    for name in ("lstm", "filter", "language_model"):
        command = [compiler, *STRICT, *options, "-c", str(shelf.paths[name]), "-o", str(tmp_path / "m.o")]
        subprocess.run(command, check=True)


def test_wasm(tmp_path: Path) -> None:
    clang, node = need("clang"), need("node")
    need("wasm-ld")
    torch.manual_seed(0)
    module = elman.LSTM(1, 5)
    elman.export.c(module, tmp_path / "m.c")
    memory = tmp_path / "memory.c"
    memory.write_text('#include "m.h"\nm_state state;\nfloat x[1], y[M_OUTPUTS];\n')
    command = [clang, "--target=wasm32", "-O2", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry", "-Wl,--export-all"]
    subprocess.run([*command, tmp_path / "m.c", memory, "-o", tmp_path / "m.wasm"], check=True)
    script = tmp_path / "run.mjs"
    script.write_text("""
import { readFileSync } from "node:fs";
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const { memory, m_reset, m_step, state, x, y } = instance.exports;
const numbers = (at, n) => new Float32Array(memory.buffer, at.value, n);
m_reset(state.value);
for (let t = 0; t < 6; t++) {
    numbers(x, 1)[0] = t / 3;
    m_step(state.value, x.value, y.value);
}
console.log([...numbers(y, 5)].join(" "));
""")
    result = subprocess.run([node, script, tmp_path / "m.wasm"], check=True, capture_output=True, text=True)
    expected = module(torch.arange(6).view(6, 1) / 3)[0][-1]
    torch.testing.assert_close(torch.tensor([*map(float, result.stdout.split())]), expected, atol=1e-5, rtol=1e-5)


def test_exponentials_are_accurate(tmp_path: Path) -> None:
    """Largest errors in units in the last place; `c_functions` tells them."""
    names: dict[str, tuple[Callable[[Any], Any], float]] = {
        "exp": (np.exp, 1.5),
        "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3),
        "tanh": (np.tanh, 5),
    }
    source, library = tmp_path / "f.c", tmp_path / "f.so"
    definitions = functions_called("".join(f"elman_{name}(" for name in names))
    loops = [
        f"void all_{name}(const float *x, float *y, int n) {{ for (int i = 0; i < n; ++i) y[i] = elman_{name}(x[i]); }}"
        for name in names
    ]
    source.write_text("\n".join(["#include <stdint.h>", *definitions, *loops]))
    subprocess.run([need("cc"), "-std=c99", "-O3", "-shared", "-fPIC", source, "-o", library], check=True)
    functions = ctypes.CDLL(str(library))
    x = np.arange(0, 2**32, 4099, dtype=np.int64).astype(np.uint32).view(np.float32)
    for name, (reference, limit) in names.items():
        y = np.empty_like(x)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, y))
        getattr(functions, f"all_{name}")(*pointers, len(x))
        with np.errstate(all="ignore"):
            expected = reference(x.astype(np.float64))
            rounded = expected.astype(np.float32)
            error = np.abs(y - expected) / np.spacing(np.abs(rounded))
            subnormal = np.abs(rounded) < np.finfo(np.float32).tiny
        assert (np.isnan(y) == np.isnan(x)).all()
        normal = np.isfinite(rounded) & ~subnormal
        assert error[normal].max() < limit, name
        assert (y[np.isinf(rounded)] == rounded[np.isinf(rounded)]).all()
        assert np.abs(y[subnormal] - rounded[subnormal]).max() <= np.finfo(np.float32).tiny


def need(program: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program}")
    return path


def test_every_operation_has_a_row() -> None:
    assert set(LOWERING) == POINTWISE
    assert COMBINE.keys() == REDUCTIONS.keys()


class Sorted(nn.Module):
    state_size = 4

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.sort(h + x)[0]


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = elman.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.recurrent(x)[0]
        return outputs.cumsum(0)


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = elman.GRU(3, 4, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.recurrent(x)[0], x], -1)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = elman.GRU(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.recurrent(x)[0]
        return outputs if x.sum() > 0 else -outputs


x = torch.randn(T, B, 3)
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "an unknown operation": (elman.Recurrent(Sorted()), {"inputs": torch.randn(T, B, 4)}, r"sort.*\(test_c.py, line"),
    "steps that mix": (Last(), {"inputs": x}, "Last: expected a model that computes each step from that step"),
    "past two directions": (Skips(), {"inputs": x}, "expected values from behind the last layer with two directions"),
    "a branch": (Branches(), {"inputs": x}, "Branches: expected a model that torch.fx can trace"),
    "an unknown width": (nn.Tanh(), {}, "Tanh: expected an example input"),
    "a dtype": (elman.GRU(3, 4), {"dtype": "int4"}, "dtype: expected 'float32' or 'int8', got 'int4'"),
    "a place": (elman.GRU(3, 4), {"weights": "outside"}, "weights: expected 'inside' or 'file', got 'outside'"),
    "a name": (elman.GRU(3, 4), {"name": "a-b"}, "name: expected an identifier of C that is no keyword, got 'a-b'"),
    "a keyword": (elman.GRU(3, 4), {"name": "int"}, "name: expected an identifier of C that is no keyword, got 'int'"),
    "a number": (3, {}, "module: expected a layer or a model, got int"),
    "an empty list": ([], {}, "module: expected modules"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    module, options, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message) as error:
        elman.export.c(module, tmp_path / "m.c", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_all_files_or_none(tmp_path: Path) -> None:
    (tmp_path / "m.h").mkdir()
    (tmp_path / "m.c").write_text("before")
    with pytest.raises(OSError, match=r"m\.h"):
        elman.export.c(elman.GRU(3, 4), tmp_path / "m.c")
    assert {path.name for path in tmp_path.iterdir()} == {"m.h", "m.c"}
    assert (tmp_path / "m.c").read_text() == "before"


def test_other_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a file name that ends with \.c, got 'm\.cpp'"):
        elman.export.c(elman.GRU(3, 4), tmp_path / "m.cpp")


def test_a_wrong_number_is_reported(tmp_path: Path) -> None:
    module = elman.GRU(3, 4)
    elman.export.c(module, tmp_path / "m.c")
    with torch.no_grad():
        module.all_weights[0][1][0, 0] += 0.01
    with pytest.raises(Failure, match=r"m\.c: expected the numbers of GRU within 1e-05"):
        elman.export.check(tmp_path / "m.c", module)
