"""Image captioning: write texts about images that are read row by row.

>>> import numpy as np, tempfile
>>> x = np.random.default_rng(0).random((40, 4, 4), np.float32) / 16
>>> x[::2, :, 1] = x[1::2, 1] = 1                  # vertical bars, and horizontal bars
>>> bars = fit((x, ["it stands", "it lies"] * 20), tempfile.mkdtemp(), epochs=12, batch=4, hidden=16, lr=0.02)
>>> [row["text"] for row in bars.predict(x[:2])]
['it stands', 'it lies']
"""

from elman.tasks.caption.options import CaptionFitOptions
from elman.tasks.functions import TaskFunctions

_functions = TaskFunctions(
    "caption",
    "images (N, rows, columns) from 0 to 1 and N texts, as a tuple; or a file, as for `elman train caption`. "
    "None: scikit-learn's digits, spelled out.",
)
fit = _functions.fit(CaptionFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
