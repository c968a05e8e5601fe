"""Translation of sentences.

>>> import itertools, tempfile
>>> words = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}
>>> pairs = [(" ".join(k), " ".join(words[w] for w in k)) for k in itertools.permutations(words, 3)]
>>> numbers = fit(pairs, tempfile.mkdtemp(), epochs=30, batch=4, hidden=16, tokens="word", lr=0.02)
>>> [row["translation"] for row in numbers.predict(["drei eins vier"])]
['three one four']
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.translate.options import TranslateFitOptions

_functions = TaskFunctions(
    "translate",
    "a list of pairs of texts; a tuple of a list of texts and a list of translations; or files, as for `elman "
    "train translate`.",
)
fit = _functions.fit(TranslateFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict()
load = _functions.load()
