// The parts of the page beside the walk.

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

// What each step k adds to the gradient of L_t with respect to one parameter: V and c are used at k = t alone.
function partsOf({ found, run, x, dO, p }, name, t) {
  const last = { V: () => outer(dO[t], run.h[t]), c: () => dO[t] };
  if (name in last) return [{ k: t, values: last[name]() }];
  return found[t].map(({ da }, k) => ({ k, values: term(da, x[k], k ? run.h[k - 1] : zeros(p.b))[name] })).reverse();
}

// Each dL_t as the sum of its terms, and their sum.
function writtenSum(now, name) {
  const rows = now.found.map((_, t) => partsOf(now, name, t));
  const perStep = rows.map((parts) => parts.map(({ values }) => values).reduce(plus));
  const total = perStep.reduce(plus);
  const largest = largestOf(rows.flatMap((parts) => parts.flatMap(({ values }) => values)));
  const shown = (values) => matrix(values, { largest, decimals: 4 });
  const line = (left, terms, kind = "") =>
    `<div class="line ${kind}">${left}<span class="sign">=</span>${terms.join('<span class="sign">+</span>')}</div>`;
  const ofStep = (t) => named(math(`{dL_${t + 1}/d${name}}`), shown(perStep[t]));
  const lines = rows.map((parts, t) =>
    line(
      ofStep(t),
      parts.map(({ k, values }) => named(`${math("k")} = ${k + 1}, norm ${number(norm(values), 4)}`, shown(values))),
    ),
  );
  const whole = line(
    named(math(`{dL/d${name}}`), shown(total)),
    rows.map((_, t) => ofStep(t)),
    "total",
  );
  const apart = Math.max(...[zip((a, b) => Math.abs(a - b), total, now.gradient[name])].flat(2));
  const afterTheState = `${math(name)} is used after the state, at step ${math("t")} alone.`;
  const why =
    { W: `The terms of ${math("k")} = 1 are zero because ${math("h_0")} is.`, V: afterTheState, c: afterTheState }[
      name
    ] ?? "";
  return `${lines.join("")}${whole}
    <p class="note">${why} The recursion of BPTT, which goes back only once for all losses together, gives the same
    gradient;
    the largest difference of any entry is ${number(apart)}.</p>`;
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
        cell(number(length, 4)),
        cell(percent(length / lengths[t])),
      ])
      .reverse();
    const bars = table(["to", "word", AS_A_BAR, math(`‖{dL_${t + 1}/dh_k}‖`), "left"], rows, "bars");
    return `<div><h3>From ${math(`L_${t + 1}`)}, “${escaped(lesson.words[t + 1])}”</h3>${bars}</div>`;
  });
  return groups.reverse().join("");
}

// How much longer or shorter the gradient becomes on one step back: the geometric mean over all steps of all sums.
function growth(found) {
  const logs = found.flatMap((row) => row.slice(1).map((later, k) => Math.log(norm(row[k].dh) / norm(later.dh))));
  return Math.exp(sum(logs) / logs.length);
}

function fadingInWords({ found, loss }) {
  if (!Number.isFinite(loss)) return "The loss is not a number any more, and nor is any gradient of it.";
  if (found.length < 2) return "This sentence has one step: there is no way back through time, and nothing fades.";
  const factor = growth(found);
  if (!Number.isFinite(factor) || factor === 0)
    return "Somewhere on the way nothing is left at all: the gradient has vanished.";
  const far = factor ** 50;
  const verdict = factor < 1 ? "The gradient vanishes" : "The gradient explodes";
  return `With these weights one step back makes the gradient ${number(factor)} times as long (geometric mean).
    ${verdict} where that goes on: 50 steps of it would be ${number(factor)}<sup>50</sup> = ${number(far)}.`;
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
    const guess = lesson.vocabulary[y.indexOf(Math.max(...y))];
    const verdict = guess === lesson.words[t + 1] ? "right" : "wrong";
    return [
      `<th scope="row" class="said">${escaped(lesson.words.slice(0, t + 1).join(" "))} …</th>`,
      cell(`${escaped(guess)} <span class="${verdict}">${verdict}</span>`, 'class="said"'),
      cell(percent(dot(y, targets[t]))),
      bar(dot(y, targets[t])),
    ];
  });
  return table(["after", "likeliest next word", "right word", AS_A_BAR], rows, "bars");
}

function oneUpdate({ p, gradient, rate }) {
  const [w, dw] = [p.W[0][0], gradient.W[0][0]];
  const slope = dw < 0 ? `(${number(dw, 4)})` : number(dw, 4);
  const moved = `<b>${number(w - rate * dw, 4)}</b>`;
  return math(`W_11 ← W_11 − η {dL/dW_11} = ${number(w, 4)} − ${number(rate)} · ${slope} = ${moved}`);
}
