"""Time series as people have them: numbers of other countries, names of series, files of values alone, pandas."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from elman.data.frames import Frame
from elman.data.tables import read_table, rows
from elman.data.validation import is_table
from elman.errors import BadInput
from elman.tasks.forecast import fit
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Series, ends_to_csv, read_ends, read_series
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.task import TASK
from tests.small import Command

OPTIONS = ForecastOptions(time="t", target="y", season=4, horizon=3, context=12)
SMALL: dict[str, Any] = {"season": 8, "horizon": 4, "context": 16, "hidden": 4, "epochs": 2, "batch": 16, "lr": 0.02}
DAYS = [date(2024, 1, 1) + timedelta(i) for i in range(12)]


def written(path: Path, head: str, cells: list[str], end: str = "\n") -> Path:
    path.write_bytes("".join(f"{line}{end}" for line in [head, *cells]).encode())
    return path


def read(path: Path, **options: Any) -> list[Series]:
    return read_series([path], OPTIONS.model_copy(update=options))


NUMBERS: dict[str, tuple[str, Callable[[int], str], str | None, Callable[[int], float]]] = {
    "comma": ("t;y", lambda i: f"{i},5", ",", lambda i: i + 0.5),
    "comma and points": ("t;y", lambda i: f"1.00{i % 10},5", ",", lambda i: 1000.5 + i % 10),
    "points alone": ("t;y", lambda i: f"1.00{i % 10}", ",", lambda i: 1000 + i % 10),
    "no point": ("t;y", lambda i: f"-{i}", ",", lambda i: -i),
    "quoted": ("t,y", lambda i: f'"1.000,{i}"', ",", lambda i: float(f"1000.{i}")),
    "comma in the header": ("t;y, Grad", lambda i: f"{i},5", ",", lambda i: i + 0.5),
    "narrow spaces": ("t;y", lambda i: f"1\u202f000,{i % 10}", ",", lambda i: 1000 + i % 10 / 10),
    "apostrophes": ("t;y", lambda i: f"1'000.{i % 10}", None, lambda i: 1000 + i % 10 / 10),
    "thousands": ("t,y", lambda i: f'"1,00{i % 10}.5"', None, lambda i: 1000.5 + i % 10),
    "millions": ("t,y", lambda i: f'"1,000,00{i % 10}"', None, lambda i: 1e6 + i % 10),
    "thousands, told": ("t,y", lambda i: f'"1,00{i % 10}"', ".", lambda i: 1000 + i % 10),
    "point, as ever": ("t;y", lambda i: f"1.00{i % 10}", None, lambda i: 1 + i % 10 / 1000),
    "exponents": ("t,y", lambda i: f"{i}e-1", None, lambda i: i / 10),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_other_countries(tmp_path: Path, kind: str) -> None:
    head, cell, decimal, value = NUMBERS[kind]
    mark = head[1]
    path = written(tmp_path / "a.csv", head, [f"{day}{mark}{cell(i)}" for i, day in enumerate(DAYS)])
    (found,) = read(path, decimal=decimal, target=head[2:])
    np.testing.assert_allclose(found.values, [value(i) for i in range(len(DAYS))], rtol=1e-12)


@pytest.mark.parametrize(
    ("head", "cell", "message"),
    [
        ("t;y", lambda i: f"{i},5", "with a decimal point, got '0,5' in row 1; pass --decimal ,"),
        ("t;y", lambda i: "1.000" if i % 3 else "2,5", "got '2,5' in row 1; pass --decimal ,"),
        ("t;y", lambda i: "1.000.000" if i % 3 else "1.000", r"got '1\.000\.000' in row 2; pass --decimal ,"),
        ("t;y;x", lambda i: f"1.000;{i},5", "got '1.000' in row 1, whose point may .*'x' has decimal commas: '0,5'"),
        ("t,y", lambda i: '"1,000"', "got '1,000' in row 1, whose comma may be a decimal comma"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_points_and_commas_that_can_mean_two_things(
    tmp_path: Path, head: str, cell: Callable[[int], str], message: str, skip_bad: bool
) -> None:
    """1.000 is not 1 without a word, and nothing is dropped as unreadable."""
    path = written(tmp_path / "a.csv", head, [f"{day}{head[1]}{cell(i)}" for i, day in enumerate(DAYS)])
    with pytest.raises(BadInput, match=message):
        read(path, skip_bad=skip_bad)


def test_a_comma_where_there_is_none_is_a_bad_number(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "t;y", ["2024-01-01;1,5", "2024-01-02;2.5"])
    with pytest.raises(BadInput, match=r"got '2\.5' in row 2"):
        read(path, decimal=",")


IDS = ["007", "7", "01", "1", "1.1", "1.10", "1e3", "1000", "true", 'Ω, "x"']


@pytest.mark.parametrize("ids", [["007", "7", "01", "1"], ["1.1", "1.10"], IDS], ids=["whole", "parts", "all"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_ids_of_series_are_texts(tmp_path: Path, suffix: str, ids: list[str]) -> None:
    """In the table, in the file of ends, and in forecasts."""
    cells = [(name, str(day), float(i)) for i, name in enumerate(ids) for day in DAYS]
    table = pl.DataFrame(cells, schema=["id", "t", "y"], orient="row")
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        table.write_csv(path)
    elif suffix == ".jsonl":
        table.write_ndjson(path)
    else:
        table.write_parquet(path)
    options = OPTIONS.model_copy(update={"series": "id", "step": "1d"})
    found = read_series([path], options)
    assert [one.name for one in found] == ids
    assert [one.values[0] for one in found] == list(range(len(ids)))
    (tmp_path / "ends.csv").write_text(ends_to_csv(found, options))
    assert [one.name for one in read_ends(tmp_path / "ends.csv", options)] == ids


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("more", ["", "{0}", "{0}{0},{0},{0}"])
def test_line_ends_and_empty_lines(tmp_path: Path, end: str, more: str) -> None:
    path = written(tmp_path / "a.csv", "t,y", [f"{day},{i}" for i, day in enumerate(DAYS)], end)
    path.write_bytes(path.read_bytes() + more.format(end).encode())
    (found,) = read(path)
    assert found.values.tolist() == list(range(len(DAYS)))
    assert len(list(rows(path, {"--time": "t"}))) == len(DAYS) + 4 * bool("," in more)  # at the end they are no rows


def test_rows_that_quotation_marks_join_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"{day},{i},{{}}".format('"5' if i == 3 else '5"' if i == 6 else "6") for i, day in enumerate(DAYS)]
    path = written(tmp_path / "a.csv", "t,y,inches", cells)
    assert np.isnan(read(path)[0].values).sum() == 3
    assert "quoted cells have 3 line breaks, so that 12 lines are 9 rows" in capsys.readouterr().err
    assert read(path, quote="none")[0].values.tolist() == list(range(12))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "options", "name"),
    [
        ("load\n1.5\n2.5\n3.5\n", {}, "load"),
        ("load\n1.5\n2.5\n3.5\n", {"target": "load"}, "load"),
        ("1.5\n2.5\n3.5\n\n", {}, "value"),
        ("load\n1,5\n2,5\n3,5\n", {"decimal": ","}, "load"),
        ("1,5\n2,5\n3,5\n", {"decimal": ","}, "value"),
    ],
)
def test_a_file_of_values_alone(tmp_path: Path, text: str, options: dict[str, Any], name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    settled, read_already = TASK.resolve_options([path], ForecastOptions().model_copy(update=options))
    (found,) = read_series([path], settled)
    assert found.values.tolist() == read_already[0].values.tolist()
    assert (found.name, found.values.tolist()) == (name, [1.5, 2.5, 3.5])
    assert [found.stamp(0), found.stamp(3)] == ["0", "3"]


@pytest.mark.parametrize("first", ["NaN", "NA", "null"])
def test_values_alone_may_begin_with_a_missing_one(tmp_path: Path, first: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{first}\n1.5\n2.5\n")
    (found,) = read_series([path], TASK.resolve_options([path], ForecastOptions())[0])
    assert (found.name, found.stamp(0), found.values.tolist()) == ("value", "1", [1.5, 2.5])


def test_values_of_several_series_without_stamps(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,y", [f"{name},{i}" for i in range(5) for name in ("01", "1")])
    found = read(path, time=None, series="id")
    assert [(one.name, one.values.tolist(), one.stamp(5)) for one in found] == [
        ("01", [0, 1, 2, 3, 4], "5"),
        ("1", [0, 1, 2, 3, 4], "5"),
    ]


def test_a_table_without_named_columns_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "t,y", ["2024-01-01,1"])
    for options, missing in (({"time": None}, "--time"), ({"target": None}, "--target")):
        with pytest.raises(BadInput, match=f"{missing}: expected the name of a column, one of t, y; got none"):
            read(path, **options)


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
def test_a_workbook_is_named_as_such(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"PK\3\4")
    for reading in (lambda: read_table(path), lambda: list(rows(path, {"--time": "t"}))):
        with pytest.raises(BadInput, match="expected CSV, TSV, JSON lines or Parquet, got a workbook; save its sheet"):
            reading()


def tide(count: int = 160, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).normal(0, 0.1, count)
    return 10 + 3 * np.sin(np.arange(count) * np.pi / 4) + noise


STAMPS = np.datetime64("2024-02-20", "s") + np.arange(160) * np.timedelta64(3, "h")


def indexed(index: Any, name: str | None = None, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, pd.Index(index, name=name))


def series_by(index: Any, name: str | None = None) -> Any:
    return pd.Series(tide(len(index)), index, name=name)


def test_a_series_of_pandas(tmp_path: Path) -> None:
    oil = fit(series_by(STAMPS, "oil"), tmp_path / "oil", **SMALL)
    assert [row["time"] for row in oil.predict()][:2] == ["2024-03-11 00:00:00", "2024-03-11 03:00:00"]
    assert oil.predict()[0]["series"] == "oil"
    assert oil.predict(series_by(STAMPS)) == oil.predict()  # without its name
    assert oil.predict(indexed(STAMPS, oil=tide(), other=tide())) == oil.predict()
    assert oil.evaluate(series_by(STAMPS[:100])).keys() == oil.scores.keys()


@pytest.mark.parametrize(
    ("data", "options", "stamp"),
    [
        (indexed(STAMPS, y=tide(), x=tide()), {"target": "y"}, "2024-03-11 00:00:00"),
        (indexed(STAMPS, "when", y=tide()), {"time": "when", "target": "y"}, "2024-03-11 00:00:00"),
        (indexed(STAMPS, y=tide()), {}, "2024-03-11 00:00:00"),
        (series_by(np.arange(160)), {}, "160"),
        (series_by(pd.period_range("2024-02", periods=160, freq="M")), {}, "2037-06-01"),
        (
            series_by(pd.date_range("2024-02-20", periods=160, freq="3h", tz="Europe/Berlin")),
            {},
            "2024-03-11 00:00:00+01:00",
        ),
        (series_by(pd.date_range("2024-02-20T00+05:30", periods=160, freq="3h")), {}, "2024-03-11 00:00:00+05:30"),
        (series_by(np.arange(1800, 1960)), {}, "1960"),
    ],
)
def test_the_index_is_the_time(data: Any, options: dict[str, Any], stamp: str) -> None:
    settled, _ = TASK.resolve_options(data, ForecastOptions(**options))
    (found,) = read_series(data, settled)
    assert found.stamp(160) == stamp


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a data frame, columns by name, a series of pandas or an array of numbers, got an empty list"),
        ([("2024-01-01", 1.0)], "expected a data frame, .*, got list"),
        (indexed(np.arange(160), y=tide(), x=tide()), "--time: expected the name of a column, one of y, x"),
        (indexed(STAMPS, "when", y=tide(), x=tide()), "--target: expected the name of a column"),
    ],
)
def test_what_is_no_series(data: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_series(data, ForecastOptions())


def hours(values: Any, begin: datetime = datetime(2024, 2, 20)) -> pl.DataFrame:
    stamps = [begin + timedelta(hours=3 * i) for i in range(len(values))]
    return pl.DataFrame({"t": stamps, "y": values})


def test_the_forecasts_of_a_series_do_not_depend_on_the_unit_of_another_one(tmp_path: Path) -> None:
    """Also where both have the same name: those of a thousandth are a thousandth."""
    large = fit(hours(1000 * tide()), tmp_path / "run", time="t", target="y", **SMALL)
    small, others = large.predict(hours(tide(120, 1))), large.predict(hours(1000 * tide(120, 1)))
    for one, other in zip(small, others, strict=True):
        assert [1000 * one[name] for name in ("low", "median", "high")] == pytest.approx(
            [other[name] for name in ("low", "median", "high")], rel=1e-4
        )
    assert all(5 < row["median"] < 15 for row in small)
    scores, same = large.evaluate(hours(tide(120, 1))), large.evaluate(hours(1000 * tide(120, 1)))
    for title, row in scores.items():
        assert row == pytest.approx(same[title], rel=1e-4)
    assert 0.5 < scores["seasonal naive"]["mase"] < 1.5
    again = large.evaluate(hours(1000 * tide()))  # the series of the training is still in its own unit
    assert again["naive"]["mase"] == pytest.approx(large.scores["naive"]["mase"], rel=0.1)


@pytest.mark.slow
def test_covariates_in_another_unit_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = hours(tide()).with_columns(wind=tide(seed=2))
    run = fit(table, tmp_path / "run", time="t", target="y", covariates="wind", **SMALL)
    capsys.readouterr()
    run.predict(table)
    run.evaluate(table)
    assert capsys.readouterr().err == ""
    run.predict(table.with_columns(wind=1000 * table["wind"]))
    run.evaluate(table.with_columns(wind=1000 * table["wind"]))
    said = capsys.readouterr().err
    assert said.count("y: wind has the mean 1e+04, but 10 with") == 2


def test_a_series_is_known_again_by_its_values(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.csv" for name in "ab"]
    for path, size in zip(paths, (1, 1000), strict=True):
        hours(size * tide(seed=size)).write_csv(path)
    run = fit(paths, tmp_path / "run", time="t", target="y", **SMALL)
    loaded, codec = run._loaded, run.codec
    assert isinstance(codec, ForecastCodec)

    def learned(data: Any) -> set[str | None]:
        return {example.input.series.learned for example in TASK.read_other(loaded, data)}

    assert learned(paths) == {"a", "b"}
    assert learned(paths[:1]) == {"a"}  # whose name alone is that of its column
    assert learned(hours(1000 * tide(seed=1000))) == {"b"}
    tail = hours(tide(seed=1))[100:]
    assert learned(tail) == {"a"}
    assert learned(hours(tide(60, 9), datetime(2024, 3, 15))) == {None}  # another one, or a later part
    assert learned(hours(2 * tide(seed=1))) == {None}
    (example, *_) = TASK.read_other(loaded, tail)
    assert codec.scale(example.input.series) == codec.scales["a"]
    one, both = run.predict([str(paths[0])]), run.predict(list(map(str, paths)))
    assert one == both[:4]
    assert one[0]["series"] == "a"


def test_another_file_for_the_test_part_has_its_own_unit(tmp_path: Path) -> None:
    run = fit(hours(1000 * tide()), tmp_path / "run", time="t", target="y", test=hours(tide(120, 1)), **SMALL)
    assert 0.5 < run.scores["seasonal naive"]["mase"] < 1.5
    assert all(row["median"] > 1000 for row in run.predict())  # behind what it was trained on


@pytest.mark.parametrize(("parts", "horizon"), [((), 2), (("test",), 2), (("validation", "test"), 20)])
def test_the_horizon_is_a_season_if_no_part_is_drawn(parts: tuple[str, ...], horizon: int) -> None:
    frames: dict[str, Any] = {part: hours(tide(80, 1)) for part in parts}
    options = ForecastOptions(time="t", target="y", season=20).model_copy(update=frames)
    resolved, _ = TASK.resolve_options(hours(tide(40)), options, None)
    assert resolved.horizon == horizon


def test_the_command_line_tells_what_was_found(elman: Command, tmp_path: Path) -> None:
    cells = [f"{stamp};{f'{value:.3f}'.replace('.', ',')}" for stamp, value in zip(STAMPS, tide(), strict=True)]
    path = written(tmp_path / "a.csv", "t;y", cells)
    small = ["--context", 16, "--hidden", 4, "--epochs", 1]
    said = elman(
        "train", "forecast", path, "--time", "t", "--target", "y", "--decimal", ",", *small, "--out", tmp_path / "r"
    )
    assert said.code == 0, said.err
    assert "step 3h (the most common distance between stamps), season 8 (a day), horizon 8 (one season)" in said.err
    assert (
        elman("predict", tmp_path / "r", path, "--format", "csv").out
        == elman("predict", tmp_path / "r", "--format", "csv").out
    )
    said = elman("train", "forecast", path, "--decimal", ";", "--out", tmp_path / "s")
    assert (said.code, "expected . or ,; got ';'" in said.err) == (2, True)


def test_a_table_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = list[Path]()

    def counted(path: Path, *rest: Any, **options: Any) -> pl.DataFrame:
        paths.append(path)
        return read_table(path, *rest, **options)

    monkeypatch.setattr("elman.tasks.forecast.rows.read_table", counted)
    cells = [f"{value:.6f}" for value in np.sin(np.arange(160))]
    train, test = written(tmp_path / "a.csv", "y", cells), written(tmp_path / "b.csv", "y", cells[:60])
    options = ForecastOptions(season=8, context=16, test=[str(test)])  # the horizon and the columns are left open
    told = list[str]()
    prepared = TASK.prepare([train], options, 0, tell=told.append)
    assert paths == [train, test] or paths == [test, train]
    assert (prepared.options.target, prepared.options.horizon) == ("y", 8)
    assert told == ["step 1 (the most common distance between stamps), season 8 (--season), horizon 8 (one season), "
                    "context 16 (--context)"]  # fmt: skip


def test_notes_on_a_table_are_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"{day},{i % 4}" for i, day in enumerate(date(2024, 1, 1) + timedelta(i) for i in range(160))]
    path = written(tmp_path / "a.csv", "t,y", [*cells[80:], *cells[:80]])
    TASK.prepare([path], ForecastOptions(time="t", target="y", horizon=3, context=12), 0)
    assert capsys.readouterr().err.count("the rows were not in time order") == 1


ZONES = [None, "Europe/Berlin"]
FRAMES: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda table: table,
    "lazy": lambda table: table.lazy(),
    "pandas": lambda table: pd.DataFrame({name: pd.Series(table[name].to_list()) for name in table.columns}),
    "pandas with nullable types": lambda table: pd.DataFrame(table.to_dict(as_series=False)).convert_dtypes(),
    "pyarrow": lambda table: pa.Table.from_pydict(table.to_dict(as_series=False)),
    "columns by name": lambda table: table.to_dict(as_series=False),
}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("library", FRAMES)
def test_any_data_frame_is_the_same_table(library: str, zone: str | None) -> None:
    table = hours(tide()).with_columns(
        pl.col("t").dt.replace_time_zone(zone),
        y=pl.when(pl.col("y") > 12).then(None).otherwise(pl.col("y")),
        n=pl.Series([None, *range(1, 160)]),
        name=pl.Series([f"{i % 2:02}" for i in range(160)]),
    )
    options = OPTIONS.model_copy(update={"covariates": "n", "series": "name"})
    for own, other in zip(read_series(table, options), read_series(FRAMES[library](table), options), strict=True):
        assert (own.name, own.stamp(3)) == (other.name, other.stamp(3))
        np.testing.assert_array_equal(own.values, other.values)
        np.testing.assert_array_equal(own.covariates, other.covariates)
    columns = {"--a": "n", "--b": "name"}
    assert is_table(FRAMES[library](table))
    assert list(rows(Frame(FRAMES[library](table)), columns)) == table.select("n", "name").rows()
