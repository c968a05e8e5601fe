"""Time series forecasting with prediction intervals.

>>> import numpy as np, tempfile
>>> tide = np.sin(np.arange(200) * np.pi / 6)
>>> small = {"season": 12, "horizon": 3, "context": 24, "hidden": 8, "epochs": 6, "batch": 16, "lr": 0.02}
>>> forecaster = fit(tide, tempfile.mkdtemp(), **small)
>>> [row["time"] for row in forecaster.predict()]
['200', '201', '202']
>>> forecaster.scores["GRU 8"]["mase"] < forecaster.scores["naive"]["mase"]
True
"""

from elman.tasks.forecast.options import ForecastFitOptions
from elman.tasks.functions import TaskFunctions

_functions = TaskFunctions(
    "forecast",
    "a data frame, or a dict of columns, with the column names in `time=` and `target=`; or a pandas Series. A "
    "datetime index is the time column if `time=` names it or is not given. Or values (N,) or (N, series), as an "
    "array or tensor, whose time stamps are 0, 1, 2, ...; or files, as for `elman train forecast`.",
)
fit = _functions.fit(ForecastFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
