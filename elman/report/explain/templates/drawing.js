// Draws the unfolded network: one column per step, with x_t, a_t, h_t, o_t, y_t and L_t from bottom to top.

const LINE = 16,
  BOX = 66,
  GAP = 34,
  LEFT = 76,
  TOP = 34;

// Computes the layout: heights depend on the number of units and words, widths on the available space.
function layout(T, H, D, room) {
  const pitch = Math.max(BOX + 28, Math.min(BOX + 76, (room - LEFT) / T));
  const heights = { L: 26, y: D * LINE + 8, o: D * LINE + 8, h: H * LINE + 8, a: H * LINE + 8, x: 26 };
  const tops = {};
  let top = TOP;
  for (const row in heights) {
    tops[row] = top;
    top += heights[row] + GAP;
  }
  return {
    heights,
    tops,
    left: (t) => LEFT + t * pitch,
    pitch,
    width: LEFT + T * pitch - (pitch - BOX) + 12,
    height: top - 8,
  };
}

const letter = (name, index) => `<tspan class="letter">${name}</tspan><tspan dy="3" class="index">${index}</tspan>`;

const gradientName = (t, row, i) => `${letter("dL", t)}<tspan dy="-3">/</tspan>${letter(`d${row}`, i)}`;

// Draws an arrow between two boxes: straight within a column, curved between columns.
function arrow([from, to], kind, { bent = false, width = 1.5 } = {}) {
  const [along, across] = bent ? [Math.sign(to[0] - from[0]), 0] : [0, Math.sign(to[1] - from[1])];
  const half = 2.6 + 0.62 * width;
  const base = [to[0] - 2 * half * along, to[1] - 2 * half * across];
  const bend = 0.5 * (base[0] - from[0]);
  const line = bent ? `M${from}C${from[0] + bend} ${from[1]} ${base[0] - bend} ${base[1]} ${base}` : `M${from}L${base}`;
  const corners = [1, -1].map((side) => [base[0] + side * half * across, base[1] + side * half * along]);
  return (
    `<g class="arrow ${kind}"><path class="shaft" d="${line}" style="stroke-width:${width.toFixed(2)}px"/>` +
    `<path class="head" d="M${corners[0]}L${to}L${corners[1]}z"/></g>`
  );
}

const label = (text, kind, [x, y]) => `<text class="letter label ${kind}" x="${x}" y="${y}">${text}</text>`;

// Draws a box of numbers. `kind` is its style: done, now, later, back or used.
function box(place, row, t, name, values, kind, { bars = false } = {}) {
  const [x, y] = [place.left(t), place.tops[row]];
  const largest = bars ? 1 : largestOf(values);
  const line = (value, i) => {
    const top = y + 4 + i * LINE;
    const share = Math.min(Math.abs(value) / largest, 1) || 0;
    const [width, strength] = bars ? [(BOX - 6) * share, 0.3] : [BOX - 6, 0.45 * share];
    const sign = value < 0 ? "below" : "above";
    return (
      `<rect class="${sign}" x="${x + 3}" y="${top}" width="${width}" height="${LINE}" fill-opacity="${strength}"/>` +
      `<text class="value" x="${x + BOX - 7}" y="${top + 12}">${(row === "h" || row === "y") && kind !== "back" ? portion(value) : number(value)}</text>`
    );
  };
  return `<g class="box ${kind}">${frame(place, row, t, name)}${values.map(line).join("")}</g>`;
}

function word(place, row, t, name, text, kind) {
  const [x, y] = [place.left(t) + BOX / 2, place.tops[row] + 17];
  const written = `<text class="word" x="${x}" y="${y}">${escaped(short(text))}</text>`;
  return `<g class="box ${kind}"><title>${escaped(text)}</title>${frame(place, row, t, name)}${written}</g>`;
}

function frame(place, row, t, name) {
  const [x, y] = [place.left(t), place.tops[row]];
  return (
    `<rect class="frame" x="${x}" y="${y}" width="${BOX}" height="${place.heights[row]}" rx="7"/>` +
    `<text class="name" x="${x + 1}" y="${y - 6}">${name}</text>`
  );
}

// Returns the end points of the arrows: upward within a step, and from h_{t-1} to a_t. Upward arrows pass the names.
function ways(place, t) {
  const right = place.left(t) + BOX - 10;
  const up = (from, to) => [
    [right, place.tops[from]],
    [right, place.tops[to] + place.heights[to]],
  ];
  const middle = (row) => place.tops[row] + place.heights[row] / 2;
  return {
    xa: up("x", "a"),
    ah: up("a", "h"),
    ho: up("h", "o"),
    oy: up("o", "y"),
    yL: up("y", "L"),
    over: [
      [t ? place.left(t - 1) + BOX : 36, middle("h")],
      [place.left(t), middle("a")],
    ],
  };
}

