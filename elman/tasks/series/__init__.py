"""Classification and regression of sequences of numbers: sensors, gestures, voice, physiology.

>>> import numpy as np, tempfile
>>> phase = np.random.default_rng(0).uniform(0, 6, (40, 1))
>>> slow, fast = np.sin(np.arange(20) / 3 + phase[::2]), np.sin(np.arange(20) + phase[1::2])
>>> waves = np.concatenate((slow, fast)).astype(np.float32)
>>> small = {"hidden": 8, "filters": 8, "members": 1, "epochs": 20, "batch": 4, "lr": 0.01}
>>> reader = fit((waves, ["slow"] * 20 + ["fast"] * 20), tempfile.mkdtemp(), **small)
>>> [row["label"] for row in reader.predict([slow[0], fast[0]])]
['slow', 'fast']
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.series.options import SeriesFitOptions

_functions = TaskFunctions(
    "series",
    "series and their labels or numbers, as a tuple: an array (N, T, C) of N series of T steps and C channels, (N, T) "
    "of one channel, or a list of arrays (T, C) of any lengths, NaN where values are missing; and N labels, or N "
    "numbers as floats. Or a data frame with one row per step; or files, as for `elman train series`.",
)
fit = _functions.fit(SeriesFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict(has_labels=True)
load = _functions.load()
