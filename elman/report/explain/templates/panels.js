// The panel at one position of the walk: formulas with their values.

const signed = (value) => `${value < 0 ? "− " : "+ "}${number(Math.abs(value))}`;
const bracketed = (value) => (value < 0 ? `(${portion(value)})` : portion(value));
const G = { tanh: "tanh", sigmoid: "σ", relu: "relu" };
const SLOPES = {
  tanh: (h) => `1 − ${h}<sup>2</sup>`,
  sigmoid: (h) => `${h} (1 − ${h})`,
  relu: (h) => `1 where ${h} &gt; 0, else 0`,
};
const AS_A_BAR = '<span class="unseen">as a bar</span>';

// Writes out all products of W h_{t-1}.
function writtenOut(W, before) {
  const products = (row) => row.map((w, j) => `${j ? signed(w) : number(w)}·${bracketed(before[j])}`).join(" ");
  const line = (row, i) => `<li>${i + 1}: ${products(row)} = <b>${number(dot(row, before))}</b></li>`;
  return `<ol class="sums">${W.map(line).join("")}</ol>`;
}

function forwardPanel(now, t) {
  const i = t + 1;
  const read = `“${escaped(now.lesson.words[t])}”`;
  const before = t
    ? `${math(`h_${t}`)} is the memory of the previous words.`
    : "Before the first word the state is zero.";
  const products = `every product in ${math(`W h_${t}`)}`;
  return `<h3>Forward, step ${math("t")} = ${i}: the network reads ${read}</h3>
    ${formula(math(`a_${i} = U x_${i} + W h_${t} + b, &emsp; h_${i} = ${G[now.lesson.activation]}(a_${i})`))}
    ${stateTable(now, t)}
    <p>${math(`x_${i}`)} has its one at ${read}, so ${math(`U x_${i}`)} is the column of ${math("U")} for
    this word. ${before}</p>
    ${t ? fold(`products-${t}`, products, () => writtenOut(now.p.W, now.run.h[t - 1]), false) : ""}
    ${formula(math(`o_${i} = V h_${i} + c, &emsp; y_${i} = softmax(o_${i}) = exp(o_${i}) / sum of exp(o_${i})`))}
    ${outputTable(now, t)}
    ${lossOfStep(now, t)}`;
}

function stateTable({ p, run, x, lesson }, t) {
  const i = t + 1;
  const fromInput = times(p.U, x[t]);
  const fromState = times(p.W, t ? run.h[t - 1] : zeros(p.b));
  const rows = run.h[t].map((h, u) => [
    heading(u + 1),
    cell(number(fromInput[u])),
    cell(signed(fromState[u])),
    cell(signed(p.b[u])),
    cell(`= ${number(run.a[t][u])}`),
    cell(`<b>${portion(h)}</b>`, tinted(h, 1)),
  ]);
  return table(["unit", ...[`U x_${i}`, `W h_${t}`, "b", `a_${i}`, `h_${i}`].map(math)], rows);
}

function outputTable({ p, run, lesson }, t) {
  const i = t + 1;
  const fromState = times(p.V, run.h[t]);
  const rows = lesson.vocabulary.map((name, w) => [
    wordHeading(`${escaped(name)}${name === lesson.words[i] ? ' <span class="mark">target</span>' : ""}`),
    cell(number(fromState[w])),
    cell(signed(p.c[w])),
    cell(`= ${number(run.o[t][w])}`),
    cell(`<b>${portion(run.y[t][w])}</b>`),
    bar(run.y[t][w]),
  ]);
  return table(["word", ...[`V h_${i}`, "c", `o_${i}`, `y_${i}`].map(math), AS_A_BAR], rows, "outputs");
}

function lossOfStep({ run, targets, losses, loss, lesson }, t) {
  const [i, T] = [t + 1, losses.length];
  const right = escaped(lesson.words[i]);
  const y = dot(run.y[t], targets[t]);
  const inNumbers = math(`= −{1/${T}} log ${portion(y)} = <b>${number(losses[t])}</b>`);
  const whole = `The loss is the sum over all steps: ${math("L")} = ${losses.map((l) => number(l)).join(" + ")}
    = <b>${number(loss)}</b>.`;
  return `${formula(math(`L_${i} = −{1/T} log y_${i}`), `[${right}]`, inNumbers)}
    <p>The target is “${right}”; the network gives it a probability of ${percent(y)}.
    ${i < T ? "" : whole}</p>`;
}

// Writes the chain rule: dL_t/dh_t, one Jacobian per step back, and dh_k/dW.
function chain(t, k) {
  const factors = [`{dL_${t + 1}/dh_${t + 1}}`];
  for (let j = t; j > k; j--) factors.push(`{dh_${j + 1}/dh_${j}}`);
  return [...factors, `{dh_${k + 1}/dW}`].join(" · ");
}

