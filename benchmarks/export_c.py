"""Exported C beside the native executor and ONNX Runtime: `python benchmarks/export_c.py`.

Times of one step of a stream of single numbers, with the state kept; the loss by weights of 8 bits; code and memory on
a Cortex-M4. One thread; all take turns in one process. Writes benchmarks/results/export_c.md. A column of times is one
entry of `RUNTIMES`. With `--rtneural FOLDER`, a checkout of github.com/jatinchowdhury18/RTNeural with its submodules,
its models are measured, too, with layers and sizes known to the compiler (ModelT), once for each library of vectors.
"""

import argparse
import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import elman
import elman.export
from elman.bench.layers import medians
from elman.bench.run import machine

RESULTS = Path(__file__).parent / "results" / "export_c.md"
LAYERS: dict[str, type[elman.Stack]] = {"LSTM": elman.LSTM, "GRU": elman.GRU}
CALLS = 100  # steps of C that one call measures
CORTEX = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os", "-ffreestanding", "-c")
Step = tuple[Callable[[], Any], int]  # a call, and how many steps it runs


def native(layer: elman.Stack, folder: Path) -> Step:
    """The layer itself, `layer.step`."""
    x, state = torch.ones(1, 1), None

    def step() -> None:
        nonlocal state
        _, state = layer.step(x, state)

    return step, 1


def onnx_runtime(layer: elman.Stack, folder: Path) -> Step:
    """ONNX Runtime, called with arrays of numpy."""
    elman.export.onnx(layer, folder / "m.onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "m.onnx", settings, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()][1:]
    states = dict.fromkeys(names, np.zeros((1, 1, layer.hidden_size), np.float32))
    x = np.ones((1, 1, 1), np.float32)

    def step() -> None:
        _, *new = session.run(None, {"input": x, **states})
        states.update(zip(names, new, strict=True))

    return step, 1


def compiled(compiler: str, dtype: str) -> Callable[[elman.Stack, Path], Step]:
    """C, by a compiler with -O3 -march=native -ffp-contract=fast."""

    def make(layer: elman.Stack, folder: Path) -> Step:
        path = folder / f"{type(layer).__name__}{layer.hidden_size}_{compiler}_{dtype}.c"  # a library is loaded once
        elman.export.c(layer, path, name="m", dtype=dtype)
        loop, library = folder / "loop.c", path.with_suffix(".so")
        loop.write_text(
            f'#include "{path.with_suffix(".h")}"\nstatic m_state s; static float x[1], y[M_OUTPUTS];\n'
            "void steps(int n) { while (n--) { x[0] = y[0]; m_step(&s, x, y); } }\n"
        )
        options = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, path, loop, "-o", library, "-lm"], check=True)
        steps = ctypes.CDLL(str(library)).steps
        return lambda: steps(CALLS), CALLS

    return make


RTNEURAL = """
#include <RTNeural/RTNeural.h>
#include <fstream>
static RTNeural::ModelT<float, 1, SIZE, RTNeural::KINDLayerT<float, 1, SIZE>> model;
static float x[1];
extern "C" void start(const char* path) { std::ifstream file(path); model.parseJson(file); model.reset(); }
extern "C" void steps(int n) { while(n--) { x[0] = model.getOutputs()[0]; model.forward(x); } }
extern "C" float last() { return model.getOutputs()[0]; }
"""
VECTORS = {"Eigen": "modules/Eigen", "xsimd": "modules/xsimd/include"}  # libraries of RTNeural, and where they are


