// The unfolded network as a drawing: a column for each step, in it from below x_t, a_t, h_t, o_t, y_t and L_t.

const LINE = 16, BOX = 66, GAP = 34, LEFT = 76, TOP = 34;

// Where the boxes stand. Heights follow from the number of units and of words, widths from the room there is.
function layout(T, H, D, room) {
  const pitch = Math.max(BOX + 28, Math.min(BOX + 76, (room - LEFT) / T));
  const heights = { L: 26, y: D * LINE + 8, o: D * LINE + 8, h: H * LINE + 8, a: H * LINE + 8, x: 26 };
  const tops = {};
  let top = TOP;
  for (const row in heights) {
    tops[row] = top;
    top += heights[row] + GAP;
  }
  return { heights, tops, left: (t) => LEFT + t * pitch, pitch, width: LEFT + T * pitch - (pitch - BOX) + 12, height: top - 8 };
}

const letter = (name, index) => `<tspan class="letter">${name}</tspan><tspan dy="3" class="index">${index}</tspan>`;

function arrow(path, kind, { width = 1.5, label = "", at = [0, 0] } = {}) {
  const head = kind.includes("back") ? "back" : kind.includes("now") ? "now" : "plain";
  return `<path class="arrow ${kind}" d="${path}" style="stroke-width:${width.toFixed(2)}px" marker-end="url(#head-${head})"/>` +
    (label ? `<text class="label ${kind}" x="${at[0]}" y="${at[1]}">${label}</text>` : "");
}

const heads = ["plain", "now", "back"].map((kind) =>
  `<marker id="head-${kind}" class="head ${kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" ` +
  `markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 8 4 0 7.5z"/></marker>`).join("");

// A box of numbers. `kind` says how it looks: done, now, later, back, or used.
function box(place, row, t, name, values, kind, { bars = false, decimals = 3 } = {}) {
  const [x, y] = [place.left(t), place.tops[row]];
  const largest = largestOf(values);
  const lines = values.map((value, i) => {
    const top = y + 4 + i * LINE;
    const share = Math.min(Math.abs(value) / (bars ? 1 : largest), 1) || 0;
    const ground = bars
      ? `<rect class="share" x="${x + 3}" y="${top + 1}" width="${((BOX - 6) * share).toFixed(2)}" height="${LINE - 2}"/>`
      : `<rect class="${value < 0 ? "below" : "above"}" x="${x + 3}" y="${top}" width="${BOX - 6}" height="${LINE}" fill-opacity="${(0.45 * share).toFixed(3)}"/>`;
    return `${ground}<text class="value" x="${x + BOX - 7}" y="${top + 12}">${number(value, decimals)}</text>`;
  });
  return `<g class="box ${kind}"><rect class="frame" x="${x}" y="${y}" width="${BOX}" height="${place.heights[row]}" rx="7"/>` +
    `<text class="name" x="${x + 1}" y="${y - 6}">${name}</text>${lines.join("")}</g>`;
}

function word(place, row, t, name, text, kind) {
  const [x, y] = [place.left(t), place.tops[row]];
  return `<g class="box ${kind}"><title>${escaped(text)}</title>` +
    `<rect class="frame" x="${x}" y="${y}" width="${BOX}" height="${place.heights[row]}" rx="7"/>` +
    (name ? `<text class="name" x="${x + 1}" y="${y - 6}">${name}</text>` : "") +
    `<text class="word" x="${x + BOX / 2}" y="${y + 17}">${escaped(short(text))}</text></g>`;
}

// The way from one box to the next: up within a step, or from h_{t-1} over to a_t.
function ways(place) {
  const middle = (t) => place.left(t) + BOX / 2;
  const bottom = (row) => place.tops[row] + place.heights[row];
  return {
    up: (t, from, to) => [[middle(t), place.tops[from]], [middle(t), bottom(to)]],
    over: (t) => [
      [t ? place.left(t - 1) + BOX : 36, place.tops.h + place.heights.h / 2],
      [place.left(t), place.tops.a + place.heights.a / 2],
    ],
  };
}

const straight = ([from, to]) => `M${from}L${to}`;
function curve([from, to]) {
  const bend = Math.max(14, (to[0] - from[0]) * 0.55);
  return `M${from}C${from[0] + bend} ${from[1]} ${to[0] - bend} ${to[1]} ${to}`;
}

