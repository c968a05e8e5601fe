// How numbers, letters and tables are written.

const escaped = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

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

// Formulas: one letter, or d and one, is a variable, _i its index, {dL_t/dh_k} a fraction; all else stays as it is.
const VARIABLE = /(?<![\w<&/.])(d?[A-Za-zη]′?)(?:_([\w−]+))?(?![A-Za-z])/g;
const variables = (text) =>
  text.replace(VARIABLE, (_, name, index) => `<var>${name}</var>${index ? `<sub>${index}</sub>` : ""}`);
function math(text) {
  const part = (part) => {
    if (!part.startsWith("{")) return variables(part);
    const [above, below] = part.slice(1, -1).split("/").map(variables);
    return `<span class="fraction"><span>${above}</span><span class="unseen">/</span><span>${below}</span></span>`;
  };
  return text
    .split(/(\{[^}]*\})/)
    .map(part)
    .join("");
}

const formula = (...parts) => `<div class="formula">${parts.join(" ")}</div>`;

// Blue for above zero, orange for below, the stronger the larger.
function tint(value, largest) {
  const share = largest > 0 && Number.isFinite(value) ? Math.min(Math.abs(value) / largest, 1) : 0;
  return `${value < 0 ? "var(--below)" : "var(--above)"} ${(45 * share).toFixed(1)}%`;
}

const tinted = (value, largest) => `style="background:color-mix(in srgb, ${tint(value, largest)}, transparent)"`;
const largestOf = (values) => Math.max(...values.flat(2).map(Math.abs).filter(Number.isFinite), 1e-300);

const column = (name, attributes = "") => `<th scope="col" ${attributes}>${name}</th>`;

// A matrix, or a vector as a column, between brackets, with names for its rows and columns where they have some.
function matrix(values, { rows = null, columns = null, largest = null, decimals = 3 } = {}) {
  const body = values.map((row) => (Array.isArray(row) ? row : [row]));
  const most = largest ?? largestOf(body);
  const corner = rows ? "<td></td>" : "";
  const names = columns?.map((name) => column(escaped(short(name)))).join("");
  const head = columns ? `<thead><tr>${corner}${names}</tr></thead>` : "";
  const lines = body.map(
    (row, i) =>
      `<tr>${rows ? `<th scope="row">${escaped(short(rows[i]))}</th>` : ""}` +
      row.map((v) => `<td ${tinted(v, most)}>${number(v, decimals)}</td>`).join("") +
      "</tr>",
  );
  return `<table class="matrix">${head}<tbody>${lines.join("")}</tbody></table>`;
}

// A matrix or a formula with its name below it.
const named = (name, inside) => `<figure class="named">${inside}<figcaption>${name}</figcaption></figure>`;

const WORDY = new Set(["word", "target", math("input x_t"), "likeliest next word"]);

function table(head, rows, kind = "") {
  const names = head.map((name) => column(name, WORDY.has(name) ? 'class="said"' : "")).join("");
  const lines = rows.map((row) => `<tr>${row.join("")}</tr>`).join("");
  const inside = `<thead><tr>${names}</tr></thead><tbody>${lines}</tbody>`;
  return `<div class="wide"><table class="numbers ${kind}">${inside}</table></div>`;
}

const cell = (value, attributes = "") => `<td ${attributes}>${value}</td>`;
const heading = (text) => `<th scope="row">${text}</th>`;
const bar = (share) =>
  `<td class="bar"><i style="width:${(100 * Math.min(Math.max(share || 0, 0), 1)).toFixed(2)}%"></i></td>`;
