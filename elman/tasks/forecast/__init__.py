"""Forecasts of time series with prediction intervals.

>>> import numpy as np, tempfile
>>> tide = np.sin(np.arange(200) * np.pi / 6)
>>> small = {"season": 12, "horizon": 3, "context": 24, "hidden": 8, "epochs": 6, "batch": 16, "lr": 0.02}
>>> found = fit(tide, tempfile.mkdtemp(), **small)
>>> [row["time"] for row in found.predict()]
['200', '201', '202']
>>> found.scores["GRU 8"]["mase"] < found.scores["naive"]["mase"]
True
"""

from elman.tasks.forecast.options import ForecastFitOptions
from elman.tasks.functions import TaskFunctions

_functions = TaskFunctions(
    "forecast",
    "a data frame, or a dict of columns, with `time=` and `target=` for the names of these; or a series of "
    "pandas; an index that says times is the column of time where `time=` is its name or is not given; or "
    "values (N,), or (N, series), as an array or tensor, whose stamps are 0, 1, 2 and so on; or files, as for "
    "`elman train forecast`.",
)
fit = _functions.fit(ForecastFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
