"""`elman report`: a page with all parts, safe to open, which says what is missing."""

import base64
import csv
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elman.errors import BadInput
from elman.io.files import MAKER
from elman.io.run_folder import open_run
from elman.report import page
from elman.report.page import charts
from elman.report.shown import Missing, Sample, Shown
from tests.pages import Page, colours_given
from tests.small import FLOW, Command
from tests.test_bad_input import refused

SHOWN = Shown("LSTM 12", 1234, "nats_per_token", (Sample("at will", "so be it"),), Missing("None was recorded."))
HOSTILE = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}%{y}"


@pytest.fixture(scope="session")
def whole(reported: Path) -> Page:
    return Page.at(reported)


def written(run: Path, shown: Shown = SHOWN) -> Page:
    """The page about a run, of what a task might have shown."""
    path = run / "report.html"
    page.write(open_run(run), shown, path)
    return Page.at(path)


def change(run: Path, **values: Any) -> None:
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_all_parts_are_there(whole: Page) -> None:
    names = {"losses", "rate", "arriving", "decay", "gates", "credit", "credit-row", "horizon", "growth"}
    assert whole.figures.keys() == names
    ids = {attributes.get("id") for _, attributes in whole.tags}
    links = {str(attributes["href"])[1:] for tag, attributes in whole.tags if tag == "a"}
    assert links <= ids
    missing = [tag for tag, attributes in whole.tags if attributes.get("class") == "missing"]
    assert len(missing) == 1  # where there is no JavaScript


def test_every_figure_is_one_that_plotly_takes(whole: Page) -> None:
    from plotly.graph_objects import Figure

    for figure in whole.figures.values():
        Figure(colours_given(figure))


