// What is behind a number: the row's choice, verdicts, trials, settings and machines.
const behind = data("behind-data");
const TRIAL = ["stage", "trial", "settings", "seed", "ended", "value that chooses", "seconds", "commit", "remarks", "log", "chosen"];
const SHOWN = ["trial", "stage", "settings", "seed", "ended", "value that chooses", "seconds", "commit", "remarks"];
const WORDY = new Set(["stage", "settings", "ended", "commit", "remarks"]);

function trialsOf(row) {
  return row.trials.map((values) => Object.fromEntries(TRIAL.map((key, n) => [key, WORDY.has(key) ? behind.words[values[n]] : values[n]])));
}

function listOf(lines, attributes = {}) {
  return make("ul", attributes, ...lines.map((line) => make("li", {}, line)));
}

function pairs(entries, attributes = {}) {
  return make("dl", attributes, ...entries.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value))));
}

function trialTable(row, name) {
  const trials = trialsOf(row);
  const head = make("tr", {}, ...SHOWN.map((key) => make("th", { scope: "col" }, key)));
  const lines = trials.map((trial) => {
    const said = { ...trial, "value that chooses": trial["value that chooses"] ?? "-", seconds: trial.seconds ?? "-" };
    if (trial.chosen) said.trial += " ★ chosen";
    if (trial.log) said.remarks = [trial.remarks, trial.log].filter(Boolean).join("; ");
    const cells = SHOWN.slice(1).map((key) => make("td", { class: /settings|remarks/.test(key) ? false : "number" }, make("span", {}, String(said[key]))));
    return make("tr", { id: `trial-${trial.trial}`, class: trial.chosen ? "chosen" : false }, make("th", { scope: "row" }, make("span", {}, said.trial)), ...cells);
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
  const wide = make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Trials of ${row.row}` }, table);
  return make("div", { class: "table", "data-name": name }, wide);
}

function fill(box, number) {
  const row = behind.rows[number];
  const { id } = rowElements[number] ?? {};
  const without = row.trials.filter((trial) => trial[6] !== null && !trial[9]).length;
  const table = trialTable(row, `${id ?? "row"}-trials`);
  const verdicts = row.verdicts.map(([kind, sign, word, why]) =>
    make("p", {}, make("span", { class: `badge ${kind}` }, make("span", { "aria-hidden": "true" }, sign), ` ${word}`), ` ${why}`));
  box.replaceChildren(
    make("button", { type: "button", class: "close", "aria-label": "close", autofocus: true, onclick: () => box.hidePopover() }, "✕"),
    make("h2", { id: "provenance-title" }, row.row, " ", make("a", { class: "permalink", href: `#why.${id}`, "aria-label": "Link to this" }, "#")),
    make("p", { class: "quiet" }, row.protocol),
    pairs([...row.numbers, ["chosen", row.chosen]]),
    ...verdicts,
    row.problems.length ? listOf(row.problems, { class: "state" }) : make("p", { class: "quiet" }, "Nothing is missing, stale or failed."),
    make("h3", {}, "Trials"),
    table,
    make("p", { class: "quiet", hidden: !without }, `${without} of ${row.trials.length} trials: no log here (the record came with the repository).`),
    make("details", {}, make("summary", {}, "All settings of the trials that count"), pairs(row.settings, { class: "settings" })),
    make("h3", {}, "Code and machines"),
    listOf(row.origin),
  );
  enhanceTable(table);
}

const rowElements = {};

function startBehind() {
  const box = make("div", { popover: "auto", id: "provenance", class: "behind", role: "dialog", "aria-labelledby": "provenance-title" });
  document.body.append(box);
  const show = (number) => {
    fill(box, number);
    if (!box.matches(":popover-open")) box.showPopover();
    box.scrollTop = 0;
  };
  for (const value of document.querySelectorAll("[data-opens]")) {
    const number = value.dataset.opens;
    rowElements[number] = value.closest("tr");
    const button = make("button", { type: "button", class: value.matches("b") ? "opens best" : "opens", "aria-haspopup": "dialog", onclick: () => show(number) }, ...value.childNodes);
    value.replaceWith(button);
  }
  const byAddress = () => {
    const asked = decodeURIComponent(location.hash.slice(1));
    const trial = asked.startsWith("trial-") && asked.slice(6);
    const found = behind.rows.findIndex((row, n) => `why.${rowElements[n]?.id}` === asked || (trial && row.trials.some((one) => one[1] === trial)));
    if (found < 0) return;
    show(found);
    document.getElementById(asked)?.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", byAddress);
  byAddress();

  const all = make("button", { type: "button", class: "get", onclick: () => {
    const rows = behind.rows.flatMap((row) => trialsOf(row).map((trial) => ({ row: row.row, ...trial })));
    save(`${document.querySelector(".table").dataset.name}-trials.csv`, "text/csv", csv(rows));
  } }, "all trials as CSV");
  document.querySelector(".tools")?.append(all);
  document.querySelectorAll(".when-scripted").forEach((one) => { one.hidden = false; });
}
if (behind) startBehind();
