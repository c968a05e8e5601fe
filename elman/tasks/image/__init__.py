"""Image classification: each row or column of an image is a time step.

>>> import numpy as np, tempfile
>>> x = np.random.default_rng(0).random((40, 4, 4), np.float32) / 16
>>> x[::2, :, 1] = x[1::2, 1] = 1                  # vertical bars, and horizontal bars
>>> bars = fit((x, ["upright", "lying"] * 20), tempfile.mkdtemp(), epochs=30, batch=4)
>>> [row["label"] for row in bars.predict(x[:2])]
['upright', 'lying']
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.image.options import ImageFitOptions

_functions = TaskFunctions(
    "image",
    "images (N, rows, columns), or (N, rows, columns, 3) in colour, from 0 to 1 and N labels, as a tuple of arrays or "
    "tensors; or files, as for `elman train image`. None: scikit-learn's digits.",
)
fit = _functions.fit(ImageFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict(has_labels=True)
load = _functions.load()