def rtneural(checkout: Path, vectors: str) -> Callable[[elman.Stack, Path], Step]:
    """RTNeural, by g++ with -O3 -march=native."""

    def make(layer: elman.Stack, folder: Path) -> Step:
        path = folder / f"{type(layer).__name__}{layer.hidden_size}_{vectors}.cpp"
        model, library = path.with_suffix(".json"), path.with_suffix(".so")
        elman.export.rtneural(layer, model)
        path.write_text(RTNEURAL.replace("SIZE", str(layer.hidden_size)).replace("KIND", type(layer).__name__))
        options = ["-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-DEIGEN_STACK_ALLOCATION_LIMIT=0"]
        options += [
            f"-DRTNEURAL_USE_{vectors.upper()}=1",
            "-DRTNEURAL_DEFAULT_ALIGNMENT=32",
            f"-I{checkout}",
            f"-I{checkout / VECTORS[vectors]}",
        ]
        compiler = "g++"
        subprocess.run([compiler, *options, path, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
        loaded.last.restype = ctypes.c_float
        loaded.start(str(model).encode())
        y, state = torch.zeros(1, layer.hidden_size), None
        for _ in range(CALLS):
            y, state = layer.step(y[:, :1], state)
        loaded.steps(CALLS)
        if abs(loaded.last() - y[0, 0].item()) > 1e-4:
            raise SystemExit(f"RTNeural, {vectors}: expected {y[0, 0].item()}, got {loaded.last()}")
        return lambda: loaded.steps(CALLS), CALLS

    return make


#: what is measured, by the name of its column
RUNTIMES: dict[str, Callable[[elman.Stack, Path], Step]] = {
    "elman native": native,
    "ONNX Runtime": onnx_runtime,
    **{
        f"C, {compiler}{', int8' * (dtype == 'int8')}": compiled(compiler, dtype)
        for dtype in ("float32", "int8")
        for compiler in ("gcc", "clang")
        if shutil.which(compiler)
    },
}


def times(hidden: list[int], seconds: float, folder: Path) -> list[list[str]]:
    """Return rows of a table: nanoseconds for a step."""
    rows = [["layer", "H", *(f"{name}, ns" for name in RUNTIMES)]]
    for name, make in LAYERS.items():
        for H in hidden:
            torch.manual_seed(0)
            steps = [start(make(1, H, executor="native").eval(), folder) for start in RUNTIMES.values()]
            measured = medians([call for call, _ in steps], seconds)
            pairs = zip(measured, steps, strict=True)
            rows.append([name, str(H), *(f"{1e9 * time / count:.0f}" for time, (_, count) in pairs)])
            print(" ".join(rows[-1]), flush=True)
    return rows


def losses(hidden: list[int], folder: Path) -> list[list[str]]:
    """Return rows of a table: the size of the weights, and the largest difference from the layer on random input."""
    rows = [["layer", "H", "float32, bytes", "int8, bytes", "float32, difference", "int8, difference"]]
    for name, make in LAYERS.items():
        for H in hidden:
            torch.manual_seed(0)
            layer, sizes, differences = make(1, H).eval(), [], []
            for dtype in ("float32", "int8"):
                path = folder / "m.c"
                elman.export.c(layer, path, weights="file", dtype=dtype)
                sizes.append(str(path.with_suffix(".bin").stat().st_size))
                result = elman.export.check(path, layer, torch.randn(1000, 1, 1), tolerance=1.0)
                differences.append(f"{result.whole:.1e}")
            rows.append([name, str(H), *sizes, *differences])
    return rows


def cortex(hidden: list[int], folder: Path) -> list[list[str]]:
    """Return rows of a table: bytes of code and of weights in flash, and of the state in RAM."""
    rows = [["layer", "H", "dtype", "code, bytes", "weights, bytes", "RAM, bytes"]]
    for name, make in LAYERS.items():
        for H in hidden:
            for dtype in ("float32", "int8"):
                path, target = folder / "m.c", folder / "m.o"
                elman.export.c(make(1, H), path, dtype=dtype)
                (folder / "size.c").write_text('#include "m.h"\nm_state state;\n')
                sections = []
                for source in ("m.c", "size.c"):
                    compiler, size = "arm-none-eabi-gcc", "arm-none-eabi-size"
                    subprocess.run([compiler, *CORTEX, folder / source, "-o", target], check=True)
                    text = subprocess.run([size, "-A", target], check=True, capture_output=True, text=True).stdout
                    sections.append({n: int(count) for n, count in re.findall(r"^(\.\S+)\s+(\d+)", text, re.MULTILINE)})
                code = sum(size for n, size in sections[0].items() if n.startswith(".text"))
                weights = sum(size for n, size in sections[0].items() if n.startswith(".rodata"))
                ram = sum(size for n, size in sections[1].items() if n.startswith(".bss"))
                rows.append([name, str(H), dtype, str(code), str(weights), str(ram)])
    return rows


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rtneural", type=Path, metavar="FOLDER", help="a checkout of RTNeural")
    asked = parser.parse_args()
    if asked.rtneural:
        RUNTIMES.update({f"RTNeural, {name}": rtneural(asked.rtneural, name) for name in VECTORS})
    torch.set_num_threads(1)
    about = f"One thread, {machine()['cpu']}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    text = ["# Exported C", "", f"`python benchmarks/export_c.py`. {about}."]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        tables = {
            "One step of a stream": times(asked.hidden, asked.seconds, Path(folder)),
            "Weights of 8 bits": losses(asked.hidden, Path(folder)),
        }
        if shutil.which("arm-none-eabi-gcc"):
            tables["Cortex-M4, -Os"] = cortex(asked.hidden, Path(folder))
    for title, (head, *rows) in tables.items():
        lines = [head, ["---"] * len(head), *rows]
        text += ["", f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines)]
    RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
