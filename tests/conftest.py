"""Law 7: fresh memory is poison. And every test begins from one seed."""

import base64
import gc
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tensors of the tests are on the CPU, which triton refuses

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from elman import tasks
from elman.cells import REGISTRY, by_name
from elman.cli import run
from elman.engine.cpu import prepared_call
from elman.engine.cpu.invocation import ScratchMemory
from elman.engine.torch_private import mkldnn_has_bfloat16
from elman.tasks import bootstrap
from tests.selection import covering
from tests.small import FLOW, SMALL, Command, text, unchecked

# The same examples on every machine and in every run.
hypothesis.settings.register_profile("elman", derandomize=True, database=None, deadline=None, max_examples=10)
hypothesis.settings.load_profile("elman")

# What the tests compute is small: more threads would wait for each other, and tests already run side by side.
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
torch.set_num_threads(1)

# What tests write need not survive a power loss. Those of processes that are killed run with fsync (`server.py`).
os.fsync = lambda fd: None

# Whoever starts the tests may ignore it, as nohup does; tests of signals, and the processes that they start, do not.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# These ask no executor: what runs the tests a second time, with the loop alone, needs them once.
ONCE = [
    "tasks",
    "test_command.py",
    "flow/test_command.py",
    "test_bad_input.py",
    "test_config.py",
    "test_convergence.py",
    "test_distributed.py",
    "test_env.py",
    "test_exit_codes.py",
    "test_extras.py",
    "test_init_from.py",
    "test_output_options.py",
    "test_promises.py",
    "test_resume.py",
    "test_runs.py",
    "test_structure.py",
    "test_streamed.py",
    "test_killed.py",
    "test_damaged_runs.py",
    "test_on_nan.py",
    "test_text.py",
    "test_weights.py",
    *(f"bptt/test_stream{of}.py" for of in ("", "_processes", "_resumed", "_sequences", "_state")),
    "browser",
    "export",
    "serve",
    "tune",
    "gpu",
    "test_docstrings.py",
    "test_draw.py",
    "test_draw_command.py",
    "test_files.py",
    "test_explain_page.py",
    "test_report.py",
    "test_repository.py",
    "test_sklearn.py",
    "test_ngram.py",
    "test_kenlm.py",
    "test_docs.py",
    "test_new_task.py",
    "test_textbook.py",
    "test_torch_executor.py",
    "test_strangers.py",
    "fuzz",
]
# The equations of these cells are checked in test_oracle.py and test_shelf.py; elsewhere the cells that are left have
# every kind of operation, state and output that these have.
COVERED_BY_OTHERS = (
    "antisymmetric_rnn|coupled_lstm|ind_rnn|layer_norm_gru|mgu|min_lstm|multiplicative_lstm|peephole_lstm|projected_lstm"
    "|recurrent_highway|reset_before_gru"
)
# Combinations that found nothing that others do not find: `make test` leaves them out, `make test-all` runs them.
THOROUGH = re.compile(
    rf"(?<!test_oracle\.py::)(?<!test_shelf\.py::)test_\w+\[.*(?<![a-z_])({COVERED_BY_OTHERS})(?![a-z_])"
    r"|test_shelf\.py::test_outputs_and_gradients.*(loop|Sizes\(T=1|float64)"
    r"|test_oracle\.py::test_outputs_and_gradients.*(H=1\)|T=1,|B=1,|float64-).*(float64|no bias)"
    r"|test_oracle\.py::test_any_sizes.*float64"
    r"|test_gradcheck\.py::test_gradients\[.*(-loop|H=1\)|T=1,)"  # the loop's are autograd's, of torch's operations
    r"|test_gradcheck\.py::test_gradients\[Recurrent-shelf.*Sizes\(T=3"
    r"|test_gradcheck\.py::test_gradients_of_any_sizes\[Recurrent-shelf"
    r"|test_split\.py::test_split\[.*(loop|float64)"
    # Those that depend on the dtype are in test_special_numbers.
    r"|test_operations\.py::test_native_is_loop.*float32"
    # torch.export takes a second or more of each layer.
    r"|test_exported\.py::test_any_batch_and_time\[(?!LSTM-even-non|GRU-ragged-non|learned-even-strict)"
    r"|test_exported\.py::test_a_state_from_without"
    r"|test_torch_export\.py::(test_aot_inductor|test_cells\[(?!lstm-scan|gru-operator))"
    r"|test_torch_export\.py::test_(odd_cells\[(?!a buffer)|a_layer_is_one_operator\[reference)"
    r"|test_torch_nn\.py::test_numbers.*(no bias-.*no batch|no state.*-no batch)"
    r"|test_torch_nn\.py::test_numbers\[[\w-]+-[23]-.*(no bias|no batch)"
    # The lines are read by one function; tasks differ in the files that a line names.
    r"|test_predict_lines\.py::test_rows_before\w+\[(?!train_(classify|image))"
    r"|test_prepared_calls\.py::test_the_loops_gradients\[(?!rnn|gru|lstm).*-(1-5|1-64|2-1)\]"
    r"|test_command\.py::test_every_cell_and_kind_of_token_learns\[(?!rnn-char|gru-word|lstm-)"
    r"|test_options\.py::test_executors_agree\[\{'weight_drop.*-(?!RNN|GRU|LSTM)\w+\]"
    r"|test_options\.py::test_a_stack_of_any_cell\[(?!RNN|GRU|LSTM|SLSTM)"
    r"|test_threads\.py::test_every_cell_of_the_shelf\[(?!rnn|gru|lstm)"
    # Programs for another machine are linked and emulated.
    r"|native/test_aarch64\.py::test_(numbers|ragged_rows|two_threads|matrices|copies)"
    r"|native/test_bfloat16\.py::test_outputs_and_gradients\[(RNN|Recurrent)"
    r"|test_truths\.py::test_(the_terms_add|credit_is).*-loop"
    r"|test_truths\.py::test_(the_terms_add|credit_is)\w+\[(?!LSTM|own)"
    r"|test_modes\.py::test_\w+(checkpointed|truncated|windows).*-loop"
    r"|test_step\.py::test_a_stream_is_the_sequence.*(-3-|float64)"
    r"|gpu/\w+\.py::test_operations_of_cells\[(?!all at once)"  # which has every operation
    r"|gpu/test_compiles\.py::test_odd_cells\[(?!three|an output|a matrix made|halves|blocks|a state that stays)"
    r"|gpu/test_compiles\.py::test_shared_memory_is_little\[(?!lstm)"
    r"|gpu/laws\.py::test_(outputs_and_gradients\[Recurrent|(split|several_tiles|finite_differences\w*)\[.*relu)"
    r"|gpu/laws\.py::test_odd_cells\[\w+-(?!three|an output|a matrix made|halves|blocks|a state that stays)"
    r"|gpu/laws\.py::test_(finite_differences|a_gradient_of_a_gradient)(\[|$)"
    r"|gpu/laws\.py::test_\w+\[Recurrent-shelf-(rnn|gru|lstm)\]"  # others test them as layers
    r"|gpu/laws\.py::test_(ragged_is_row_by_row\[whole-Recurrent|(ragged|finite)\w+\[.*layer_norm)"
    r"|gpu/laws\.py::test_(several_tiles|ragged_is_row_by_row)\[\w+-GRU"
    r"|gpu/laws\.py::test_one_graph.*\[(?!GRU-plain-aot_eager|Recurrent-packed-aot_eager|Own-lengths-aot_eager)"
    r"|test_attributes\.py::test_modes_set_by_assignment\[(?!recurrent_dropout).*triton"
    r"|test_attributes\.py::test_(pruned|a_parametrization).*triton"
    r"|test_recording\.py::test_(names|a_ragged|windows|what_is|the_model|the_optimizer).*triton"
    # Every task is resumed by the same code, which test_resume.py and test_killed.py test.
    r"|tasks/test_\w+\.py::test_resuming_changes_nothing"
    r"|native/test_bfloat16\.py::test_the_same_bits\w+\[ELMAN_VECTOR_BYTES-16"
    # Processes that take a second for each kill; changes of each kind of each file, which few draw.
    r"|test_killed\.py::test_at_any_moment\[\w+-20\]"
    r"|test_damaged_runs\.py::test_any_change_is_noticed\[.*-([4-9]|1\d)\]"
    r"|test_damaged_runs\.py::test_no_damaged_checkpoint\w+\[([8-9]|[1-3]\d)\]"
    r"|test_on_nan\.py::test_a_skipped_step\w+\[(sgd|rmsprop)-(inf|gradient)\]"
    r"|test_bfloat16\.py::test_1_double_precision\[Recurrent-(?!shelf-layer_norm_lstm).*-(loop|torch)-"
    r"|test_bfloat16\.py::test_[349]_\w+\[(RNN|GRU-Truncated).*-(loop|torch)-"
    # Several processes, each of which imports torch.
    r"|test_distributed\.py::test_(every_task|a_killed|a_signal|processes_end|torchrun|two_machines|a_training|sharded)"
    r"|test_streamed\.py::test_(two_processes|memory|other_|resumed\w+\[(classify-11|text-50)|text\[(word|char))"
    # torch.onnx and torch.export take seconds of each part.
    r"|export/test_c\.py::test_int8\[(?!lstm)"
    r"|export/test_c\.py::test_weights_in_a_file\[(?!language_model)"
    r"|tasks/test_export\.py::test_(texts_are_classified|a_forecast_of_a_table|the_folder_alone)"
    # Processes that serve take seconds to start; the tasks share the code of the service.
    r"|serve/test_server\.py::test_sigterm"
    r"|serve/test_openapi\.py::test_the_service_is_as_its_schema_says\[(?!image)"
    r"|serve/test_predict\.py::test_(uploaded_files|predictions_are\w+)\[(?!image|forecast|tag)"
    # Processes that are killed, and processes of a cluster.
    r"|tune/test_trials\.py::test_a_killed|tune/test_ray\.py::test_(trials|failures|pruned)"
    r"|fuzz/test_fuzz\.py::\w+\[[\w.]+-plot"
    r"|test_devices\.py::test_bfloat16_learns_as_float32\[(?!text)"
    r"|test_linking\.py"
    # `make docs` runs the examples of all pages and of what trains by the command, and builds the site.
    r"|test_docs\.py|elman/(serve|tune)/|elman/tasks/(\w+/)?(__init__|api)\.py|test_new_task\.py|test_examples\.py|test_site\.py"
)
FEW_COMBINATIONS = 6  # of a test, which all run
# The torch executor's refusal, and torch's own error.
NO_LSTM = re.compile("where torch.lstm fails|primitive descriptor for the LSTM")
# Cells for which the torch executor has no function, in the names of tests.
NOT_OF_TORCH = re.compile(
    "|".join([name for name in REGISTRY if "torch_function" not in vars(by_name(name))])
    + "|TwoWidths|TwoLayers|OwnOutput|ByName"
)
PACKAGES_ONCE = [Path(tasks.__path__[0]).parent / room for room in ("serve", "sklearn", "tasks", "tune")]
# Importing it registers a device with torch and changes modules of elman: `test_devices.py` runs it in its own process.
collect_ignore = ["other_device.py", *(ONCE if os.environ.get("ELMAN_NATIVE") == "0" else [])]
if find_spec("triton") is None:
    collect_ignore += ["gpu/laws.py", "gpu/test_compiles.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run all combinations")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the torch executor's refusals, and, unless asked for, slow tests and what `THOROUGH` names.

    Of tests with many combinations of parameters, unless asked for, each value runs once for each executor, or as many
    combinations as a marker says. Without the native executor, leave out tests that name another, and the examples of
    what trains by the command: they ran with it.
    """
    out = {item for item in items if _executor(item) == "torch" and NOT_OF_TORCH.search(item.nodeid)}
    if not config.getoption("--thorough", default=False):
        out |= {item for item in items if item.get_closest_marker("slow") or THOROUGH.search(item.nodeid)}
        out |= _combinations([item for item in items if item not in out])
        out |= _beyond_samples([item for item in items if item not in out])
    if os.environ.get("ELMAN_NATIVE") == "0":
        out |= {item for item in items if _executor(item) in ("loop", "torch") or _is_in(PACKAGES_ONCE, item)}
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


def _combinations(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the combinations of parameters whose values all occur in others, of tests that have many."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        if hasattr(item, "callspec"):
            groups.setdefault((item.nodeid.partition("[")[0], _executor(item)), []).append(item)
    out = set[pytest.Item]()
    for group in groups.values():
        if len(group) > FEW_COMBINATIONS:
            out |= set(group).difference(covering([(item, item.callspec.indices.items()) for item in group]))
    return out


def _beyond_samples(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return the combinations of parameters of marked tests that are not in a sample; the first always is."""
    groups: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        if marker := item.get_closest_marker("sample"):
            groups.setdefault((item.nodeid.partition("[")[0], *marker.args), []).append(item)
    out = set[pytest.Item]()
    for (name, count), (_, *others) in groups.items():
        out |= {*others}.difference(random.Random(name).sample(others, min(count - 1, len(others))))
    return out