// Draws the boxes of step t with their contents and styles at the current position of the walk.
function columnOf(now, place, at, t) {
  const { run, lesson, dO, found } = now;
  const forwards = at.kind === "forward";
  const kind = forwards ? (t < at.t ? "done" : t === at.t ? "now" : "later") : "done";
  const onTheWay = !forwards && t <= at.t && t >= at.k;
  const i = t + 1;
  const plainly = (row, letters) => box(place, row, t, letter(letters, i), run[row][t], kind, { bars: row === "y" });
  const sentBack = (row, values) => box(place, row, t, gradientName(at.t + 1, row, i), values, "back");
  const ends = onTheWay && t === at.t;
  const target = `${letter("L", i)}<tspan dy="-3">: ${escaped(short(lesson.words[i], 7.5))}</tspan>`;
  const usedState = !forwards && t === at.k - 1;
  return [
    word(place, "L", t, target, number(now.losses[t]), ends ? "back" : kind),
    plainly("y", "y"),
    ends ? sentBack("o", dO[t]) : plainly("o", "o"),
    onTheWay
      ? sentBack("h", found[at.t][t].dh)
      : box(place, "h", t, letter("h", i), run.h[t], usedState ? "used" : kind),
    onTheWay ? sentBack("a", found[at.t][t].da) : plainly("a", "a"),
    word(place, "x", t, letter("x", i), lesson.words[t], !forwards && t === at.k ? "used" : kind),
  ].join("");
}

const LETTERS = { xa: "U", ah: "g", ho: "V", over: "W" };

// Draws the arrows of step t; the width of a backward arrow shows how much of the gradient of L_t is left.
function arrows(now, place, at, t) {
  const kind = at.kind === "backward" ? "faint" : t === at.t ? "now" : t < at.t ? "done" : "later";
  const back = at.kind === "backward" ? backwards(now, at, t) : {};
  return Object.entries(ways(place, t))
    .map(([name, way]) => {
      const [from, to] = way;
      const bent = name === "over";
      const beside = bent
        ? [to[0] - 19, from[1] + 0.35 * (to[1] - from[1])]
        : [from[0] + 11, (from[1] + to[1]) / 2 + 4];
      const drawn = name in back ? arrow([to, from], "back", { bent, width: back[name] }) : arrow(way, kind, { bent });
      return drawn + (name in LETTERS ? label(LETTERS[name], kind, beside) : "");
    })
    .join("");
}

// Returns the widths of the arrows of step t that the gradient passes, by name.
function backwards(now, at, t) {
  if (t > at.t || t < at.k) return {};
  const lengths = now.found[at.t].map(({ dh }) => norm(dh));
  const most = Math.max(...lengths.slice(at.k), 1e-300);
  const width = (j) => Math.max(0.7, (9 * lengths[j]) / most) || 0.7;
  const fromLoss = t === at.t ? { yL: 1.5, oy: 1.5, ho: width(t) } : {};
  return { ...fromLoss, ah: width(t), ...(t > at.k ? { over: width(t - 1) } : {}) };
}

function drawing(now, at, room) {
  const { lesson } = now;
  const T = now.run.h.length;
  const place = layout(T, now.run.h[0].length, lesson.vocabulary.length, room);
  const steps = [...Array(T).keys()];
  const labels = ["y", "o"].flatMap((row) =>
    lesson.vocabulary.map(
      (text, i) =>
        `<text class="unit" x="${LEFT - 8}" y="${place.tops[row] + 16 + i * LINE}">${escaped(short(text))}</text>`,
    ),
  );
  const y = place.tops.h + place.heights.h / 2;
  const start =
    `<g class="box done"><rect class="frame" x="2" y="${y - 13}" width="34" height="26" rx="7"/>` +
    `<text class="word" x="19" y="${y + 4}">0</text>` +
    `<text class="name" x="3" y="${y - 19}">${letter("h", 0)}</text></g>`;
  const size = `viewBox="0 0 ${place.width} ${place.height}" width="${place.width}" height="${place.height}"`;
  return (
    `<svg ${size} role="img" aria-label="${said(at, lesson)}">` +
    `${labels.join("")}${start}${steps.map((t) => arrows(now, place, at, t)).join("")}` +
    `${steps.map((t) => columnOf(now, place, at, t)).join("")}</svg>`
  );
}

function said(at, lesson) {
  const where =
    at.kind === "forward"
      ? `forward, step ${at.t + 1}`
      : `backward, from the loss of step ${at.t + 1} to step ${at.k + 1}`;
  const sentence = escaped(lesson.words.join(" "));
  return `The unfolded network on “${sentence}”: ${where}. The text beside it has the numbers of this position.`;
}
