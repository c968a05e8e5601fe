
"use strict";

const LIMIT = 2000; // tokens of a text
const PER_FRAME = 2; // tokens that appear at once: a text that can be read along

const $ = (id) => document.getElementById(id);

/** Return a token: the most probable if the temperature is 0, or a draw from the softmax of logits / temperature. */
function choose(logits, temperature, never) {
  let best = -1;
  for (let i = 0; i < logits.length; i++) if (i !== never && (best < 0 || logits[i] > logits[best])) best = i;
  if (temperature === 0) return best;
  const weights = Array.from(logits, (x, i) => (i === never ? 0 : Math.exp((x - logits[best]) / temperature)));
  let rest = Math.random() * weights.reduce((sum, weight) => sum + weight);
  for (let i = 0; i < weights.length; i++) if (weights[i] > 0 && (rest -= weights[i]) < 0) return i;
  return best;
}

async function load({ wasm, math, tokenizer }) {
  const bytes = Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0));
  const env = Object.fromEntries(math.map((name) => [`${name}f`, Math[name]]));
  const { instance } = await WebAssembly.instantiate(bytes, { env });
  const { memory, reset, step, vocabulary } = instance.exports;
  const logitsAt = (place) => new Float32Array(memory.buffer, place, vocabulary());
  return { reset, step: (token) => logitsAt(step(token)), tokenizer: readTokenizer(tokenizer), size: bytes.length };
}

function start(model) {
  let frame = 0;

  function stop() {
    cancelAnimationFrame(frame);
    frame = 0;
    document.body.classList.remove("writing");
    $("write").textContent = "Write";
  }

  function write() {
    const prompt = $("prompt").value;
    const { ids, unknown } = model.tokenizer.encode(prompt);
    const decode = model.tokenizer.decoder();
    const skipped = unknown.length ? ` Skipped, because the model has never read it: ${unknown.map((piece) => JSON.stringify(piece)).join(", ")}` : "";
    let logits, count = 0, milliseconds = 0;
    model.reset();
    for (const id of ids.length ? ids : [1]) logits = model.step(id); // without a prompt, it begins with any token
    $("begin").textContent = prompt;
    $("rest").textContent = "";
    $("write").textContent = "Stop";
    document.body.classList.add("writing");

    function next() {
      const begin = performance.now();
      let piece = "";
      for (let i = 0; i < PER_FRAME; i++) {
        const token = choose(logits, Number($("temperature").value), model.tokenizer.never);
        piece += decode(token);
        logits = model.step(token);
      }
      milliseconds += performance.now() - begin;
      count += PER_FRAME;
      const box = $("text");
      const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      $("rest").append(piece);
      if (isAtEnd) box.scrollTop = box.scrollHeight;
      const speed = Math.round((1000 * count) / milliseconds).toLocaleString("en");
      $("note").textContent = `${count.toLocaleString("en")} tokens; the model could write ${speed} a second.${skipped}`;
      if (count < LIMIT) frame = requestAnimationFrame(next);
      else stop();
    }
    frame = requestAnimationFrame(next);
  }

  const show = () => ($("shown").textContent = Number($("temperature").value).toFixed(2));
  $("temperature").addEventListener("input", show);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (frame) stop();
    else write();
  });
  show();
  $("note").textContent = `The model is ${(model.size / 1e6).toFixed(1)} MB of WebAssembly.`;
  $("write").disabled = false;
}

const data = JSON.parse($("model").textContent);
if (data === null) $("note").textContent = "This page has no model yet. Build it with build.py.";
else load(data).then(start, (error) => ($("note").textContent = `The model cannot be loaded: ${error.message}`));
