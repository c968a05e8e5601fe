"""elman train series, from series to a run, and the run put to use."""

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from elman.baselines.linear import Ridge
from elman.cli import run
from elman.data.batches import ByLength
from elman.data.examples import Example
from elman.tasks import load, series
from elman.tasks.series.codec import SeriesCodec
from elman.tasks.series.data import read as read_series
from elman.tasks.series.model import SeriesBatch, SeriesNetwork, StepNorm, warped
from elman.tasks.series.options import SeriesOptions
from tests.small import Command, files
from tests.test_bad_input import refused

SMALL = ["--hidden", "6", "--filters", "8", "--members", "1", "--batch", "8", "--epochs", "12", "--lr", "0.02"]
TINY: dict[str, Any] = {"hidden": 4, "filters": 4, "members": 1, "epochs": 1, "batch": 8}


def waves(count: int = 40, channels: int = 2, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Series of several lengths: slow waves and fast ones."""
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        at = np.arange(draw.integers(12, 20))[:, None]
        wave = np.sin(at / (1 + 2 * (i % 2)) + draw.uniform(0, 6, channels))
        found.append((10 + 3 * wave + draw.normal(0, 0.1, wave.shape)).astype(np.float32))
    return found, ["slow" if i % 2 else "fast" for i in range(count)]


def ts(path: Path, values: list[np.ndarray], targets: list[Any], header: str = "@classLabel true fast slow") -> Path:
    """A .ts file."""
    lines = [
        ":".join(",".join("?" if np.isnan(x) else f"{x:.4f}" for x in channel) for channel in part.T) + f":{target}"
        for part, target in zip(values, targets, strict=True)
    ]
    path.write_text("\n".join(["# made for a test", "@problemName waves", header, "@data", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ts(tmp_path_factory.mktemp("series") / "waves.ts", *waves())


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "series", str(file), "--out", str(path), "--flow-every", "5", *SMALL]) == 0
    return path


def scores(path: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((path / "config.json").read_text())["scores"]
    return found


def test_a_run_of_series(elman: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    assert {"config.json", "codec.json", "split.csv", "baseline.safetensors", "confusion.png"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (32, 4, 4)
    assert [list(row) for row in scores(trained).values()] == [["accuracy", "macro_f1", "nats_per_series"]] * 3
    assert list(scores(trained))[1:] == ["1-NN DTW", "logistic regression on statistics"]
    output = elman("evaluate", trained, file)
    assert output.code == 0
    assert "1-NN DTW" in output.out
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg", "--gradients"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "nats per series" in (trained / "report.html").read_text()


def test_predictions(elman: Command, trained: Path, tmp_path: Path) -> None:
    """Of a file with labels, and of one without."""
    values, labels = waves(8, seed=1)
    predictions = []
    for header, targets in (("@classLabel true fast slow", labels), ("@classLabel false", None)):
        path = ts(tmp_path / "new.ts", values, labels, header)
        if targets is None:
            path.write_text("\n".join(line.rpartition(":")[0] if ":" in line else line
                                      for line in path.read_text().splitlines()))  # fmt: skip
        output = elman("predict", trained, path, "--format", "jsonl")
        assert output.code == 0, output.err
        predictions.append([json.loads(line) for line in output.out.splitlines()])
    assert predictions[0] == predictions[1]
    assert [row["label"] for row in predictions[0]] == labels
    assert predictions[0][0]["input"] == f"{tmp_path / 'new.ts'}: line 5"
    again = load(trained).predict(values)
    assert [row["probability"] for row in again] == pytest.approx(
        [row["probability"] for row in predictions[0]], abs=1e-3
    )


def test_numbers(elman: Command, tmp_path: Path) -> None:
    """Regression: intervals, metrics, a plot, and the baselines that are loaded again."""
    draw = np.random.default_rng(0)
    values = [draw.normal(level, 1, (10, 1)).astype(np.float32) for level in draw.uniform(0, 9, 60)]
    levels = [float(part.mean()) for part in values]
    path = ts(tmp_path / "levels.ts", values, levels, "@targetLabel true")
    output = elman("train", "series", path, "--out", tmp_path / "run", *SMALL)
    assert output.code == 0, output.err
    assert "numbers from" in output.err
    rows = scores(tmp_path / "run")
    assert [list(row) for row in rows.values()] == [["mae", "rmse", "r2", "scaled_pinball", "coverage"]] * 3
    assert rows["ridge regression on statistics"]["r2"] > 0.9
    assert {"predictions.png"} == {name for name in files(tmp_path / "run") if name.endswith("s.png")} - {"curves.png"}
    trained = load(tmp_path / "run")
    assert trained.score((values, levels)) == -next(iter(trained.evaluate((values, levels)).values()))["mae"]
    row = trained.predict(values[:1])[0]
    assert row["low"] <= row["value"] <= row["high"]
    with pytest.raises(AttributeError, match="expected a task with classes"):
        _ = trained.classes_
    refused(elman("evaluate", tmp_path / "run", ts(tmp_path / "w.ts", *waves(4, 1))), "expected a number as in the")
    assert elman("report", tmp_path / "run").code == 0


def test_resuming_changes_nothing(elman: Command, file: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--schedule", "constant"]
    assert elman("train", "series", file, "--out", whole, *SMALL, *more, "--epochs", "6").code == 0
    assert elman("train", "series", file, "--out", parted, *SMALL, *more, "--epochs", "2.5").code == 0
    assert elman("train", "series", "--resume", parted, "--epochs", "6").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


def test_one_series_in_all_formats(tmp_path: Path) -> None:
    """.ts, .arff of several channels and of one, tables, data frames, folders and arrays give the same numbers."""
    values, labels = waves(6)
    values = [part.round(4) for part in values]
    values[0][3, 1] = np.nan
    ts(tmp_path / "a.ts", values, labels)
    lines = [
        "'" + "\\n".join(",".join("?" if np.isnan(x) else f"{x:.4f}" for x in channel) for channel in part.T) + f"',{y}"
        for part, y in zip(values, labels, strict=True)
    ]
    head = "@relation w\n@attribute w relational\n @attribute a1 numeric\n@end w\n@attribute class {fast,slow}\n@data\n"
    (tmp_path / "a.arff").write_text(head + "\n".join(lines))
    rows = [
        (f"s{i}", t, y, *(None if np.isnan(x) else float(f"{x:.4f}") for x in step))
        for i, (part, y) in enumerate(zip(values, labels, strict=True))
        for t, step in enumerate(part)
    ]
    frame = pl.DataFrame(rows[::-1], schema=["who", "when", "what", "x", "y"], orient="row")
    frame.write_csv(tmp_path / "a.csv")
    for i, (part, y) in enumerate(zip(values, labels, strict=True)):
        (tmp_path / "f" / y).mkdir(parents=True, exist_ok=True)
        np.savetxt(tmp_path / "f" / y / f"{i}.csv", part, "%.4f", delimiter=",")
    columns: dict[str, Any] = {"series": "who", "time": "when", "label": "what", "channels": ["x", "y"]}
    read = {
        "ts": read_series([tmp_path / "a.ts"], SeriesOptions()),
        "arff": read_series([tmp_path / "a.arff"], SeriesOptions()),
        "table": read_series([tmp_path / "a.csv"], SeriesOptions(**columns)),
        "frame": read_series(frame, SeriesOptions(**columns)),
        "folder": read_series([tmp_path / "f"], SeriesOptions()),
        "arrays": read_series((values, labels), SeriesOptions()),
    }
    expected = sorted((y, part.tobytes()) for part, y in zip(values, labels, strict=True))
    for name, examples in read.items():
        assert sorted((e.target, e.input.tobytes()) for e in examples) == expected, name


@pytest.mark.slow
def test_a_table_at_the_command_line(elman: Command, tmp_path: Path) -> None:
    """Its channels are found by name, and a table without labels is predicted from."""
    values, labels = waves(30, 2)
    with (tmp_path / "a.csv").open("w") as table, (tmp_path / "b.csv").open("w") as other:
        writers = csv.writer(table), csv.writer(other)
        writers[0].writerow(["id", "t", "x", "y", "kind"])
        writers[1].writerow(["y", "id", "x", "t"])
        for i, (part, kind) in enumerate(zip(values, labels, strict=True)):
            for t, (x, y) in enumerate(part.tolist()):
                writers[0].writerow([i, t, x, y, kind])
                writers[1].writerow([y, i, x, t])
    columns = ["--series", "id", "--time", "t", "--label", "kind"]
    assert elman("train", "series", tmp_path / "a.csv", *columns, "--out", tmp_path / "run", *SMALL).code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"]["channels"] == ["x", "y"]
    outputs = [elman("predict", tmp_path / "run", tmp_path / name, "--format", "csv") for name in ("a.csv", "b.csv")]
    assert outputs[0].code == 0, outputs[0].err
    assert outputs[0].out == outputs[1].out


def test_features() -> None:
    """Scaling by channel and by series, missing values, and steps that are averaged."""
    x = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 7.0], [7.0, 9.0]], np.float32)
    train = [Example(x, "a"), Example(x + 1, "b")]
    codec = SeriesCodec.fit(train, SeriesOptions())
    assert codec.mean == pytest.approx([np.nanmean(x[:, 0]) + 0.5, 7.5])
    known = [[1, 0], [1, 1], [0, 1], [1, 1]]
    filled = np.array([[1, 5], [3, 5], [5, 7], [7, 9]])
    np.testing.assert_allclose(codec.steps(train[0]), np.hstack(((filled - codec.mean) / codec.std, known)), rtol=1e-5)
    codec = SeriesCodec.fit(train, SeriesOptions(scale="series"))
    features = codec.steps(train[0])
    assert features.shape == (4, 8)
    np.testing.assert_allclose(features[:, :2].std(0), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(features, codec.steps(Example(x, "b")))
    level = codec.steps(train[1])[0, 2:4] - features[0, 2:4]
    np.testing.assert_allclose(level, 1 / np.array(codec.std), rtol=1e-5)
    assert SeriesCodec.fit(train, SeriesOptions(steps=2)).steps(train[0]).shape == (2, 4)


@pytest.mark.parametrize(("steps", "kernels"), [(24, [9, 5, 3]), (100, [15, 7, 3]), (1000, [21, 11, 5])])
def test_kernels_are_longer_for_longer_series(steps: int, kernels: list[int]) -> None:
    options = SeriesOptions()
    codec = SeriesCodec.fit(
        [Example(np.random.default_rng(T).normal(size=(T, 1)), "ab"[T % 2]) for T in (steps, steps - 1)], options
    )
    model = SeriesNetwork(**codec.model_args(options))
    convolutions = [module for module in model.members[0].modules() if isinstance(module, torch.nn.Conv1d)]
    assert [convolution.kernel_size[0] for convolution in convolutions] == kernels


@pytest.mark.parametrize("filters", [0, 4])
def test_a_ragged_batch_is_its_series_one_by_one(filters: int) -> None:
    torch.manual_seed(0)
    model = SeriesNetwork(3, 3, 4, "gru", 5, filters=filters, stride=2, members=2).eval()
    x, lengths = torch.randn(11, 4, 3), torch.tensor([11, 1, 6, 9])
    together = model(x * (torch.arange(11)[:, None] < lengths)[..., None], lengths)
    alone = [model(x[:length, b : b + 1], torch.tensor([length]))[0] for b, length in enumerate(lengths.tolist())]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)
    assert together.exp().sum(1).tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_normalization_sees_valid_steps_alone() -> None:
    """In training: what is behind the end of a series changes nothing."""
    x, lengths = torch.randn(9, 3, 2), torch.tensor([9, 4, 6])
    other = torch.where((torch.arange(9)[:, None] < lengths)[..., None], x, 100.0)
    outputs = []
    for steps in (x, other):
        torch.manual_seed(1)
        model = SeriesNetwork(2, 2, 3, "gru", 4, filters=4)
        outputs.append((model.train()(steps, lengths), *(part for _, part in sorted(model.state_dict().items()))))
    for a, b in zip(*outputs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_normalization_is_that_of_torch(dtype: torch.dtype) -> None:
    """Of the valid steps as one long batch; of bfloat16, sums are those of float32."""
    T, B, F = 300, 4, 3
    is_step = (torch.arange(T) < torch.tensor([T, 1, 77, 200])[:, None]).unsqueeze(1)
    results = list[list[torch.Tensor]]()
    for module in (StepNorm(F), torch.nn.BatchNorm1d(F)):
        module = module.to(torch.promote_types(dtype, torch.float32))
        x = torch.randn(B, F, T, generator=torch.Generator().manual_seed(0)).add(3).to(dtype).requires_grad_()
        y = (module(x, is_step) if isinstance(module, StepNorm) else module(x.mT[is_step[:, 0]])).to(dtype)
        steps = y.mT[is_step[:, 0]] if y.dim() == 3 else y
        (steps.sin() ** 2).sum().backward()
        assert x.grad is not None
        results.append([steps, x.grad, *(part.double() for part in module.state_dict().values())])
    for actual, expected in zip(*results, strict=True):
        tolerance = 1e-7 if dtype == torch.float64 else 2e-2
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_the_loss_of_an_ensemble_adds_up_over_parts_of_a_batch() -> None:
    """In training, where each member leaves out its own fold; a part may have none of its series."""
    torch.manual_seed(0)
    model = SeriesNetwork(2, 2, 3, "gru", 4, members=2).train()
    x, lengths, targets = torch.randn(9, 6, 2), torch.tensor([9, 4, 6, 9, 2, 7]), torch.tensor([0, 1, 2, 0, 1, 2])
    folds = torch.tensor([0, 0, 1, 1, 5, 1])
    whole = model.loss(SeriesBatch(x, lengths, targets, folds))
    halves = [[0, 1], [2, 3, 4, 5]]
    parts = [model.loss(SeriesBatch(x[:, rows], lengths[rows], targets[rows], folds[rows])) for rows in halves]
    torch.testing.assert_close(sum(loss for loss, *_ in parts), whole[0])
    assert sum(count for _, count, _ in parts) == whole[1] == 6


def test_copies_of_a_series_are_in_other_batches() -> None:
    """Of few series, an epoch has each several times, though batches are sorted by length."""
    lengths = np.random.default_rng(0).integers(3, 30, 36)
    batches = ByLength(lengths, 16, lambda numbers, epoch: numbers, seed=1, passes=9)
    for epoch in (0, 1):
        indices = [batches[epoch * len(batches) + i] for i in range(len(batches))]
        assert np.bincount(np.concatenate(indices)).tolist() == [9] * 36
        assert sum(len(set(batch)) for batch in indices) > 0.95 * 36 * 9


def test_warped_series() -> None:
    """They keep their lengths and their order, and lie within the series."""
    torch.manual_seed(0)
    lengths = torch.tensor([9, 5, 1])
    x = torch.arange(9.0)[:, None, None].expand(9, 3, 2).contiguous()
    y = warped(x, lengths, 0.3)
    assert y.shape == x.shape
    for b, length in enumerate(lengths.tolist()):
        part = y[:length, b, 0]
        assert (part.diff() >= 0).all()
        assert part[0] >= 0
        assert part[-1] <= length - 1
        assert torch.equal(y[:, b, 0], y[:, b, 1])
    assert y[0].std() > 0
    torch.testing.assert_close(warped(x, lengths, 0.0)[:5, 1], x[:5, 1])


BAD: dict[str, tuple[str, list[str]]] = {
    "no data": ("@problemName x\n", ["expected a header that ends with @data, got none"]),
    "no rows": ("@classLabel true a b\n@data\n", ["expected at least one series after @data, got none"]),
    "no header": ("1,2,3\n", ["line 1: expected a header", "got '1,2,3'"]),
    "no labels": ("@classLabel false\n@data\n1,2\n", ["@classLabel true or @targetLabel true"]),
    "text": ("@classLabel true a b\n@data\n1,x:a\n", ["line 3: channel 1: value 2: expected a number, got 'x'"]),
    "infinite": ("@classLabel true a b\n@data\n1,inf:a\n", ["value 2: expected a finite number", "'inf'"]),
    "no label": ("@classLabel true a b\n@data\n1,2:\n", ["line 3: expected a label, got ''", "--skip-bad"]),
    "no colon": ("@classLabel true a b\n@data\n1,2\n", ["line 3: expected values, a colon, and a label"]),
    "no values": ("@classLabel true a b\n@data\n?,?:a\n", ["line 3: expected at least one step with a value"]),
    "no number": ("@targetLabel true\n@data\n1,2:a\n", ["line 3: target: expected a number, got 'a'"]),
    "channels": (
        "@classLabel true a b\n@data\n1:1:a\n" + "".join(f"{i}:a\n{i}.5:b\n" for i in range(9)),
        ["expected the same channels in all series, got 2 in"],
    ),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("case", BAD)
def test_bad_files(elman: Command, tmp_path: Path, case: str) -> None:
    text, parts = BAD[case]
    (tmp_path / "a.ts").write_text(text)
    refused(elman("train", "series", tmp_path / "a.ts", "--out", tmp_path / "run"), *parts)


def test_bad_data(elman: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run", *SMALL]
    refused(elman("train", "series", *out), "series: expected DATA: .ts or .arff files")
    refused(elman("train", "series", tmp_path / "none.ts", *out), "none.ts", "does not exist")
    (tmp_path / "a.csv").write_text("id,x,kind\n1,2,a\n1,3,b\n2,4,a\n")
    table = ["train", "series", tmp_path / "a.csv", *out]
    refused(elman(*table), "--series: expected the column that identifies the series, one of id, x, kind")
    refused(elman(*table, "--series", "id"), "(--label) or of numbers to predict (--target)", "got neither")
    refused(elman(*table, "--series", "id", "--label", "kind"), "series '1': expected one label in 'kind', got a, b")
    refused(elman(*table, "--series", "who", "--label", "kind"), "--series: expected one of the columns id, x, kind")
    folds = ["train", "series", file, *out, "--hold-out", "folds"]
    refused(elman(*folds, "--members", 11), "--hold-out folds: expected --members from 2 to 10, got 11")
    assert elman(*folds[:-2], "--members", 11, "--epochs", 1).code == 0  # a part is held out
    shutil.rmtree(tmp_path / "run")
    other = ts(tmp_path / "other.ts", *waves(4, channels=1))
    refused(elman("predict", trained, other), "line 5: expected 2 channels as in the training, got 1")
    refused(elman("predict", trained, "none"), "'none', which is no file")
    unknown = ts(tmp_path / "u.ts", waves(2)[0], ["fast", "medium"])
    refused(elman("evaluate", trained, unknown), "expected a label of the training data, fast, slow; got 'medium'")
    bad = tmp_path / "bad.ts"
    bad.write_text(file.read_text() + "1,2:x,3:slow\n")
    refused(elman("train", "series", bad, *out), "line 45: channel 2: value 1: expected a number, got 'x'")
    output = elman("train", "series", bad, "--skip-bad", *out)
    assert output.code == 0
    assert "skipped 1 unusable example" in output.err


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((4, 2, 2, 2)), ["a", "b"] * 2), r"series 1: expected a series \(steps, channels\).*\(2, 2, 2\)"),
        ((["x"] * 4, ["a", "b"] * 2), r"series 1: expected a series \(steps, channels\)"),
        ((np.full((4, 3), np.inf), ["a", "b"] * 2), "series 1: expected finite numbers that float32 can hold, got inf"),
        ((np.full((4, 3), np.nan), ["a", "b"] * 2), "series 1: expected at least one step with a value"),
        ((np.ones((4, 3)), [1.0, 2.0, np.nan, 3.0]), "series 3: expected a number as the target, got none"),
        ((np.ones((4, 3)), ["a", None, "b", "b"]), "series 2: expected a label, got none"),
    ],
)
def test_bad_arrays(data: Any, message: str, tmp_path: Path) -> None:
    from elman.errors import BadInput

    with pytest.raises(BadInput, match=message):
        series.fit(data, tmp_path / "run", **TINY)


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    """Arrays of one and of several channels, tensors, lists with None, numbers and labels that are integers."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(24, 6, 2)).astype(np.float32), np.arange(24) % 2
    trained = series.fit((torch.from_numpy(x), torch.from_numpy(y)), tmp_path / "a", **TINY)
    assert trained.classes_.tolist() == ["0", "1"]
    assert trained.predict_proba(x[:3]).shape == (3, 2)
    batch = trained.batch(x[:3])
    assert trained.model(batch.steps, batch.lengths).shape == (3, 2)
    numbers = series.fit((x[..., 0], y.astype(float)), tmp_path / "b", **TINY)
    assert numbers.predict([[1.0, None, 2.0], [1.0]])[1].keys() == {"input", "value", "low", "high"}
    shutil.rmtree(tmp_path / "b")


def test_ridge_regression_predicts_each_row_from_the_others() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(12, 4)) * [1, 5, 0, 0.1] + 3
    Y = X[:, :2] @ random.normal(size=(2, 2)) + random.normal(size=(12, 2)) + 100
    ridge, left_out = Ridge.fit(X, Y)
    mean, std = X.mean(0), np.where(X.std(0) > 0, X.std(0), 1)
    X = (X - mean) / std
    errors = []
    for alpha in np.logspace(-3, 3, 10):
        rows = []
        for i in range(12):
            A, y = np.delete(X, i, 0), np.delete(Y, i, 0)
            A1 = np.c_[A, np.ones(11)]  # the intercept is not shrunk
            w = np.linalg.solve(A1.T @ A1 + alpha * np.diag([1, 1, 1, 1, 0]), A1.T @ y)
            rows.append(np.append(X[i], 1) @ w)
        errors.append((np.square(rows - Y).mean(), np.array(rows), alpha))
    _, expected, alpha = min(errors, key=lambda row: row[0])
    np.testing.assert_allclose(left_out, expected, rtol=1e-6)
    weights = np.linalg.solve(X.T @ X + alpha * np.eye(4), X.T @ (Y - Y.mean(0)))
    np.testing.assert_allclose(ridge.weights * std, weights.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ridge.predict(X * std + mean), X @ weights + Y.mean(0), rtol=1e-6)
    assert Ridge.fit(X[:1], Y[:1])[0].predict(X).tolist() == [Y[0].tolist()] * 12


def test_mini_rocket_is_loaded_with_the_run(tmp_path: Path) -> None:
    pytest.importorskip("aeon", exc_type=ImportError)
    for targets in (waves()[1], np.linspace(1, 2, 40)):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        model = series.fit((waves()[0], targets), tmp_path / "run", minirocket=True, **TINY)
        assert list(model.scores)[2] == "MiniRocket"
        again = load(model.run.path).evaluate((waves(seed=1)[0], targets))
        np.testing.assert_equal(dict(again), dict(model.evaluate((waves(seed=1)[0], targets))))
        if isinstance(targets, list):
            assert again["MiniRocket"]["accuracy"] > 0.9


@pytest.mark.skipif(find_spec("aeon") is not None, reason="needs aeon to be missing")
def test_the_missing_package_is_named(elman: Command, file: Path, tmp_path: Path) -> None:
    result = elman("train", "series", file, "--minirocket", "--out", tmp_path / "run")
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "elman: --minirocket needs aeon: pip install 'elman[aeon]'",
    )
    assert not (tmp_path / "run").exists()
