"""Write text with an exported language model: python write_text.py FOLDER PROMPT [TOKENS] [TEMPERATURE]

FOLDER is from `elman export RUN`. This needs numpy, onnxruntime and tokenizers; neither torch nor elman.
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

folder, prompt = Path(sys.argv[1]), sys.argv[2]
count, temperature = [*map(float, sys.argv[3:]), *(200.0, 0.8)[len(sys.argv) - 3 :]]
about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
tokenizer, decoder = Tokenizer.from_file(str(folder / "tokenizer.json")), DecodeStream()
model, draw = InferenceSession(folder / "model.onnx"), np.random.default_rng()
outputs = [spec["name"] for spec in about["parts"]["model"]["outputs"]]
states = {spec["name"]: spec for spec in about["parts"]["model"]["inputs"] if "final" in spec}
state = {name: np.zeros([1 if size == "batch" else size for size in spec["shape"]], np.float32)
         for name, spec in states.items()}  # fmt: skip

tokens = tokenizer.encode(prompt).ids
print(prompt, end="")
for _ in range(int(count)):
    result = dict(zip(outputs, model.run(outputs, {"tokens": np.array([tokens]).T, **state}), strict=True))
    state = {name: result[spec["final"]] for name, spec in states.items()}
    logits = result["logits"][-1, 0].astype(np.float64)
    logits[about["settings"]["never"]] = -np.inf
    if temperature > 0:  # the largest of logits with Gumbel noise is a draw from their softmax
        logits = logits / temperature + draw.gumbel(size=len(logits))
    tokens = [int(logits.argmax())]
    print(decoder.step(tokenizer, tokens[0]) or "", end="", flush=True)
print()