// What the boxes of step t hold and how they look at this place of the walk.
function column(now, place, at, t) {
  const { run, lesson, dO, found } = now;
  const forwards = at.kind === "forward";
  const kind = forwards ? (t < at.t ? "done" : t === at.t ? "now" : "later") : "done";
  const onTheWay = !forwards && t <= at.t && t >= at.k;
  const i = t + 1;
  const plainly = (row, letters) => box(place, row, t, letter(letters, i), run[row][t], kind, { bars: row === "y" });
  const sentBack = (row, values) =>
    box(place, row, t, `<tspan class="letter">dL</tspan><tspan dy="3" class="index">${at.t + 1}</tspan><tspan dy="-3">/</tspan><tspan class="letter">d${row}</tspan><tspan dy="3" class="index">${i}</tspan>`, values, "back");
  const ends = onTheWay && t === at.t;
  const usedState = !forwards && t === at.k - 1;
  return [
    word(place, "L", t, "", number(now.losses[t]), ends ? "back" : kind),
    plainly("y", "y"),
    ends ? sentBack("o", dO[t]) : plainly("o", "o"),
    onTheWay ? sentBack("h", found[at.t][t].dh) : box(place, "h", t, letter("h", i), run.h[t], usedState ? "used" : kind),
    onTheWay ? sentBack("a", found[at.t][t].da) : plainly("a", "a"),
    word(place, "x", t, letter("x", i), lesson.words[t], !forwards && t === at.k ? "used" : kind),
    `<text class="loss" x="${place.left(t) + 1}" y="${place.tops.L - 7}">${letter("L", i)} <tspan dy="-3">for “${escaped(short(lesson.words[i], 6))}”</tspan></text>`,
  ].join("");
}

function arrows(now, place, at, t) {
  const way = ways(place);
  const forwards = at.kind === "forward";
  const kind = forwards ? (t === at.t ? "now" : t < at.t ? "done" : "later") : "faint";
  const name = (text) => `<tspan class="letter">${text}</tspan>`;
  const up = (from, to, label) => {
    const ends = way.up(t, from, to);
    return arrow(straight(ends), kind, { label, at: [ends[0][0] + 7, (ends[0][1] + ends[1][1]) / 2 + 4] });
  };
  const over = way.over(t);
  const drawn = [
    up("x", "a", name("U")), up("a", "h", name("g")), up("h", "o", name("V")), up("o", "y", ""), up("y", "L", ""),
    arrow(curve(over), kind, { label: name("W"), at: [(over[0][0] + over[1][0]) / 2 + 7, (over[0][1] + over[1][1]) / 2 - 6] }),
  ];
  return drawn.join("") + (forwards ? "" : backArrows(now, at, t, way));
}

// The way back: the width of an arrow says how much of the gradient of L_t is left there.
function backArrows(now, at, t, way) {
  const lengths = now.found[at.t].slice(at.k, at.t + 1).map(({ dh }) => norm(dh));
  const width = (j) => Math.max(0.6, (9 * lengths[j - at.k]) / Math.max(...lengths, 1e-300)) || 0.6;
  const reversed = ([from, to]) => [to, from];
  const drawn = [];
  if (t === at.t) {
    for (const [from, to] of [["y", "L"], ["o", "y"]]) drawn.push(arrow(straight(reversed(way.up(t, from, to))), "back", { width: 2 }));
    drawn.push(arrow(straight(reversed(way.up(t, "h", "o"))), "back", { width: width(t) }));
  }
  if (t <= at.t && t >= at.k) drawn.push(arrow(straight(reversed(way.up(t, "a", "h"))), "back", { width: width(t) }));
  if (t <= at.t && t > at.k) drawn.push(arrow(curve(reversed(way.over(t))), "back", { width: width(t - 1) }));
  return drawn.join("");
}

function drawing(now, at, room) {
  const { lesson } = now;
  const T = now.run.h.length;
  const place = layout(T, now.run.h[0].length, lesson.vocabulary.length, room);
  const steps = [...Array(T).keys()];
  const labels = ["y", "o"].flatMap((row) => lesson.vocabulary.map((text, i) =>
    `<text class="unit" x="${LEFT - 8}" y="${place.tops[row] + 16 + i * LINE}">${escaped(short(text))}</text>`));
  const [x, y] = [14, place.tops.h + place.heights.h / 2];
  const start = `<g class="box done"><rect class="frame" x="2" y="${y - 13}" width="34" height="26" rx="7"/><text class="word" x="19" y="${y + 4}">0</text>` +
    `<text class="name" x="3" y="${y - 19}">${letter("h", 0)}</text></g>`;
  return `<svg viewBox="0 0 ${place.width} ${place.height}" width="${place.width}" height="${place.height}" role="img" aria-label="${said(at, lesson)}">` +
    `<defs>${heads}</defs>${labels.join("")}${start}${steps.map((t) => arrows(now, place, at, t)).join("")}` +
    `${steps.map((t) => column(now, place, at, t)).join("")}</svg>`;
}

function said(at, lesson) {
  const where = at.kind === "forward" ? `forward, step ${at.t + 1}` : `backward, from the loss of step ${at.t + 1} to step ${at.k + 1}`;
  return `The unfolded network on “${escaped(lesson.words.join(" "))}”: ${where}. All its numbers are in the text beside it.`;
}
