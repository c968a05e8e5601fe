// The sections of the page other than the walk.

function oneHots({ lesson, x, targets }) {
  const names = lesson.vocabulary.map((name) => escaped(short(name)));
  const ones = (vectors, words) =>
    vectors.map((row, t) => [
      heading(math(`t = ${t + 1}`)),
      cell(escaped(words[t]), 'class="said"'),
      ...row.map((v) => cell(v, `class="${v ? "one" : "zero"}"`)),
    ]);
  return (
    table(["step", math("input x_t"), ...names], ones(x, lesson.words)) +
    table(["step", "target", ...names], ones(targets, lesson.words.slice(1)))
  );
}

function weights({ p, lesson }) {
  const words = lesson.vocabulary;
  const size = (name) => `${p[name].length} × ${p[name][0].length}`;
  return [
    named(`${math("U")}, input to state (${size("U")})`, matrix(p.U, { columns: words })),
    named(`${math("W")}, state to state (${size("W")})`, matrix(p.W)),
    named(`${math("V")}, state to output (${size("V")})`, matrix(p.V, { rows: words })),
    named(math("b"), matrix(p.b)),
    named(math("c"), matrix(p.c)),
  ].join("");
}

// Returns the contribution of each step k to the gradient of L_t for one parameter; V and c contribute only at k = t.
function partsOf({ found, run, x, dO, p }, name, t) {
  const last = { V: () => outer(dO[t], run.h[t]), c: () => dO[t] };
  if (name in last) return [{ k: t, values: last[name]() }];
  return found[t].map(({ da }, k) => ({ k, values: term(da, x[k], k ? run.h[k - 1] : zeros(p.b))[name] })).reverse();
}

// Shows the gradient of each L_t as the sum of its terms, and the sum over t.
function writtenSum(now, name) {
  const rows = now.found.map((_, t) => partsOf(now, name, t));
  const perStep = rows.map((parts) => parts.map(({ values }) => values).reduce(plus));
  const total = perStep.reduce(plus);
  const largest = largestOf(rows.flatMap((parts) => parts.flatMap(({ values }) => values)));
  const shown = (values) => matrix(values, { largest });
  const few = now.found.length <= 3 && roomy();
  const added = (terms) => `<span class="sign">=</span>${terms.join('<span class="sign">+</span>')}`;
  const ofStep = (t) => named(math(`{dL_${t + 1}/d${name}}`), shown(perStep[t]));
  const ofTerm = ({ k, values }) => named(`${math("k")} = ${k + 1}, norm ${number(norm(values))}`, shown(values));
  const lines = rows.map((parts, t) => {
    const summary = `${math(`{dL_${t + 1}/d${name}}`)}: ${count(parts.length, "term")}`;
    return fold(`sum-${t}`, summary, () => `<div class="line">${ofStep(t)}${added(parts.map(ofTerm))}</div>`, few);
  });
  const ofAll = () => `<div class="line">${added(rows.map((_, t) => ofStep(t)))}</div>`;
  const whole = `<div class="line total">${named(math(`{dL/d${name}}`), shown(total))}
    ${fold("total", `the sum over ${math("t")}: ${count(rows.length, "term")}`, ofAll, few)}</div>`;
  const apart = Math.max(...[zip((a, b) => Math.abs(a - b), total, now.gradient[name])].flat(2));
  const afterTheState = `${math(name)} is used after the state, at step ${math("t")} alone.`;
  const why =
    { W: `The terms of ${math("k")} = 1 are zero because ${math("h_0")} is.`, V: afterTheState, c: afterTheState }[
      name
    ] ?? "";
  return `${lines.join("")}${whole}
    <p class="note">${why} BPTT goes back only once for all losses together and gives the same
    gradient;
    the largest difference of an entry is ${number(apart)}.</p>`;
}

function fading({ found, lesson }) {
  const groups = found.map((row, t) => {
    const lengths = row.map(({ dh }) => norm(dh));
    const most = Math.max(...lengths);
    const rows = lengths
      .map((length, k) => [
        heading(math(`k = ${k + 1}`)),
        cell(escaped(short(lesson.words[k], 14)), 'class="said"'),
        bar(length / most),
        cell(number(length)),
        cell(lengths[t] === 0 ? "–" : percent(length / lengths[t])),
      ])
      .reverse();
    const bars = () => table(["to", "word", AS_A_BAR, math(`‖{dL_${t + 1}/dh_k}‖`), "remaining"], rows, "bars");
    const from = `From ${math(`L_${t + 1}`)}, “${escaped(lesson.words[t + 1])}”`;
    return fold(`fading-${t}`, `<h3>${from}</h3>`, bars, roomy() || t === found.length - 1);
  });
  return groups.reverse().join("");
}

// Returns the growth factor of the gradient per step back: the geometric mean over all steps and losses.
function growth(found) {
  const pairs = found.flatMap((row) => row.slice(1).map((later, k) => [norm(row[k].dh), norm(later.dh)]));
  const logs = pairs.filter(([, later]) => later !== 0).map(([here, later]) => Math.log(here / later));
  return Math.exp(sum(logs) / logs.length);
}

