// The page: two sliders for the training and one for the walk through a pass; everything is re-rendered when they move.

const byId = (id) => document.getElementById(id);
const lesson = JSON.parse(byId("lesson").textContent);
const x = lesson.words.slice(0, -1).map((word) => lesson.vocabulary.map((name) => (name === word ? 1 : 0)));
const targets = lesson.words.slice(1).map((word) => lesson.vocabulary.map((name) => (name === word ? 1 : 0)));
const g = lesson.activation;

// The positions of the walk: forward through all steps, then back from every loss, the last one first, to step 1.
const steps = [...x.keys()];
const walk = [
  ...steps.map((t) => ({ kind: "forward", t })),
  ...steps.toReversed().flatMap((t) =>
    steps
      .slice(0, t + 1)
      .toReversed()
      .map((k) => ({ kind: "backward", t, k })),
  ),
];

let rate = lesson.learning_rate;
let path = train(lesson.start, x, targets, g, rate, lesson.steps);
let now = null;

// Computes all values at one step of the training.
function compute(step) {
  const { p, loss } = path[step];
  const run = forward(p, x, g);
  const dO = outputGradient(run.y, targets);
  return {
    lesson,
    x,
    targets,
    p,
    run,
    dO,
    step,
    rate,
    loss,
    losses: losses(run.y, targets),
    found: terms(p, run, dO, g),
    gradient: bptt(p, run, x, dO, g),
  };
}

const show = (id, html) => {
  byId(id).innerHTML = html;
};

// Marks boxes whose content continues beyond the right edge; the style sheet fades them out.
const markMore = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
const showMore = () => document.querySelectorAll(".wide, .formula, .named, #drawing").forEach(markMore);

function showWalk() {
  const index = Number(byId("walk").value);
  const at = walk[index];
  const figure = byId("drawing");
  const kept = figure.scrollLeft;
  show("drawing", drawing(now, at, figure.clientWidth));
  figure.scrollLeft = kept;
  show("panel", panel(now, at));
  figure.classList.toggle("beside", figure.offsetLeft + figure.offsetWidth <= byId("panel").offsetLeft);
  const place = at.kind === "forward" ? `forward, t = ${at.t + 1}` : `backward, t = ${at.t + 1}, k = ${at.k + 1}`;
  byId("walk").setAttribute("aria-valuetext", `${index + 1} of ${walk.length}: ${place}`);
  byId("place").textContent = `${index + 1} / ${walk.length}: ${place}`;
  byId("back").ariaDisabled = index === 0;
  byId("next").ariaDisabled = index === walk.length - 1;
  showMore();
}

function showTraining() {
  show("curve", curveDrawing(path, now.step, Math.max(byId("curve").clientWidth, 200)));
  show("exploded", explosion(path.map(({ loss }) => loss)));
  byId("rate-value").textContent = number(rate);
  byId("rate").setAttribute("aria-valuetext", number(rate));
  byId("step-value").textContent = now.step;
  byId("loss-value").textContent = number(now.loss);
  byId("untrained").ariaDisabled = now.step === 0;
  byId("trained").ariaDisabled = now.step === lesson.steps;
}

function showSum() {
  show("sum", writtenSum(now, document.querySelector("input[name=parameter]:checked").value));
}

function showAll() {
  now = compute(Number(byId("step").value));
  for (const letters of document.querySelectorAll("[data-when]"))
    letters.textContent = now.step ? `after ${count(now.step, "training step")}` : "untrained";
  show("weights", weights(now));
  show("fading", fading(now));
  show("fading-in-words", fadingInWords(now));
  show("predictions", predictions(now));
  show("update", oneUpdate(now));
  showSum();
  showWalk();
  showTraining();
  window.elman = { ...now, path, walk, apart };
}

// Compares the results of this page with those of elman.textbook in Python; returns the largest difference.
function check() {
  const { check: theirs, start } = lesson;
  const run = forward(start, x, g);
  const dO = outputGradient(run.y, targets);
  const ours = {
    losses: path.map(({ loss }) => loss),
    gradient: bptt(start, run, x, dO, g),
    terms: terms(start, run, dO, g).map((row) => row.map(({ da }) => da)),
  };
  const difference = (a, b) => {
    if (a !== null && typeof a === "object")
      return Math.max(...Object.keys(a).map((key) => difference(a[key], b[key])));
    return Number.isFinite(b) && a !== null ? Math.abs(a - b) : a === null && !Number.isFinite(b) ? 0 : Infinity;
  };
  const most = difference(theirs, ours);
  show(
    "check",
    `This page computes its numbers itself. At its start they were compared with those of elman.textbook in Python,
    ${lesson.steps + 1} losses, the gradient and all its terms: the largest difference is ${number(most)}.`,
  );
  return most;
}

// Limits an action to one call per animation frame, since a slider can move faster than the page renders.
function oncePerFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      action();
    });
  };
}

function goTo(step) {
  byId("step").value = step;
  showAll();
}

function walkBy(steps) {
  byId("walk").value = Number(byId("walk").value) + steps;
  showWalk();
}

const apart = check();
const unfolded = [];

// For printing: shows all forward steps, and the current position if it is in the backward pass.
function unfold() {
  const at = walk[Number(byId("walk").value)];
  show(
    "panel",
    walk
      .filter((place) => place.kind === "forward" || place === at)
      .map((place) => panel(now, place))
      .join(""),
  );
  for (const closed of document.querySelectorAll("details:not([open])")) {
    if (closed.dataset.fold) fill(closed);
    closed.open = true;
    unfolded.push(closed);
  }
}

function foldAgain() {
  for (const details of unfolded.splice(0)) details.open = false;
  showWalk();
}

show(
  "sum-in-letters",
  [
    math("{dL/dW} ="),
    '<span class="big">Σ</span><sub>t</sub> <span class="big">Σ</span><sub>k≤t</sub>',
    math("{dL_t/dh_t} ("),
    '<span class="big">Π</span><sub>j=k+1..t</sub>',
    math("{dh_j/dh_j−1}) {dh_k/dW}"),
  ].join(" "),
);
show("sentence", oneHots({ lesson, x, targets }));
byId("walk").max = walk.length - 1;
byId("walk").addEventListener("input", oncePerFrame(showWalk));
byId("back").addEventListener("click", () => walkBy(-1));
byId("next").addEventListener("click", () => walkBy(1));
byId("step").addEventListener("input", oncePerFrame(showAll));
byId("untrained").addEventListener("click", () => goTo(0));
byId("trained").addEventListener("click", () => goTo(lesson.steps));
byId("rate").addEventListener(
  "input",
  oncePerFrame(() => {
    rate = lesson.learning_rate * 10 ** (Number(byId("rate").value) / 100); // from a tenth to ten times the learning rate of the lesson
    path = train(lesson.start, x, targets, g, rate, lesson.steps);
    showAll();
  }),
);
for (const choice of document.querySelectorAll("input[name=parameter]"))
  choice.addEventListener("change", () => {
    showSum();
    showMore();
  });
addEventListener("beforeprint", unfold);
addEventListener("afterprint", foldAgain);
document.addEventListener(
  "toggle",
  ({ target }) => {
    if (!target.dataset.fold || !target.isConnected) return;
    folds.set(target.dataset.fold, target.open);
    if (target.open) fill(target);
    showMore();
  },
  true,
);
document.addEventListener("scroll", ({ target }) => target.classList && markMore(target), true);
const resized = new ResizeObserver(
  oncePerFrame(() => {
    showWalk();
    showTraining();
  }),
);
for (const id of ["drawing", "curve"]) resized.observe(byId(id));
showAll();
