"""Text classification, word by word.

>>> import tempfile
>>> texts = [f"{what} {thing}" for thing in "abcdefghij" for what in ("a good", "quite good", "a bad", "quite bad")]
>>> reader = fit((texts, ["+", "+", "-", "-"] * 10), tempfile.mkdtemp(), epochs=15, batch=4, hidden=16)
>>> [row["label"] for row in reader.predict(["a good reader", "quite bad"])]
['+', '-']
"""

from elman.tasks.classify.options import ClassifyFitOptions
from elman.tasks.functions import TaskFunctions

_functions = TaskFunctions(
    "classify",
    "N texts and N labels, as a tuple of lists; or files, as for `elman train classify`.",
)
fit = _functions.fit(ClassifyFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict(has_labels=True)
load = _functions.load()
