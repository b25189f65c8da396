// The charts, their choices, and one legend for all of them. Names are escaped for Plotly by charts.py.
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
    const rows = state.chart.keys.filter((key) => !hidden.has(key)).length;
    layout.height = 120 + layout.meta.row_height * Math.max(3, rows);
    state.plot.style.minHeight = state.plot.style.height = `${layout.height}px`;
  }
  if (printing) layout.width = 660;
  else layout.autosize = true;
  return layout;
}

// What lies within a spread of a line; the pointer does not see it.
function band({ legendgroup, x, y, customdata, meta }) {
  const edge = (sign) => y.map((value, n) => (value === null || customdata[n] === null ? null : value + sign * customdata[n]));
  return { type: "scatter", mode: "lines", legendgroup, x: [...x, ...x.toReversed()], y: [...edge(1), ...edge(-1).toReversed()],
    fill: "toself", fillcolor: meta, line: { width: 0 }, hoverinfo: "skip" };
}

function draw(state) {
  const colours = theme();
  const lines = state.variant.data;
  const traces = [...lines.filter((trace) => trace.meta).map(band), ...lines].map((trace) => look(trace, colours));
  const config = { responsive: true, displayModeBar: innerWidth < 640 || state.variant.layout.meta ? false : "hover", displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  Plotly.react(state.plot, traces, layoutOf(state, colours), config);
}

function redraw() {
  drawn.forEach(draw);
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

// The buttons of the lines: a press hides or shows one in every chart, two show it alone.
function legend(box, lines, choices) {
  const every = lines.map((line) => line.key);
  const only = (keys) => {
    hidden.clear();
    every.filter((key) => !keys.includes(key)).forEach((key) => hidden.add(key));
    show();
  };
  const buttons = lines.map((line) => make("button", {
    type: "button", "data-key": line.key, title: "press: hide or show; twice: alone",
    onclick: () => { if (!hidden.delete(line.key)) hidden.add(line.key); show(); },
    ondblclick: () => only([line.key]),
  }, swatch(line), line.name));
  const sets = [...choices, ["all", every], ["none", []]].map(([words, keys]) =>
    make("button", { type: "button", onclick: () => only(keys) }, words));
  const show = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.key)));
    redraw();
  };
  box.append(make("div", { class: "choices", hidden: lines.length < 4 }, "Show ", ...sets), make("div", { class: "lines" }, ...buttons));
  box.hidden = false;
  show();
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
  figure.querySelector(".controls").hidden = !choices.length && !state.log;
  choose();
  drawn.push(state);
}

function startCharts({ lines, choices, charts }) {
  lines.filter((line) => line.hidden).forEach((line) => hidden.add(line.key));
  charts.forEach(start);
  document.querySelectorAll("details.static").forEach((one) => { one.open = false; });
  const box = document.querySelector(".legend");
  if (box) legend(box, lines, choices);
  else redraw();
  dark.addEventListener("change", redraw);
}

const found = data("chart-data");
if (found.charts.length) startCharts(found);
addEventListener("beforeprint", () => {
  printing = true;
  document.querySelectorAll("details:is(.static, .printed)").forEach((one) => { one.open = true; });
  redraw();
});
addEventListener("afterprint", () => { printing = false; redraw(); });