def pytest_collection_finish() -> None:
    """Collect garbage among the objects of a test, not among those of thousands of collected tests as well."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Keep imported packages out of later garbage collections, which would take a third of a second each."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect(1)
        gc.freeze()


def _is_in(folders: list[Path], item: pytest.Item) -> bool:
    return any(folder in item.path.parents for folder in folders)


def _executor(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("executor")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip tests of an executor with a cell that it does not run: `test_torch_executor.py` says which it must run."""
    try:
        return (yield)
    except RuntimeError as error:
        if _executor(item) == "torch" and str(error).startswith("the torch executor supports the cells of torch.nn"):
            pytest.skip(str(error))
        if not mkldnn_has_bfloat16() and NO_LSTM.search(str(error)):
            pytest.skip("torch.lstm fails under autocast on this CPU")
        raise


# A PNG of one pixel.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")
# Tests that look at pictures. Those that only find a file there take a third of a second less for each.
LOOKS_AT_PICTURES = re.compile(
    r"test_(draw\w*|pictures|files|given|transcribe_parts|curves|strangers|report|hub|docs|new_task|examples)\.py|browser|fuzz|elman/"
)


@pytest.fixture(autouse=True)
def results_are_rough(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of a test draw pictures of one pixel, and take few samples for the margins of scores.

    Those of fixtures that several tests share draw whole ones, and take all.
    """
    if request.config.getoption("--thorough", default=False) or LOOKS_AT_PICTURES.search(request.node.nodeid):
        return
    from matplotlib.figure import Figure

    monkeypatch.setattr(bootstrap, "RESAMPLES", 3)
    save = Figure.savefig

    def save_pixel(figure: Figure, file: Any, format: str | None = None, **options: Any) -> None:
        if format == "png" and "metadata" not in options:  # by which elman knows its own pictures
            file.write(PIXEL)
        else:
            save(figure, file, format=format, **options)

    monkeypatch.setattr(Figure, "savefig", save_pixel)


Allocator = Callable[..., NDArray[Any]]


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_memory_is_poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What nobody wrote to is NaN, and a NaN passes no comparison."""
    monkeypatch.setattr(np, "empty", poisoned(np.empty))
    monkeypatch.setattr(np, "empty_like", poisoned(np.empty_like))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    take = ScratchMemory.take

    def take_poison(memory: ScratchMemory, size: int) -> torch.Tensor:
        block = take(memory, size)
        with torch.inference_mode():  # in which the call may have been that allocated it
            return block.fill_(255)  # NaN in every dtype

    monkeypatch.setattr(ScratchMemory, "take", take_poison)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def poisoned(allocate: Allocator) -> Allocator:
    def allocate_poison(*args: Any, **kwargs: Any) -> NDArray[Any]:
        fresh = allocate(*args, **kwargs)
        if np.issubdtype(fresh.dtype, np.inexact):
            fresh.fill(np.nan)
        return fresh

    return allocate_poison


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One more with each call that was prepared."""
    seen = list[int]()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            seen.append(1)
            return call(*arguments)

        return counting

    for kind in (prepared_call.InferenceCall, prepared_call.DifferentiableCall):
        monkeypatch.setattr(kind, "__call__", counted(kind.__call__))
    return seen


@pytest.fixture
def elman(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text(text())
    return path


@pytest.fixture(scope="session")
def trained(file: Path) -> Path:
    """A finished run, not to be changed."""
    path = file.parent / "run"
    assert run(["train", "text", str(file), "--epochs", "3", "--out", str(path), *SMALL]) == 0
    return path


@pytest.fixture(scope="session")
def reported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about a finished run with a history of the gradient; the run's folder is around it."""
    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("reported") / "run"))
    (path / "flow.csv").write_text(FLOW)
    assert run(["report", str(path)]) == 0
    return path / "report.html"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A finished run to do things to: without digests, by which its files would be refused."""
    return unchecked(shutil.copytree(trained, tmp_path / "copy"))
