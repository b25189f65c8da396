"use strict";
// The page's own script: the charts, their choices, one legend's state for all of them, the filter
// of the claims. Names reach the page as text alone (textContent), or escaped for Plotly by charts.py.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const drawn = [];
  let printing = false;

  function theme() {
    const light = printing || !dark.matches;
    return light
      ? { ink: "#1d2227", grid: "#e6e9ec", line: "#c3cad1", card: "#ffffff" }
      : { ink: "#e4e7ea", grid: "#2b3138", line: "#48515b", card: "#1b1f24" };
  }

  // Black does not show on a dark page: it becomes the colour of the text.
  function themed(value, ink) {
    if (value === "#000000") return ink;
    if (Array.isArray(value) || value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, themed(one, ink)]));
  }

  function look(trace, { ink }) {
    const copy = { ...trace, visible: !hidden.has(trace.legendgroup) };
    for (const part of ["line", "marker"]) if (copy[part]) copy[part] = themed(copy[part], ink);
    if (copy.fillcolor && ink !== "#1d2227") copy.fillcolor = copy.fillcolor.replace("rgba(0,0,0,", "rgba(228,231,234,");
    return copy;
  }

  function layoutOf(state, colours) {
    const layout = structuredClone(state.variant.layout);
    const narrow = !printing && innerWidth < 640;
    layout.font = { family: "system-ui, sans-serif", size: narrow ? 11 : 13, color: colours.ink };
    layout.hoverlabel = { bgcolor: colours.card, bordercolor: colours.line, font: { color: colours.ink }, align: "left" };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      Object.assign(layout[name], { gridcolor: colours.grid, linecolor: colours.line, zerolinecolor: colours.line });
    }
    layout.dragmode = narrow ? false : "zoom";
    if (state.log && (layout.yaxis.type === "log") !== state.log.checked) {
      layout.yaxis.type = state.log.checked ? "log" : "linear";
      delete layout.yaxis.range;
    }
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colours.line, activecolor: colours.ink };
    if (layout.meta) {
      const rows = state.chart.lines.filter((line) => !hidden.has(line.key)).length;
      layout.height = 120 + layout.meta.row_height * Math.max(3, rows);
      state.plot.style.minHeight = state.plot.style.height = `${layout.height}px`;
    }
    if (printing) layout.width = 660;
    else layout.autosize = true;
    return layout;
  }

  function draw(state) {
    const colours = theme();
    const data = state.variant.data.map((trace) => look(trace, colours));
    const config = { responsive: true, displayModeBar: innerWidth < 640 ? false : "hover", displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    Plotly.react(state.plot, data, layoutOf(state, colours), config);
  }

  function redraw() {
    drawn.forEach(draw);
  }

  function legend(state) {
    const box = state.figure.querySelector(".legend");
    for (const line of state.chart.lines) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.key = line.key;
      button.append(swatch(line), document.createTextNode(line.name));
      button.addEventListener("click", () => {
        if (hidden.has(line.key)) hidden.delete(line.key);
        else hidden.add(line.key);
        legends();
      });
      button.addEventListener("dblclick", () => {
        keysOf(state).forEach((key) => hidden.add(key));
        hidden.delete(line.key);
        legends();
      });
      box.append(button);
    }
  }

  function swatch(line) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const mark = document.createElementNS(space, line.dash === "dot" ? "circle" : "line");
    const colour = line.colour === "#000000" ? "currentColor" : line.colour;
    const places = line.dash === "dot" ? { cx: 12, cy: 5, r: 4, fill: colour } : { x1: 0, y1: 5, x2: 24, y2: 5, stroke: colour, "stroke-width": 3 };
    for (const [key, value] of Object.entries({ width: 24, height: 10, "aria-hidden": true })) svg.setAttribute(key, value);
    for (const [key, value] of Object.entries(places)) mark.setAttribute(key, value);
    if (line.dash.includes("px")) mark.setAttribute("stroke-dasharray", line.dash.replaceAll("px", ""));
    svg.append(mark);
    return svg;
  }

  const keysOf = (state) => state.chart.lines.map((line) => line.key);

  // After a row was hidden or shown, in one chart, all charts follow.
  function legends() {
    for (const button of document.querySelectorAll(".legend button")) {
      button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.key)));
    }
    redraw();
  }

  function start(chart) {
    const figure = document.querySelector(`[data-chart="${chart.name}"]`);
    const plot = figure.querySelector(".plot");
    const choices = [...figure.querySelectorAll("select")];
    const state = { chart, figure, plot, log: figure.querySelector(".log"), variant: chart.variants[0] };
    const choose = () => {
      const keys = choices.map((choice) => choice.value);
      state.variant = chart.variants.find((one) => one.keys.every((key, n) => key === keys[n]));
      if (state.log) state.log.checked = state.variant.layout.yaxis.type === "log";
    };
    choices.forEach((choice) => choice.addEventListener("change", () => { choose(); draw(state); }));
    if (state.log) state.log.addEventListener("change", () => draw(state));
    const all = figure.querySelector(".all");
    if (all) {
      all.addEventListener("click", () => { keysOf(state).forEach((key) => hidden.delete(key)); legends(); });
      figure.querySelector(".none").addEventListener("click", () => { keysOf(state).forEach((key) => hidden.add(key)); legends(); });
    }
    chart.lines.filter((line) => line.hidden).forEach((line) => hidden.add(line.key));
    figure.querySelector(".controls").hidden = false;
    legend(state);
    choose();
    drawn.push(state);
  }

  function filter(form) {
    const items = [...document.querySelectorAll(".filtered > li")];
    const apply = () => {
      const { verdict, scale, text } = Object.fromEntries(new FormData(form));
      const words = text.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const item of items) {
        const said = item.textContent.toLowerCase();
        const fits = (!verdict || item.dataset.verdict === verdict) && (!scale || item.dataset.scale === scale) && words.every((word) => said.includes(word));
        item.hidden = !fits;
        shown += fits;
      }
      form.querySelector("output").textContent = `${shown} of ${items.length}`;
    };
    for (const kind of ["input", "change"]) form.addEventListener(kind, apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }

  charts.forEach(start);
  if (charts.length) {
    document.querySelectorAll("details.static").forEach((one) => { one.open = false; });
    legends();
  }
  document.querySelectorAll("form.filter").forEach(filter);
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    printing = true;
    document.querySelectorAll("details.static").forEach((one) => { one.open = true; });
    redraw();
  });
  addEventListener("afterprint", () => { printing = false; redraw(); });
})();
