// What is told of one place of the walk: formulas with their numbers.

const signed = (value) => `${value < 0 ? "− " : "+ "}${number(Math.abs(value))}`;
const bracketed = (value) => (value < 0 ? `(${number(value)})` : number(value));
const G = { tanh: "tanh", sigmoid: "σ", relu: "relu" };
const SLOPES = {
  tanh: (h) => `1 − ${h}<sup>2</sup>`, sigmoid: (h) => `${h} (1 − ${h})`, relu: (h) => `1 where ${h} &gt; 0, else 0`,
};

// W h_{t-1}, every product of it.
function writtenOut(W, before) {
  const line = (row, i) =>
    `<li><span class="left">${i + 1}:</span> ${row.map((w, j) => `${j ? signed(w) : number(w)}·${bracketed(before[j])}`).join(" ")} = <b>${number(dot(row, before))}</b></li>`;
  return `<ol class="sums">${W.map(line).join("")}</ol>`;
}

function forwardPanel(now, t) {
  const { p, run, x, targets, lesson } = now;
  const [i, T] = [t + 1, x.length];
  const before = t ? run.h[t - 1] : zeros(p.b);
  const fromInput = times(p.U, x[t]), fromState = times(p.W, before), fromHidden = times(p.V, run.h[t]);
  const g = G[lesson.activation];
  const units = run.h[t].map((h, u) => [
    heading(u + 1), cell(number(fromInput[u])), cell(signed(fromState[u])), cell(signed(p.b[u])),
    cell(`= ${number(run.a[t][u])}`, 'class="strong"'), cell(`<b>${number(h)}</b>`, tinted(h, 1)),
  ]);
  const right = lesson.words[i];
  const outputs = lesson.vocabulary.map((name, w) => [
    `<th scope="row">${escaped(name)}${name === right ? ' <span class="mark">target</span>' : ""}</th>`,
    cell(number(fromHidden[w])), cell(signed(p.c[w])), cell(`= ${number(run.o[t][w])}`, 'class="strong"'),
    cell(`<b>${number(run.y[t][w])}</b>`), bar(run.y[t][w]),
  ]);
  const y = dot(run.y[t], targets[t]);
  return `<h3>Forward, step <var>t</var> = ${i}: the network reads “${escaped(lesson.words[t])}”</h3>
    <div class="formula">${sub("a", i)} = <var>U</var> ${sub("x", i)} + <var>W</var> ${sub("h", t)} + <var>b</var>, &emsp; ${sub("h", i)} = ${g}(${sub("a", i)})</div>
    ${table(["unit", `<var>U</var> ${sub("x", i)}`, `<var>W</var> ${sub("h", t)}`, "<var>b</var>", sub("a", i), sub("h", i)], units)}
    <p>${sub("x", i)} has its one at “${escaped(lesson.words[t])}”: <var>U</var> ${sub("x", i)} is the column of <var>U</var> that belongs to this word.
    ${t ? `${sub("h", t)} is what the network kept of the words before.` : "Before the first word the state is zero: nothing is remembered yet."}</p>
    ${t ? `<details><summary><var>W</var> ${sub("h", t)}, every product of it</summary>${writtenOut(p.W, before)}</details>` : ""}
    <div class="formula">${sub("o", i)} = <var>V</var> ${sub("h", i)} + <var>c</var>, &emsp; ${sub("y", i)} = softmax(${sub("o", i)}) = exp(${sub("o", i)}) / sum of exp(${sub("o", i)})</div>
    ${table(["word", `<var>V</var> ${sub("h", i)}`, "<var>c</var>", sub("o", i), sub("y", i), '<span class="unseen">as a bar</span>'], outputs, "outputs")}
    <div class="formula">${sub("L", i)} = −${fraction("1", "<var>T</var>")} log ${sub("y", i)}[${escaped(right)}]
    = −${fraction("1", T)} log ${number(y)} = <b>${number(now.losses[t])}</b></div>
    <p>The right next word is “${escaped(right)}”, and the network gives it a probability of ${percent(y)}.
    ${i < T ? "" : `The loss is the sum over all steps: <var>L</var> = ${now.losses.map((l) => number(l)).join(" + ")} = <b>${number(now.loss)}</b>.`}</p>`;
}

// The chain as it stands: dL_t/dh_t, one Jacobian for each step back, dh_k/dW.
function chain(t, k) {
  const factors = [];
  for (let j = t; j > k; j--) factors.push(fraction(`<var>d</var>${sub("h", j + 1)}`, `<var>d</var>${sub("h", j)}`));
  return [derivative(t + 1, sub("h", t + 1)), ...factors, fraction(`<var>d</var>${sub("h", k + 1)}`, "<var>dW</var>")].join(" · ");
}

function backwardPanel(now, t, k) {
  const { lesson } = now;
  const away = t - k;
  const title = away ? `${away} step${away > 1 ? "s" : ""} back, to <var>k</var> = ${k + 1}` : `at <var>k</var> = ${k + 1} itself`;
  return `<h3>Backward, from the loss of step <var>t</var> = ${t + 1}: ${title}</h3>
    <div class="formula">${chain(t, k)}</div>
    ${away ? oneStepBack(now, t, k) : fromTheLoss(now, t)}
    ${theTerm(now, t, k)}
    ${k ? "" : `<p>${sub("h", 0)} is zero, so the term of <var>W</var> at <var>k</var> = 1 is zero too, whatever arrives there; <var>U</var> and <var>b</var> do get theirs. The sum for ${sub("L", t + 1)} (“${escaped(lesson.words[t + 1])}”) ends here.</p>`}`;
}

