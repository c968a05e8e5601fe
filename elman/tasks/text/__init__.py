"""Language modelling: predict the next character, word or byte pair.

>>> import io, tempfile
>>> file = io.StringIO("please stay at home. " * 200)
>>> language = fit(file, tempfile.mkdtemp(), hidden=32, bptt=16, batch=8, epochs=10, lr=0.02)
>>> language.generate("please ", length=12, temperature=0)
'please stay at home'
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.text.options import TextFitOptions

_functions = TaskFunctions(
    "text",
    "a text file, as a path or an open file; or a text as `io.StringIO(text)`. None: Python's reference manual.",
)
fit = _functions.fit(TextFitOptions)
evaluate = _functions.evaluate()
generate = _functions.generate()
load = _functions.load()
