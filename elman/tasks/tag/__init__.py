"""Sequence labelling: a label for each word of a sentence.

>>> import tempfile
>>> nouns, verbs = ["cat", "dog", "bird", "fish", "cow"], ["sees", "bites", "likes", "hears"]
>>> sentences = [["the", noun, verb] for noun in nouns for verb in verbs]
>>> tagger = fit((sentences, [["DET", "NOUN", "VERB"]] * 20), tempfile.mkdtemp(), epochs=20, batch=4, hidden=16)
>>> [row["label"] for row in tagger.predict(["the fish likes the dog"])]
['DET', 'NOUN', 'VERB', 'DET', 'NOUN']
"""

from elman.tasks.functions import TaskFunctions
from elman.tasks.tag.options import TagFitOptions

_functions = TaskFunctions(
    "tag",
    "sentences as lists of (word, label) pairs, as from NLTK's `tagged_sents()`; or a tuple of N sentences, lists of "
    "words, and N lists of labels; or files, as for `elman train tag`.",
)
fit = _functions.fit(TagFitOptions)
evaluate = _functions.evaluate()
predict = _functions.predict(has_labels=True)
load = _functions.load()