def test_the_page_asks_nothing_of_a_network(whole: Page, reported: Path) -> None:
    asked = [attributes[key] for _, attributes in whole.tags for key in ("src", "href") if key in attributes]
    assert {str(address)[:1] for address in asked if address != "data:,"} == {"#"}
    assert "url(" not in "".join(whole.all("style"))
    policy = next(str(a["content"]) for tag, a in whole.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    scripts = whole.all("script")
    assert sum("* plotly.js v" in script for script in scripts) == 1
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert reported.stat().st_size < 6_000_000


def test_losses_are_those_of_the_table(whole: Page, reported: Path) -> None:
    with (reported.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    train, smooth, validation, baseline = whole.figures["losses"]["data"]
    assert train["y"] == pytest.approx([float(row["train_loss"]) for row in rows if row["train_loss"]], rel=1e-4)
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert validation["y"] == pytest.approx(losses, rel=1e-4)
    assert min(train["y"]) < smooth["y"][-1] < max(train["y"])
    config = json.loads((reported.parent / "config.json").read_text())
    own, other = (row["nats_per_token"] for row in config["scores"].values())
    assert baseline["y"] == pytest.approx([*config["baselines"].values()] * len(baseline["x"]), rel=1e-4)
    assert f"{min(losses):.3f} nats per token" in whole.text
    assert f"{own:.4f}" in whole.text
    assert f"{abs(own - other) / other:.1%} {'lower' if own < other else 'higher'} than the best baseline" in whole.text


def test_samples_are_what_generate_writes(whole: Page, reported: Path, elman: Command) -> None:
    samples = whole.all("pre")
    assert len(samples) == 3
    for sample, temperature in zip(samples, (0.5, 0.8, 1.1), strict=True):
        options = ["--length", 400, "--temperature", temperature, "--seed", 1]
        assert elman("generate", reported.parent, *options).out == f"{sample}\n"


def test_the_map_of_credit_has_its_rows_below_the_diagonal(whole: Page) -> None:
    heat, row = whole.figures["credit"]["data"][0], whole.figures["credit-row"]["data"][0]
    assert len(heat["y"]) == 64
    for t, norms, powers in zip(heat["y"], heat["customdata"], heat["z"], strict=True):
        assert norms[t] > 0
        assert [norm is None for norm in norms] == [k > t for k in range(len(norms))]
        assert [power is None for power in powers] == [k > t for k in range(len(norms))]
    assert row["y"] == heat["customdata"][-1]
    most = max(v for norms in heat["customdata"] for v in norms if v)
    assert heat["z"][-1][-1] == pytest.approx(math.log10(heat["customdata"][-1][-1] / most), abs=0.01)


def test_a_gradient_begins_whole_and_the_history_is_that_of_the_table(whole: Page) -> None:
    assert all(line["y"][0] == 1 for line in whole.figures["decay"]["data"][:-1])
    horizon, looked = whole.figures["horizon"]["data"]
    assert (horizon["x"], horizon["y"], set(looked["y"])) == ([1, 101, 201], [4, 7, 10], {10})
    assert whole.figures["growth"]["data"][0]["y"] == [0.31, 0.62, 0.81]
    assert "33% of the recorded updates" in whole.text


def test_lines_differ_by_more_than_colour(whole: Page) -> None:
    for figure in whole.figures.values():
        lines = [line for line in figure["data"] if line["type"] == "scatter"]
        assert len({line["line"]["dash"] for line in lines}) == len(lines)
        assert len({line["marker"]["symbol"] for line in lines}) == len(lines)


def test_what_comes_from_files_is_text_and_nothing_else(copied: Path) -> None:
    harmless = written(copied)
    config = json.loads((copied / "config.json").read_text())
    scores = {HOSTILE: next(iter(config["scores"].values())), "LSTM 12": {**config["scores"]["LSTM 12"]}}
    change(copied, data={**config["data"], "name": HOSTILE, HOSTILE: "\ud800"}, scores=scores)
    (copied / "flow.csv").write_text(FLOW.replace("recurrent.c_l0", f'"{HOSTILE}"'))
    shown = replace(SHOWN, title=HOSTILE, samples=(Sample(HOSTILE, HOSTILE),), units={"name": HOSTILE})
    found = written(copied, shown)
    assert HOSTILE in found.all("pre")
    assert found.text.count("alert(1)") > 5
    assert len(found.all("script")) == len(harmless.all("script")) == 2
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in found.tags)
    for figure in found.figures.values():
        assert not any("<" in line["name"] for line in figure["data"] if "name" in line)


def test_of_several_baselines_the_best_is_the_line_to_get_below(copied: Path) -> None:
    rows = {"LSTM 12": 1.5, "poor": 3.0, "good": 2.0, "worst": 4.0}
    scores = {name: {"nats_per_token": nats} for name, nats in rows.items()}
    change(copied, scores=scores, baselines={"poor": 3.5, "good": 2.5})
    found = written(copied)
    assert "LSTM 12: nats per token 25.0% lower than the best baseline, good." in found.text
    assert set(found.figures["losses"]["data"][-1]["y"]) == {2.5}  # on what is validated on
    change(copied, scores={"LSTM 12": {"error": 0.1}, "nearest": {"error": 0.0}}, baselines={})
    found = written(copied)
    assert "Baselines: nearest." in found.text
    assert "There is no baseline" not in found.text
    change(copied, baselines={"good": "much"})
    with pytest.raises(BadInput, match=r"config\.json: baselines\.good: expected a number, got 'much'"):
        written(copied)


def test_losses_that_are_no_numbers_are_left_out(copied: Path) -> None:
    with (copied / "metrics.csv").open("a") as file:
        file.write("999,9,nan,inf,0.1,9\n")
    assert 999 not in written(copied).figures["losses"]["data"][0]["x"]


def test_what_is_missing_is_told_in_its_place(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    change(copied, scores={"LSTM 12": config["scores"]["LSTM 12"]}, baselines={})
    found = written(copied, replace(SHOWN, samples=Missing("Nothing was drawn.")))
    for line in (
        "Nothing was drawn.",
        "None was recorded.",
        "--flow-every N",
        "There is no baseline",
        "no baseline of this run has this loss",
    ):
        assert line in found.text
    assert found.figures.keys() == {"losses", "rate"}
    (copied / "metrics.csv").write_text((copied / "metrics.csv").read_text().splitlines()[0] + "\n")
    (copied / "flow.csv").write_text(FLOW.splitlines()[0] + "\n")
    found = written(copied)
    assert "No losses yet" in found.text
    assert "flow.csv has no rows" in found.text


def test_of_an_unfinished_run(elman: Command, copied: Path) -> None:
    change(copied, ended=None, scores=None)
    (copied / "model.safetensors").unlink()
    said = elman("report", copied, "--out", copied / "other.html")
    assert (said.code, said.err) == (0, "")
    assert str(copied / "other.html") in said.out
    found = Page.at(copied / "other.html")
    assert found.text.count("The training has not saved a model yet; to resume: elman train text --resume") == 2
    assert "No scores yet: the training has not ended" in found.text
    assert f"not yet; resume with: elman train text --resume {copied}" in found.text


def test_of_a_run_that_was_killed_before_its_first_step(elman: Command, copied: Path) -> None:
    change(copied, ended=None, scores=None)
    for name in ("model.safetensors", "checkpoints/last.ckpt", "metrics.csv"):
        (copied / name).unlink()
    found = written(copied)
    assert "No losses yet" in found.text
    assert f"not yet; resume with: elman train text --resume {copied}" in found.text


def test_of_a_run_whose_weights_are_gone(elman: Command, copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    assert elman("report", copied).code == 0
    found = Page.at(copied / "report.html")
    assert found.text.count("The weights of this run, model.safetensors, do not exist.") == 2
    assert "yet" not in found.text.split("The run")[0]
    assert "--resume" not in found.text


@pytest.mark.slow
def test_of_a_text_that_is_gone_or_another(elman: Command, copied: Path, tmp_path: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    change(copied, data=config["data"] | {"files": [str(tmp_path / "gone.txt")]})
    assert elman("report", copied).code == 0
    assert "training data cannot be read" in Page.at(copied / "report.html").text
    (tmp_path / "gone.txt").write_text("another text")
    assert elman("report", copied).code == 0
    assert "gone.txt has changed since this run was trained on it" in Page.at(copied / "report.html").text


DAMAGES: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("no losses", lambda run: (run / "metrics.csv").unlink(), ["metrics.csv", "does not exist"]),
    ("words", lambda run: (run / "metrics.csv").write_text("step,epoch,train_loss,val_loss,lr,seconds\n1,1,two,,,\n"),
     ["metrics.csv", "row 1", "train_loss", "a number", "'two'"]),
    ("columns", lambda run: (run / "metrics.csv").write_text("a,b\n1,2\n"), ["metrics.csv", "'step'", "a, b"]),
    ("bytes", lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe\0\0"), ["metrics.csv", "a table"]),
    ("history", lambda run: (run / "flow.csv").write_text("step,name\n1,h\n"), ["flow.csv", "'steps'"]),
    ("weights", lambda run: (run / "model.safetensors").write_bytes(b"none"), ["model.safetensors"]),
    ("scores", lambda run: change(run, scores=[3]), ["config.json", "scores: expected an object, got [3]"]),
    ("unlike scores", lambda run: change(run, scores={"a": {"b": 1}, "c": {"d": 1}}), ["config.json", "'scores'"]),
    ("ended", lambda run: change(run, ended=True), ["config.json", "ended: expected an object, got True"]),
    ("task", lambda run: change(run, task="poem"), ["config.json", "'task'", "text", "'poem'"]),
    ("no run", lambda run: (run / "config.json").unlink(), ["a run folder"]),
]  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize(("name", "damage", "parts"), DAMAGES, ids=[case[0] for case in DAMAGES])
def test_a_damaged_run(
    elman: Command, copied: Path, name: str, damage: Callable[[Path], object], parts: list[str]
) -> None:
    config = json.loads((copied / "config.json").read_text())
    change(copied, data=config["data"] | {"files": ["gone"]})  # no backward pass: it takes seconds
    damage(copied)
    old = f'<meta name="generator" content="{MAKER}">the old one'
    (copied / "report.html").write_text(old)
    refused(elman("report", copied), *parts)
    assert (copied / "report.html").read_text() == old


def test_the_same_run_gives_the_same_page(copied: Path) -> None:
    written(copied)
    first = (copied / "report.html").read_bytes()
    written(copied)
    assert (copied / "report.html").read_bytes() == first


def test_a_long_training_makes_no_long_page() -> None:
    values = [float(n) for n in range(100_000)]
    line = charts.lines("a", "a", "a", charts.Axis("x"), charts.Axis("y"), [charts.Line("a", values, values)])
    assert len(line.figure["data"][0]["x"]) <= charts.MAX_POINTS


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from elman.cli import run; run(['report', '--help']); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "Write a report of a run" in said
    assert not set(said.split()) & {"torch", "jinja2", "plotly", "polars", "numpy"}
