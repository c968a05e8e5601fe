// Formats numbers, formulas and tables.

const escaped = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

const powerOfTen = (value) => Math.floor(Math.log10(Math.abs(value)));
const fixed = (value, decimals) => value.toFixed(decimals).replace("-", "−");

// Formats a number with three significant digits, with a power of ten if it is very large or small.
function number(value) {
  if (value === 0) return "0";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const power = powerOfTen(value);
  if (power >= -4 && power < 4) return fixed(value, Math.max(2 - power, 0));
  return value.toExponential(2).replaceAll("-", "−").replace("e+", "e");
}

// Formats a state or probability; close to 1, with three significant digits of the difference from 1, because losses
// and slopes depend on it.
function portion(value) {
  const lacks = 1 - Math.abs(value);
  if (!(lacks > 0 && lacks < 0.1)) return number(value);
  const decimals = 2 - powerOfTen(lacks);
  return decimals <= 7 ? fixed(value, decimals) : value < 0 ? `−1+${number(lacks)}` : `1−${number(lacks)}`;
}

const percent = (value) => (value < 1 && value > 0.9995 ? "> 99.9\u00a0%" : `${number(100 * value)}\u00a0%`);
const count = (many, what) => `${many} ${what}${many === 1 ? "" : "s"}`;

// Estimates the width of a letter, relative to the average; `short` truncates words that are wider than `most`.
const widthOf = (letter) =>
  /^[iljtfrI.,:;'|!()[\]-]$/.test(letter)
    ? 0.6
    : /^[mwMW@%—]$/.test(letter) || letter.codePointAt(0) >= 0x1100
      ? 1.7
      : /^\p{Lu}/u.test(letter)
        ? 1.25
        : 1;
function short(word, most = 8.5) {
  const letters = [...new Intl.Segmenter().segment(word)].map(({ segment }) => segment);
  if (sum(letters.map(widthOf)) <= most) return word;
  let room = most - 1.4; // room for the ellipsis
  return `${letters.filter((letter) => (room -= widthOf(letter)) >= 0).join("")}…`;
}

// Formats formulas: a letter, or d and a letter, is a variable, _i its index, {dL_t/dh_k} a fraction.
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

// Colors positive values blue and negative ones orange, with an intensity proportional to the magnitude.
function tint(value, largest) {
  const share = largest > 0 && Number.isFinite(value) ? Math.min(Math.abs(value) / largest, 1) : 0;
  return `${value < 0 ? "var(--below)" : "var(--above)"} ${(45 * share).toFixed(1)}%`;
}

const tinted = (value, largest) => `style="background:color-mix(in srgb, ${tint(value, largest)}, transparent)"`;
const largestOf = (values) => Math.max(...values.flat(2).map(Math.abs).filter(Number.isFinite), 1e-300);

const column = (name, attributes = "") => `<th scope="col" ${attributes}>${name}</th>`;

// Formats a matrix, or a vector as a column, in brackets, with optional names of rows and columns.
function matrix(values, { rows = null, columns = null, largest = null } = {}) {
  const body = values.map((row) => (Array.isArray(row) ? row : [row]));
  const most = largest ?? largestOf(body);
  const corner = rows ? "<td></td>" : "";
  const names = columns?.map((name) => column(escaped(short(name)))).join("");
  const head = columns ? `<thead><tr>${corner}${names}</tr></thead>` : "";
  const lines = body.map(
    (row, i) =>
      `<tr>${rows ? `<th scope="row">${escaped(short(rows[i]))}</th>` : ""}` +
      row.map((v) => `<td ${tinted(v, most)}>${number(v)}</td>`).join("") +
      "</tr>",
  );
  return `<table class="matrix">${head}<tbody>${lines.join("")}</tbody></table>`;
}

// Collapsible sections. The page is re-rendered often, so it remembers which sections are open, and renders the content
// of a section when it is first opened.
const folds = new Map();
const insides = new Map();
const roomy = () => innerWidth > 640;
function fold(key, summary, inside, open) {
  const opened = folds.get(key) ?? open;
  insides.set(key, inside);
  return `<details data-fold="${key}" ${opened ? "open" : ""}><summary>${summary}</summary>${opened ? inside() : ""}</details>`;
}

function fill(details) {
  if (details.children.length === 1) details.insertAdjacentHTML("beforeend", insides.get(details.dataset.fold)());
}

// Formats a matrix or formula with its name as a caption.
const named = (name, inside) => `<figure class="named">${inside}<figcaption>${name}</figcaption></figure>`;

const WORDY = new Set(["word", "target", math("input x_t"), "most probable next word"]);

function table(head, rows, kind = "") {
  const names = head.map((name) => column(name, WORDY.has(name) ? 'class="said"' : "")).join("");
  const lines = rows.map((row) => `<tr>${row.join("")}</tr>`).join("");
  const inside = `<thead><tr>${names}</tr></thead><tbody>${lines}</tbody>`;
  return `<div class="wide"><table class="numbers ${kind}">${inside}</table></div>`;
}

const cell = (value, attributes = "") => `<td ${attributes}>${value}</td>`;
const heading = (text, attributes = "") => `<th scope="row" ${attributes}>${text}</th>`;
const wordHeading = (text) => heading(text, 'class="said"');
const bar = (share) =>
  `<td class="bar"><i style="width:${(100 * Math.min(Math.max(share || 0, 0), 1)).toFixed(2)}%"></i></td>`;
