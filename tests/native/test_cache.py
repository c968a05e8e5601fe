"""Law 6: nothing is compiled twice, in a process or on a machine, and a cache that is broken costs time alone."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import elman
from elman.engine import EXECUTORS
from elman.engine.compiled import cache_folder
from elman.engine.compiled.cache_folder import read_signed, unsafe, write_file, write_signed
from elman.engine.cpu import compiled_plan, jit
from tests.cases import CASES, Case, name_of
from tests.native.pairs import agrees, forward_and_backward, problem

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")

D = 3
Layer = elman.Stack | elman.Recurrent

# Little is imported, so that it starts soon. One line of output: how often the compiler ran.
SCRIPT = """
import torch
import elman
from elman.engine.cpu import jit

counts = []
compile = jit.machine_code
jit.machine_code = lambda *given: counts.append(1) or compile(*given)
layer, x = elman.RNN(3, 5, executor="native"), torch.randn(4, 2, 3)
found = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
layer.executor = "loop"
expected = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
torch.testing.assert_close(found, expected)
print(len(counts))
"""


def start(cache: Path) -> "subprocess.Popen[str]":
    """A fresh process that runs a layer."""
    environment = {**os.environ, "ELMAN_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def compilations(process: "subprocess.Popen[str]") -> int:
    """How often the process compiled; AssertionError if it failed."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return int(out)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every module that the compiler is given from now on, in this process and with an empty cache."""
    [compiled_plan.library_for(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16)]
    seen: list[str] = []
    compiler: Callable[..., bytes] = jit.machine_code

    def counting(machine: jit.Host, text: str) -> bytes:
        seen.append(text)
        return compiler(machine, text)

    monkeypatch.setattr(jit, "machine_code", counting)
    monkeypatch.setenv("ELMAN_CACHE", str(tmp_path / "cache"))
    return seen


def kernels(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.glob("*.o")}


# A process keeps what it compiled, so every test here has a width of its own, which no other test uses.


@pytest.mark.sample(1)
@pytest.mark.parametrize(("build", "H"), [(elman.RNN, 71), (elman.GRU, 72), (elman.LSTM, 73)])
def test_one_compilation_serves_every_length_and_batch(build: Any, H: int, compiled: list[str]) -> None:
    layer = build(D, H, executor="native")
    agrees(layer, *problem(layer, 4, 2, D))
    assert len(compiled) == 2  # the loops forward and backward
    with torch.no_grad():
        layer(torch.randn(4, 2, D))
    assert len(compiled) == 3

    @given(T=st.integers(1, 12), B=st.integers(1, 12))
    def of_other_sizes(T: int, B: int) -> None:
        agrees(layer, *problem(layer, T, B, D))
        with torch.no_grad():
            layer(torch.randn(T, B, D))

    of_other_sizes()
    assert len(compiled) == 3


def test_bfloat16_is_compiled_once(compiled: list[str]) -> None:
    """Small calls of a layer in bfloat16, which are prepared, large ones, and calls under autocast share their code."""
    layer = elman.GRU(D, 83, executor="native").bfloat16()
    for B in (2, 8200):
        forward_and_backward(layer, torch.randn(1, B, D, dtype=torch.bfloat16))
    assert len(compiled) == 2
    with torch.autocast("cpu", torch.bfloat16):
        forward_and_backward(layer.float(), torch.randn(4, 2, D))
    assert len(compiled) == 2


def test_inference_compiles_no_other_loop(compiled: list[str]) -> None:
    layer = elman.GRU(D, 82, executor="native")
    with torch.no_grad():
        for T in (1, 4):
            layer(torch.randn(T, 2, D))
    assert len(compiled) == 1


