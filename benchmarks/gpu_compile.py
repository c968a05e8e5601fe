"""Resources that the generated Triton kernels use on a GPU: registers, spills and shared memory. Needs no GPU.

    python benchmarks/gpu_compile.py > benchmarks/results/gpu-compile.txt
    python benchmarks/gpu_compile.py --dtype float64 > benchmarks/results/gpu-compile-float64.txt

Compiles the forward and backward kernels of every registered cell, in both forms, by Triton and its own
assembler. `whole` is one kernel that walks through all steps, `step` the largest of those that each step launches.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from elman import cells
from elman.engine.gpu.codegen import KernelSpec
from elman.engine.gpu.triton_plan import TritonPlan, options_of
from elman.engine.plan.planner import plan
from elman.engine.trace.capture import capture

ASSEMBLERS = Path(nvidia.__file__).parent / "bin"
LOOPS = ("forward", "backward")
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16"}

LEGEND = """\
H: input and hidden size; sm: compute capability (80: 8.0); whole: one kernel for all steps; step: the largest of the
kernels that each step launches. registers: of a thread (at most 255); spilled: bytes that a thread stores to memory;
shared: bytes of shared memory of a program (thread block).
"""


class Usage(NamedTuple):
    """Of one kernel: registers of a thread, bytes that it spills, bytes of shared memory of a program."""

    registers: int
    spilled: int
    shared: int


def compiled(name: str, D: int, H: int, dtype: torch.dtype) -> TritonPlan:
    """Generate the kernels of a registered cell."""
    cell = cells.by_name(name)(D, H)
    shapes = {key: value.shape for key, value in cell.named_parameters()}
    step, check = capture(cell, shapes, D, cell.state_size)
    planned = plan(step)
    check()
    return TritonPlan(planned, f"{name}-{H}", dtype, "cuda")


def usage(generated: TritonPlan, spec: KernelSpec, arch: int) -> Usage:
    """Compile a kernel for an architecture, 80 say."""
    function: Any = generated.functions[spec.name]
    pointer = POINTERS[generated.dtype]
    signature = {name: "*i64" if name == "begins" else pointer for name in spec.pointers}
    signature |= dict.fromkeys(spec.integers, "i32") | {"REAL": "constexpr", "PRECISION": "constexpr"}
    constants = {"REAL": tl.float64 if generated.dtype == torch.float64 else tl.float32, "PRECISION": "ieee"}
    aligned = {(i,): [["tt.divisibility", 16]] for i, _ in enumerate(spec.pointers)}
    source = ASTSource(function, signature=signature, constexprs=constants, attrs=aligned)
    kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options_of(generated.dtype))
    return Usage(*_assembled(kernel.asm["ptx"]), kernel.metadata.shared)


def _assembled(ptx: str) -> tuple[int, int]:
    """Registers and spilled bytes, as the assembler says."""
    target = re.search(r"\.target (\w+)", ptx)
    assert target is not None
    version = re.search(r"\.version (\d+)\.(\d+)", ptx)
    assert version is not None
    # Triton brings two assemblers, of which only the newer knows the newest PTX.
    for assembler in ("ptxas", "ptxas-blackwell"):
        with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
            file.write(ptx)
            file.flush()
            command = [str(ASSEMBLERS / assembler), "-v", f"-arch={target[1]}", file.name, "-o", "/dev/null"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    registers, spilled = (
        re.search(r"Used (\d+) registers", done.stderr),
        re.search(r"(\d+) bytes spill stores", done.stderr),
    )
    assert registers is not None
    assert spilled is not None
    return int(registers[1]), int(spilled[1])


def kernels(generated: TritonPlan) -> Iterator[tuple[str, str, list[KernelSpec]]]:
    """Yield form, loop and kernels."""
    for loop in LOOPS:
        yield "whole", loop, [generated.source.whole[loop]]
    for loop in LOOPS:
        yield "step", loop, generated.source.step[loop]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(cells.REGISTRY), help="names in the registry")
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--arch", nargs="+", type=int, default=[80, 90])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    options = parser.parse_args()
    print(" ".join(["python benchmarks/gpu_compile.py", *sys.argv[1:]]))
    print(f"torch {torch.__version__}, triton {triton.__version__}, {options.dtype}, 4 warps; not run on a GPU\n")
    print(LEGEND)
    print(f"{'cell':22}{'H':>5}{'sm':>4}  {'form':6}{'loop':9}{'registers':>10}{'spilled':>9}{'shared':>8}")
    for name in options.cells:
        for H in options.widths:
            generated = compiled(name, H, H, getattr(torch, options.dtype))
            for arch in options.arch:
                for form, loop, specs in kernels(generated):
                    usages = [usage(generated, spec, arch) for spec in specs]
                    most = Usage(*map(max, zip(*usages, strict=True)))
                    print(f"{name:22}{H:5}{arch:4}  {form:6}{loop:9}{most.registers:10}{most.spilled:9}{most.shared:8}")


if __name__ == "__main__":
    main()
