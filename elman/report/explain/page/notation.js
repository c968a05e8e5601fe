// How numbers, letters and tables are written.

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// Three decimals; what they would hide is written with a power of ten.
function number(value, decimals = 3) {
  if (value === 0) return "0";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const small = Math.abs(value) < 0.5 * 10 ** -decimals;
  const text = small || Math.abs(value) >= 1e4 ? value.toExponential(1) : value.toFixed(decimals);
  return text.replaceAll("-", "−").replace("e+", "e");
}

const percent = (value) => (Number.isNaN(value) ? "NaN" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
const short = (word, most = 9) => ([...word].length > most ? [...word].slice(0, most - 1).join("") + "…" : word);

const sub = (letter, index) => `<var>${letter}</var><sub>${index}</sub>`;
const fraction = (above, below) =>
  `<span class="fraction"><span>${above}</span><span class="unseen">/</span><span>${below}</span></span>`;
const derivative = (t, below) => fraction(`<var>dL</var><sub>${t}</sub>`, `<var>d</var>${below}`);
const norms = (inside) => `<span class="norm">‖</span>${inside}<span class="norm">‖</span>`;

// Blue for above zero, orange for below, the stronger the larger.
function tint(value, largest) {
  const share = largest > 0 && Number.isFinite(value) ? Math.min(Math.abs(value) / largest, 1) : 0;
  return `${value < 0 ? "var(--below)" : "var(--above)"} ${(45 * share).toFixed(1)}%`;
}

const tinted = (value, largest) => `style="background:color-mix(in srgb, ${tint(value, largest)}, transparent)"`;
const largestOf = (values) => Math.max(...values.flat(2).map(Math.abs).filter(Number.isFinite), 1e-300);

// A matrix, or a vector as a column, between brackets, with names for its rows and columns where they have some.
function matrix(values, { rows = null, columns = null, largest = null, decimals = 3 } = {}) {
  const body = values.map((row) => (Array.isArray(row) ? row : [row]));
  const most = largest ?? largestOf(body);
  const head = columns
    ? `<thead><tr>${rows ? "<td></td>" : ""}${columns.map((c) => `<th scope="col">${escaped(short(c))}</th>`).join("")}</tr></thead>`
    : "";
  const lines = body.map((row, i) =>
    `<tr>${rows ? `<th scope="row">${escaped(short(rows[i]))}</th>` : ""}` +
    row.map((v) => `<td ${tinted(v, most)}>${number(v, decimals)}</td>`).join("") + "</tr>");
  return `<table class="matrix">${head}<tbody>${lines.join("")}</tbody></table>`;
}

// A matrix or a formula with its name below it.
const named = (name, inside) => `<figure class="named">${inside}<figcaption>${name}</figcaption></figure>`;

const WORDY = new Set(["word", "target", `input ${sub("x", "t")}`, "likeliest next word"]);

function table(head, rows, kind = "") {
  return `<div class="wide"><table class="numbers ${kind}"><thead><tr>${head.map((h) => `<th scope="col" ${WORDY.has(h) ? 'class="said"' : ""}>${h}</th>`).join("")}</tr></thead>` +
    `<tbody>${rows.map((row) => `<tr>${row.join("")}</tr>`).join("")}</tbody></table></div>`;
}

const cell = (value, attributes = "") => `<td ${attributes}>${value}</td>`;
const heading = (text) => `<th scope="row">${text}</th>`;
const bar = (share) => `<td class="bar"><i style="width:${(100 * Math.min(Math.max(share || 0, 0), 1)).toFixed(2)}%"></i></td>`;