@pytest.mark.parametrize("case", [case for case in CASES if "shelf" in case.name], ids=name_of)
def test_nothing_of_any_cell_is_compiled_twice(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a width that other tests compile: this one counts from the second call on."""
    first = case.build(D, 5, executor="native").double()
    x, states = problem(first, 4, 2, D)
    agrees(first, x, states)
    with torch.no_grad():
        first(x)

    def never(*_: object) -> bytes:
        raise AssertionError("compiled twice")

    monkeypatch.setattr(jit, "machine_code", never)
    monkeypatch.setattr("elman.engine.cpu.backend.NativeBackend.compile", never)
    for layer in (first, case.build(D, 5, executor="native").double()):
        for T, B in ((1, 1), (3, 7)):
            x, states = problem(layer, T, B, D)
            forward_and_backward(layer, x, states)
            with torch.no_grad():
                layer(x)


def test_another_layer_with_the_same_equations_compiles_nothing(compiled: list[str]) -> None:
    H = 74
    layers: list[Layer] = [elman.RNN(D, H, executor="native") for _ in range(2)]
    layers += [elman.RNN(D, H, batch_first=True, executor="native")]
    layers += [elman.Recurrent(elman.cells.RNN(D, H), executor="native")]
    with torch.no_grad():
        for layer in layers:
            layer(torch.randn(4, 2, D).transpose(0, 1) if layer.batch_first else torch.randn(4, 2, D))
    assert len(compiled) == 1


def test_the_upper_layers_of_a_stack_are_compiled_once(compiled: list[str]) -> None:
    with torch.no_grad():
        elman.RNN(D, 75, num_layers=4, executor="native")(torch.randn(4, 2, D))
    assert len(compiled) == 2


def test_what_differs_is_compiled(compiled: list[str]) -> None:
    H = 76
    layers = [elman.RNN(D, H, executor="native"), elman.RNN(D, H, nonlinearity="relu", executor="native")]
    layers += [elman.RNN(D, H, bias=False, executor="native"), elman.RNN(D + 1, H, executor="native")]
    layers += [elman.RNN(D, H, executor="native", dtype=torch.float64)]
    for count, layer in enumerate(layers, start=1):
        agrees(layer, *problem(layer, 4, 2, layer.input_size))
        assert len(compiled) == 2 * count


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _garbage(content: bytes) -> bytes:
    return bytes(len(content))


def _one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _empty(content: bytes) -> bytes:
    return b""


@pytest.mark.sample(2)
@pytest.mark.parametrize("damage", [_truncated, _garbage, _one_bit, _empty])
def test_a_damaged_file_is_replaced(
    damage: Callable[[bytes], bytes], compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    H = 77
    # As in a fresh process: nothing is kept but the files.
    monkeypatch.setattr("elman.engine.compiled.plan_cache._compiled", {})
    layer = elman.RNN(D, H, executor="native")
    agrees(layer, *problem(layer, 4, 2, D))
    whole = kernels(tmp_path / "cache")
    for file, content in whole.items():
        file.write_bytes(damage(content))
    for _ in range(2):
        monkeypatch.setattr("elman.engine.compiled.plan_cache._compiled", {})
        layer = deepcopy(layer)  # without prepared calls
        agrees(layer, *problem(layer, 4, 2, D))
    assert len(compiled) == 2 * len(whole)  # at first and for the damaged files; the second time they were whole
    assert kernels(tmp_path / "cache") == whole


def test_a_cache_that_is_a_file(compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        monkeypatch.setenv("ELMAN_CACHE", str(path))
        monkeypatch.setattr("elman.engine.compiled.plan_cache._compiled", {})
        layer = elman.RNN(D, 78, executor="native")
        agrees(layer, *problem(layer, 4, 2, D))
    assert len(compiled) == 4
    assert (tmp_path / "file").read_text() == "mine"


def test_a_cache_that_cannot_be_written_to(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # root may write anywhere
        monkeypatch.setattr("tempfile.mkstemp", _refused)
    layer = elman.RNN(D, 79, executor="native")
    agrees(layer, *problem(layer, 4, 2, D))
    assert len(compiled) == 2
    assert list(folder.iterdir()) == []


def _refused(*_: Any, **__: Any) -> tuple[int, str]:
    raise PermissionError("read-only")


def test_a_disk_that_is_full(compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What could not be written whole is not left behind."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    layer = elman.RNN(D, 80, executor="native")
    agrees(layer, *problem(layer, 4, 2, D))
    assert len(compiled) == 2
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [cache_folder.KEY]


@pytest.mark.slow
def test_processes_share_what_they_compile(tmp_path: Path) -> None:
    cache = tmp_path / "not/there/yet"
    counts = [compilations(process) for process in [start(cache) for _ in range(2)]]
    assert 3 <= sum(counts) <= 6  # the matrix products and two loops of the cell, in one process at least
    left = kernels(cache)
    assert len(left) == 3
    assert {file.name for file in cache.iterdir()} == {file.name for file in left} | {cache_folder.KEY}
    assert compilations(start(cache)) == 0
    assert kernels(cache) == left


def test_a_file_is_whole_while_others_write_it(tmp_path: Path) -> None:
    path, content = tmp_path / "kernels.py", bytes(20_000_000)

    def write() -> None:
        for _ in range(10):
            write_file(path, content)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or len(path.read_bytes()) == len(content)
    assert list(tmp_path.iterdir()) == [path]


# Files of others.


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A cache with a kernel in it."""
    write_signed(tmp_path / "cache" / "kernel.o", b"code")
    assert read_signed(tmp_path / "cache" / "kernel.o") == b"code"
    return tmp_path / "cache"


def test_a_cache_is_private(private: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (private, *private.iterdir())}
    assert modes == {"cache": 0o700, "kernel.o": 0o600, cache_folder.KEY: 0o600}
    assert len((private / cache_folder.KEY).read_bytes()) == cache_folder.KEY_BYTES


def test_a_forged_kernel_is_not_run(private: Path) -> None:
    path = private / "kernel.o"
    for digest in (hashlib.sha256(b"evil").digest(), bytes(32), path.read_bytes()[:32]):
        path.write_bytes(digest + b"evil")
        assert read_signed(path) is None
    write_signed(path, b"code")
    (private / "other.o").write_bytes(path.read_bytes())  # signed, but as another kernel
    assert read_signed(private / "other.o") is None
    assert read_signed(path) == b"code"


def test_a_kernel_that_others_can_write_to_is_not_run(private: Path) -> None:
    path = private / "kernel.o"
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert read_signed(path) is None
    path.chmod(0o600)
    path.rename(private / "elsewhere")
    path.symlink_to("elsewhere")
    assert read_signed(path) is None
    write_signed(path, b"new")  # replaces the link, and not the file that it leads to
    assert read_signed(path) == b"new"
    assert (private / "elsewhere").read_bytes().endswith(b"code")
    path.unlink()
    os.mkfifo(path)
    assert read_signed(path) is None


def test_a_key_that_others_can_read_is_not_used(private: Path) -> None:
    path, key = private / "kernel.o", private / cache_folder.KEY
    before = key.read_bytes()
    key.chmod(0o644)
    assert read_signed(path) is None
    write_signed(path, b"code")
    assert key.read_bytes() != before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert read_signed(path) == b"code"
    (private / "planted").write_bytes(before)
    key.unlink()
    key.symlink_to("planted")
    assert read_signed(path) is None


def test_a_key_that_was_never_written(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "_KEY_SECONDS", 0.01)
    (private / cache_folder.KEY).write_bytes(b"")
    (private / cache_folder.KEY).chmod(0o600)
    assert read_signed(private / "kernel.o") is None
    write_signed(private / "kernel.o", b"code")
    assert read_signed(private / "kernel.o") == b"code"


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_cache_that_others_can_write_to_is_not_used(private: Path, mode: int) -> None:
    private.chmod(mode)
    cache_folder._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match=f"is not used.*{private}: other users can write to it; make it private"):
        assert read_signed(private / "kernel.o") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        write_signed(private / "new.o", b"code")
        write_file(private / "new.py", b"code")
        assert read_signed(private / "kernel.o") is None
    assert {path.name for path in private.iterdir()} == {"kernel.o", cache_folder.KEY}
    private.chmod(0o700)
    assert read_signed(private / "kernel.o") == b"code"


