"use strict";
(() => {
  const touch = matchMedia("(pointer: coarse)").matches;
  // plotly.js reports a tap as a double click, so on touch screens only the buttons reset the zoom.
  const options = { responsive: true, displayModeBar: false, showTips: false, doubleClick: touch ? false : "reset" };

  // Returns a figure with the CSS variables in its colors, such as "var(--ink)", replaced by their values.
  function figure(name) {
    const style = getComputedStyle(document.documentElement);
    const text = document.getElementById(`${name}-figure`).textContent;
    return JSON.parse(text.replace(/var\((--[\w-]+)\)/g, (_, colour) => style.getPropertyValue(colour).trim()));
  }

  class Chart {
    constructor(box) {
      this.box = box;
      this.plot = box.querySelector(".plot");
      this.draw();
      box.querySelectorAll("[data-line]").forEach((key) => key.addEventListener("click", () => this.toggle(key)));
      box.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => this[button.dataset.zoom]()));
      this.plot.addEventListener("keydown", (event) => this.press(event));
    }

    draw() {
      const { data, layout } = figure(this.box.id);
      this.first = structuredClone(layout);
      for (const key of this.box.querySelectorAll("[data-line][aria-pressed=false]")) data[key.dataset.line].visible = false;
      layout.dragmode = touch ? false : "zoom"; // a finger on a chart scrolls the page
      return Plotly.react(this.plot, data, layout, options);
    }

    toggle(key) {
      const shown = key.getAttribute("aria-pressed") !== "true";
      key.setAttribute("aria-pressed", shown);
      Plotly.restyle(this.plot, { visible: shown }, [Number(key.dataset.line)]);
    }

    // Moves the horizontal axis by a fraction of its width, and scales it by a factor.
    view(move, width) {
      const [from, to] = this.plot._fullLayout.xaxis.range;
      const middle = (from + to) / 2 + move * (to - from), half = (width * (to - from)) / 2;
      Plotly.relayout(this.plot, { "xaxis.range": [middle - half, middle + half], dragmode: touch ? "pan" : "zoom" });
    }

    in() { this.view(0, 0.5); }

    out() { this.view(0, 2); }

    whole() {
      const change = { dragmode: touch ? false : "zoom" };
      for (const axis of ["xaxis", "yaxis"]) {
        const range = this.first[axis].range;
        if (range) change[`${axis}.range`] = [...range];
        else change[`${axis}.autorange`] = this.first[axis].autorange || true;
      }
      Plotly.relayout(this.plot, change);
    }

    press(event) {
      const does = {
        ArrowLeft: () => this.view(-0.2, 1), ArrowRight: () => this.view(0.2, 1), "+": () => this.in(),
        "=": () => this.in(), "-": () => this.out(), 0: () => this.whole(),
      }[event.key];
      if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      does();
    }
  }

  // Steps through the rows of a heatmap: marks the row and shows it in a line chart.
  class Player {
    constructor(box, charts) {
      this.map = charts[box.dataset.map];
      this.row = charts[box.dataset.row];
      this.slider = box.querySelector("input");
      this.button = box.querySelector(".play");
      this.output = box.querySelector("output");
      this.slider.addEventListener("input", () => { this.stop(); this.show(); });
      this.button.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
      this.map.plot.on("plotly_click", (event) => {
        this.slider.value = event.points[0].pointIndex[0];
        this.stop();
        this.show();
      });
      this.show();
    }

    show() {
      const { y: steps, customdata: rows } = this.map.plot.data[0];
      const i = Number(this.slider.value), t = steps[i], row = rows[i];
      Plotly.restyle(this.row.plot, { y: [row] });
      Plotly.relayout(this.row.plot, { "shapes[0].x0": t, "shapes[0].x1": t });
      Plotly.relayout(this.map.plot, { "shapes[0].y0": t, "shapes[0].y1": t });
      const first = row.findIndex((value, k) => k <= t && value >= 0.01 * row[t]);
      const reach = row[t] ? `at least 1% of the gradient remains up to ${t - first} steps back` : "no gradient";
      this.output.textContent = `t = ${t}: ${reach}`;
      this.slider.setAttribute("aria-valuetext", `step ${t}`);
    }

    play() {
      if (this.slider.value === this.slider.max) this.slider.value = 0;
      this.label("Pause", true);
      this.timer = setInterval(() => {
        this.slider.value = Number(this.slider.value) + 1;
        this.show();
        if (this.slider.value === this.slider.max) this.stop();
      }, 120);
    }

    stop() {
      clearInterval(this.timer);
      this.timer = null;
      this.label("Play", false);
    }

    label(text, playing) {
      this.button.textContent = text;
      this.button.setAttribute("aria-pressed", playing);
    }
  }

  const charts = {};
  document.querySelectorAll(".chart").forEach((box) => { charts[box.id] = new Chart(box); });
  const players = [...document.querySelectorAll(".player")].map((box) => new Player(box, charts));
  function redraw() {
    for (const chart of Object.values(charts)) chart.draw();
    players.forEach((player) => player.show());
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // In dark mode, redraw the charts with light colors for printing.
  for (const [event, paper] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("paper", paper);
      if (matchMedia("(prefers-color-scheme: dark)").matches) redraw();
    });
  }
})();