function backwardPanel(now, t, k) {
  const away = t - k;
  const title = away
    ? `${count(away, "step")} back, to ${math("k")} = ${k + 1}`
    : `at ${math("k")} = ${k + 1} itself`;
  const end = `<p>${math("h_0")} is zero, so the term of ${math("W")} at ${math("k")} = 1 is zero too; those of
    ${math("U")} and ${math("b")} do not contain ${math("h_0")}. The sum for ${math(`L_${t + 1}`)}
    (“${escaped(now.lesson.words[t + 1])}”) ends here.</p>`;
  return `<h3>Backward, from the loss of step ${math("t")} = ${t + 1}: ${title}</h3>
    ${formula(math(chain(t, k)))}
    ${away ? oneStepBack(now, t, k) : fromTheLoss(now, t)}
    ${theTerm(now, t, k)}
    ${k ? "" : end}`;
}

function fromTheLoss({ run, dO, targets, lesson, p }, t) {
  const i = t + 1;
  const rows = lesson.vocabulary.map((name, w) => [
    wordHeading(escaped(name)),
    cell(portion(run.y[t][w])),
    cell(`− ${targets[t][w]}`),
    cell(`= ${number(dO[t][w])}`, tinted(dO[t][w], largestOf(dO[t]))),
  ]);
  const dh = matrix([times(transpose(p.V), dO[t])]);
  return `<p>The gradient of the loss at the output is the difference between the output and the target.
    ${math("V")} propagates it to the state.</p>
    ${formula(math(`{dL_${i}/do_${i}} = {1/T} (y_${i} − target)`))}
    ${table(["word", math(`y_${i}`), "target", math(`{dL_${i}/do_${i}}`)], rows)}
    ${formula(math(`{dL_${i}/dh_${i}} = {dL_${i}/do_${i}} · V &ensp;=&ensp;`), dh)}
    <p>${math("V")} and ${math("c")} are used at this step alone, so no sum over ${math("k")} is needed. The gradient of
    ${math(`L_${i}`)} is, for ${math("V")}, ${math(`{dL_${i}/do_${i}}`)} as a column times ${math(`h_${i}`)} as a row; for
    ${math("c")}, it is ${math(`{dL_${i}/do_${i}}`)} itself.</p>`;
}

function oneStepBack({ p, run, found, lesson }, t, k) {
  const [i, j] = [t + 1, k + 2]; // the step from h_j to h_{j-1}
  const J = jacobian(p, run.h[k + 1], lesson.activation);
  let all = J;
  for (let m = k + 2; m <= t; m++) all = product(jacobian(p, run.h[m], lesson.activation), all);
  const [here, later, first] = [k, k + 1, t].map((step) => norm(found[t][step].dh));
  const chained = `{dL_${i}/dh_${j}} · {dh_${j}/dh_${k + 1}}`;
  const soFar = formula(math(`{dh_${i}/dh_${k + 1}}, the product so far, &ensp;=&ensp;`), matrix(all));
  return `<p>One more factor of the product, the Jacobian of step ${j}:</p>
    ${formula(math(`{dh_${j}/dh_${j - 1}} = diag(g′(a_${j})) W &ensp;=&ensp;`), matrix(J))}
    ${t - k > 1 ? soFar : ""}
    ${formula(math(`{dL_${i}/dh_${k + 1}} = ${chained} &ensp;=&ensp;`), matrix([found[t][k].dh]))}
    <p>Its norm is ${number(here)}, after ${number(later)} a step later:
    ${first === 0 ? "nothing" : percent(here / first)} of the gradient of ${math(`L_${i}`)} remains here.</p>`;
}

function theTerm({ run, found, p, x, lesson }, t, k) {
  const [i, n] = [t + 1, k + 1];
  const { dh, da } = found[t][k];
  const slope = run.h[k].map(ACTIVATIONS[lesson.activation].slope);
  const parts = term(da, x[k], k ? run.h[k - 1] : zeros(p.b));
  const rows = da.map((value, u) => [
    heading(u + 1),
    cell(number(dh[u])),
    cell(`· ${number(slope[u])}`),
    cell(`= ${number(value)}`, tinted(value, largestOf(da))),
  ]);
  const slopes = `g′(a_${n}) = ${SLOPES[lesson.activation](`h_${n}`)}`;
  return `${formula(math(`{dL_${i}/da_${n}} = {dL_${i}/dh_${n}} ⊙ g′(a_${n}), &emsp; ${slopes}`))}
    ${table(["unit", ...[`{dL_${i}/dh_${n}}`, `g′(a_${n})`, `{dL_${i}/da_${n}}`].map(math)], rows)}
    <p>This step used ${math(`W`)} on ${math(`h_${k}`)}, ${math("U")} on ${math(`x_${n}`)}
    (“${escaped(lesson.words[k])}”) and ${math("b")}. The terms of ${math(`t = ${i}, k = ${n}`)}, products of
    ${math(`{dL_${i}/da_${n}}`)} as a column and these as a row:</p>
    <div class="matrices">${named(`${math("W")}: with ${math(`h_${k}`)}`, matrix(parts.W))}
    ${named(`${math("U")}: with ${math(`x_${n}`)}`, matrix(parts.U, { columns: lesson.vocabulary }))}
    ${named(math("b"), matrix(parts.b))}</div>`;
}

const panel = (now, at) => (at.kind === "forward" ? forwardPanel(now, at.t) : backwardPanel(now, at.t, at.k));