function fromTheLoss(now, t) {
  const { run, dO, targets, lesson, p } = now;
  const i = t + 1;
  const rows = lesson.vocabulary.map((name, w) => [
    heading(escaped(name)), cell(number(run.y[t][w])), cell(`− ${targets[t][w]}`), cell(`= ${number(dO[t][w])}`, tinted(dO[t][w], largestOf(dO[t]))),
  ]);
  return `<p>The loss sends back to the output the difference between what came and what should have come. <var>V</var> hands it on to the state.</p>
    <div class="formula">${derivative(i, sub("o", i))} = ${fraction("1", "<var>T</var>")} (${sub("y", i)} − target)</div>
    ${table(["word", sub("y", i), "target", derivative(i, sub("o", i))], rows)}
    <div class="formula">${derivative(i, sub("h", i))} = ${derivative(i, sub("o", i))} · <var>V</var>
    &ensp;=&ensp; ${matrix([times(transpose(p.V), dO[t])], { decimals: 4 })}</div>
    <p><var>V</var> and <var>c</var> were used at this step alone: their gradient of ${sub("L", i)} is ${derivative(i, sub("o", i))} as a column,
    times ${sub("h", i)} as a row, and ${derivative(i, sub("o", i))} itself. No sum over <var>k</var> is needed.</p>`;
}

function oneStepBack(now, t, k) {
  const { p, run, found, lesson } = now;
  const [i, j] = [t + 1, k + 2]; // from h_j back to h_{j-1}
  const J = jacobian(p, run.h[k + 1], lesson.activation);
  let all = J;
  for (let m = k + 2; m <= t; m++) all = product(jacobian(p, run.h[m], lesson.activation), all);
  const left = norm(found[t][k].dh) / norm(found[t][t].dh);
  return `<p>One more factor of the product, the Jacobian of step ${j}:</p>
    <div class="formula">${fraction(`<var>d</var>${sub("h", j)}`, `<var>d</var>${sub("h", j - 1)}`)} = diag(<var>g′</var>(${sub("a", j)})) <var>W</var> &ensp;=&ensp; ${matrix(J)}</div>
    ${t - k > 1 ? `<div class="formula">${fraction(`<var>d</var>${sub("h", i)}`, `<var>d</var>${sub("h", k + 1)}`)}, the product so far, &ensp;=&ensp; ${matrix(all)}</div>` : ""}
    <div class="formula">${derivative(i, sub("h", k + 1))} = ${derivative(i, sub("h", j))} · ${fraction(`<var>d</var>${sub("h", j)}`, `<var>d</var>${sub("h", k + 1)}`)}
    &ensp;=&ensp; ${matrix([found[t][k].dh])}</div>
    <p>Its norm is ${number(norm(found[t][k].dh), 4)}, after ${number(norm(found[t][k + 1].dh), 4)} a step later:
    ${percent(left)} of what ${sub("L", i)} sent out arrives here.</p>`;
}

function theTerm(now, t, k) {
  const { run, found, p, x, lesson } = now;
  const [i, n] = [t + 1, k + 1];
  const { da } = found[t][k];
  const slope = run.h[k].map(ACTIVATIONS[lesson.activation].slope);
  const parts = term(da, x[k], k ? run.h[k - 1] : zeros(p.b));
  return `<div class="formula">${derivative(i, sub("a", n))} = ${derivative(i, sub("h", n))} ⊙ <var>g′</var>(${sub("a", n)}), &emsp;
    <var>g′</var>(${sub("a", n)}) = ${SLOPES[lesson.activation](sub("h", n))}</div>
    ${table(["unit", derivative(i, sub("h", n)), `<var>g′</var>(${sub("a", n)})`, derivative(i, sub("a", n))],
      da.map((value, u) => [heading(u + 1), cell(number(found[t][k].dh[u], 4)), cell(`· ${number(slope[u])}`), cell(`= ${number(value, 4)}`, tinted(value, largestOf(da)))]))}
    <p>This step used <var>W</var> on ${sub("h", k)}, <var>U</var> on ${sub("x", n)} (“${escaped(lesson.words[k])}”) and <var>b</var>.
    The terms of <var>t</var> = ${i}, <var>k</var> = ${n}, products of ${derivative(i, sub("a", n))} as a column and these as a row:</p>
    <div class="matrices">${named(`<var>W</var>: with ${sub("h", k)}`, matrix(parts.W, { decimals: 4 }))}
    ${named(`<var>U</var>: with ${sub("x", n)}`, matrix(parts.U, { columns: lesson.vocabulary, decimals: 4 }))}
    ${named("<var>b</var>", matrix(parts.b, { decimals: 4 }))}</div>`;
}

const panel = (now, at) => (at.kind === "forward" ? forwardPanel(now, at.t) : backwardPanel(now, at.t, at.k));