def test_a_cache_of_another_user_is_not_used(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    cache_folder._warn.cache_clear()
    assert unsafe(private) == "it belongs to another user"
    with pytest.warns(RuntimeWarning, match="it belongs to another user"):
        assert read_signed(private / "kernel.o") is None
    link = private.with_name("link")
    link.symlink_to(private)
    assert unsafe(link) in ("it is a link that belongs to another user", "it belongs to another user")


def test_layers_compile_where_the_cache_is_not_used(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("ELMAN_CACHE", str(folder))
    layer = elman.RNN(D, 84, executor="native")
    with pytest.warns(RuntimeWarning, match="other users can write to it") as seen:
        agrees(layer, *problem(layer, 4, 2, D))
    assert len([warning for warning in seen if warning.category is RuntimeWarning]) == 1
    assert len(compiled) == 2
    assert list(folder.iterdir()) == []


class Forgotten(nn.Module):
    """A cell of which only the plan is left."""

    state_size = 81

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.tanh(h / 2)


def test_a_plan_outlives_its_cell(compiled: list[str]) -> None:
    for _ in range(2):
        layer = elman.Recurrent(Forgotten(), executor="native")
        with torch.no_grad():
            layer(torch.randn(4, 2, D))
        del layer
    assert len(compiled) == 1
