"""Forecast what follows a CSV file with an exported forecaster: python forecast_csv.py FOLDER FILE

FOLDER is from `elman export RUN`; the rows of FILE are evenly spaced in time. This needs numpy and onnxruntime; neither
torch nor elman.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession

folder, file = map(Path, sys.argv[1:])
about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
model, settings = InferenceSession(folder / "model.onnx"), about["settings"]
with file.open(newline="", encoding="utf-8") as opened:
    rows = list(csv.DictReader(opened))[-settings["past"] :]
values = np.full((1, settings["past"]), np.nan)  # unknown before the first row
values[0, settings["past"] - len(rows) :] = [float(row[settings["target"]] or "nan") for row in rows]
before, last = np.array([row[settings["time"]] for row in rows[-2:]], "datetime64[us]")
future = last + (last - before) * np.arange(1, settings["horizon"] + 1)
time = last + (last - before) * np.arange(1 - settings["context"], settings["horizon"] + 1)
inputs = {"values": values, "time": time[None].astype(np.int64)}
names = {spec["name"] for spec in about["parts"]["model"]["inputs"]}  # no times where the calendar is no input
[quantiles] = model.run(["quantiles"], {name: value for name, value in inputs.items() if name in names})
print("time", *(f"quantile {level}" for level in settings["quantiles"]), sep=",")
for moment, row in zip(future.astype("datetime64[s]"), quantiles[0], strict=True):
    print(moment, *(f"{value:.6g}" for value in row), sep=",")
