"""Language models: the next character, word or byte pair.

>>> import io, tempfile
>>> said = io.StringIO("please stay at home. " * 200)
>>> found = fit(said, tempfile.mkdtemp(), hidden=32, bptt=16, batch=8, epochs=10, lr=0.02)
>>> found.generate("please ", length=12, temperature=0)
'please stay at home'
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.text.options import TextFitOptions

_functions = TaskFunctions(
    "text",
    "the file of a text, by its path or opened; a text itself as `io.StringIO(text)`. None: Python's reference manual.",
)
fit = _functions.fit(TextFitOptions)
evaluate = _functions.evaluate()
generate = _functions.generate()
load = _functions.load()