function fadingInWords({ found, loss }) {
  if (Number.isNaN(loss)) return "The loss is NaN, and so is every gradient.";
  if (found.length < 2) return "This sentence has one step, so no gradient goes back through time.";
  if (found.every((row) => norm(row.at(-1).dh) === 0))
    return "The gradient of the loss is zero: every target word has a probability of 1.";
  const factor = growth(found);
  if (!Number.isFinite(factor) || factor === 0)
    return "The gradient reaches zero before the first step: it has vanished.";
  const far = factor ** 50;
  const verdict = factor < 1 ? "The gradient vanishes" : "The gradient explodes";
  return `With these weights each step back multiplies the norm of the gradient by ${number(factor)} (geometric mean).
    ${verdict} if this continues: over 50 steps, ${number(factor)}<sup>50</sup> = ${number(far)}.`;
}

// Describes a training whose loss is not finite at some steps.
function explosion(losses) {
  const broken = losses.flatMap((loss, step) => (Number.isFinite(loss) ? [] : [step]));
  if (!broken.length) return "";
  const after = (step) => `after ${count(step, "step")}`;
  const [first, last, none] = [broken[0], broken.at(-1), losses.findIndex(Number.isNaN)];
  const infinite = first === none ? "" : `${after(first)} the loss is infinite: a target word has a probability of 0`;
  const begins = infinite || `${after(first)} the loss is NaN`;
  if (last < losses.length - 1)
    return `At this learning rate the steps are too large: ${begins}. ${after(last + 1).replace("a", "A")} it is finite
      again until the end. Try a smaller learning rate.`;
  const ends = infinite && none >= 0 ? `, and ${after(none)} it is NaN` : "";
  return `At this learning rate, training diverges: ${begins}${ends}. Try a smaller one.`;
}

function curveDrawing(path, step, width, height = 220) {
  const [left, right, top, bottom] = [44, 12, 12, 34];
  const values = path.map(({ loss }) => loss).filter(Number.isFinite);
  const most = Math.max(...values, 0.1) * 1.05;
  const across = (i) => left + ((width - left - right) * i) / Math.max(path.length - 1, 1);
  const up = (loss) => height - bottom - ((height - top - bottom) * loss) / most;
  const points = path
    .map(({ loss }, i) => (Number.isFinite(loss) ? `${across(i).toFixed(2)},${up(loss).toFixed(2)}` : null))
    .filter(Boolean);
  const unit = 10 ** Math.floor(Math.log10(most / 2));
  const tick = [1, 2, 5, 10].map((m) => m * unit).find((size) => most / size <= 5) ?? most;
  const levels = [...Array(Math.floor(most / tick) + 1).keys()].map((i) => i * tick);
  const grid = levels.map(
    (level) =>
      `<line class="grid" x1="${left}" x2="${width - right}" y1="${up(level)}" y2="${up(level)}"/>` +
      `<text class="unit" x="${left - 7}" y="${up(level) + 4}">${+level.toPrecision(2)}</text>`,
  );
  const ends = [0, path.length - 1].map(
    (i) => `<text class="tick ${i ? "last" : ""}" x="${across(i)}" y="${height - 14}">${i}</text>`,
  );
  const here = path[step].loss;
  const mark = Number.isFinite(here)
    ? `<line class="here" x1="${across(step)}" x2="${across(step)}" y1="${top}" y2="${height - bottom}"/>` +
      `<circle class="here" cx="${across(step)}" cy="${up(here)}" r="5"/>`
    : "";
  const title = `<text class="tick middle" x="${(left + width - right) / 2}" y="${height - 14}">training steps</text>`;
  const [first, last] = [path[0], path.at(-1)].map(({ loss }) => number(loss));
  const told = `The loss over ${path.length - 1} training steps: ${first} at the start, ${last} at the end.`;
  return (
    `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${told}">` +
    `${grid.join("")}${ends.join("")}${title}` +
    `<polyline class="curve" points="${points.join(" ")}"/>${mark}</svg>`
  );
}

function predictions({ lesson, run, targets }) {
  const rows = run.y.map((y, t) => {
    const guess = lesson.vocabulary[y.indexOf(Math.max(...y))] ?? "none"; // if all outputs are NaN
    const verdict = guess === lesson.words[t + 1] ? "right" : "wrong";
    return [
      `<th scope="row" class="said">${escaped(lesson.words.slice(0, t + 1).join(" "))} …</th>`,
      cell(`${escaped(guess)} <span class="${verdict}">${verdict}</span>`, 'class="said"'),
      cell(percent(dot(y, targets[t]))),
      bar(dot(y, targets[t])),
    ];
  });
  return table(["after", "most probable next word", "probability of target", AS_A_BAR], rows, "bars");
}

function oneUpdate({ p, gradient, rate }) {
  const [w, dw] = [p.W[0][0], gradient.W[0][0]];
  const slope = dw < 0 ? `(${number(dw)})` : number(dw);
  const decimals = Math.min(Math.max(2 - powerOfTen(rate * dw), 2), 12); // enough to show the change
  const exact = (weight) => (Number.isFinite(decimals) && Math.abs(weight) < 1e4 ? fixed(weight, decimals) : number(weight));
  return math(`W_11 ← W_11 − η {dL/dW_11} = ${exact(w)} − ${number(rate)} · ${slope} = <b>${exact(w - rate * dw)}</b>`);
}
