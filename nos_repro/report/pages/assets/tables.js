// Every table: a press on a heading sorts, a field filters, two buttons hand it over as CSV or JSON,
// and a link to a row or cell shows beside it.
const MEASURED = /^(\S+)(?:\s±\s(\S+))?\s\((\d+)\)/; // mean ± spread (runs)
const FILTERED_FROM = 9;

function textOf(cell) {
  const value = cell.querySelector(":scope > :is(b, span:not(.badge), button)");
  return (value ?? cell).textContent.trim().replaceAll("\u00a0", " ");
}

// The number that a text begins with; NaN for none.
function numberOf(text) {
  const found = text.replaceAll(",", "").match(/^[([<\s]*([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i);
  return found ? Number(found[1]) : NaN;
}

function enhanceTable(box) {
  const table = box.querySelector("table");
  const [body] = table.tBodies;
  const heads = [...table.tHead.rows[0].cells];
  const titles = heads.map((head) => head.textContent);
  const original = [...body.rows];
  const initial = heads.map((head) => head.getAttribute("aria-sort"));
  const isNumeric = heads.map((_, n) => original.some((row) => !Number.isNaN(numberOf(textOf(row.cells[n])))));

  function sort(n) {
    const now = heads[n].getAttribute("aria-sort");
    const [first, second] = isNumeric[n] ? ["descending", "ascending"] : ["ascending", "descending"];
    const way = now === null ? first : now === first ? second : null;
    heads.forEach((head, m) => mark(head, way === null ? initial[m] : m === n ? way : null));
    const rows = way === null ? original : ordered(n, way === "ascending" ? 1 : -1);
    body.append(...rows);
  }

  function ordered(n, sign) {
    const keys = new Map(original.map((row) => {
      const text = textOf(row.cells[n]);
      return [row, isNumeric[n] ? numberOf(text) : text];
    }));
    return [...original].sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (!isNumeric[n]) return sign * a.localeCompare(b, undefined, { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // none last
      return sign * (a - b);
    });
  }

  function mark(head, way) {
    if (way === null) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", way);
  }

  heads.forEach((head, n) => {
    head.replaceChildren(make("button", { type: "button", class: "sort", onclick: () => sort(n) }, titles[n]));
  });

  // A measured cell becomes three fields: mean, spread, runs; a verdict a field of its own.
  function records() {
    const rows = [...body.rows];
    const measured = heads.map((_, n) => rows.some((row) => MEASURED.test(textOf(row.cells[n]))));
    const judged = heads.map((_, n) => rows.some((row) => row.cells[n].querySelector(".badge")));
    return rows.map((row) => {
      const fields = {};
      titles.forEach((title, n) => {
        const cell = row.cells[n];
        const text = textOf(cell);
        const badge = cell.querySelector(".badge");
        if (!badge || text) fields[title] = plainValue(text);
        if (measured[n]) {
          const [, mean, spread, runs] = text.match(MEASURED) ?? [];
          Object.assign(fields, { [title]: mean ? plainValue(mean) : text, [`${title}, std`]: plainValue(spread ?? ""), [`${title}, runs`]: plainValue(runs ?? "") });
        }
        if (judged[n]) fields[title === "verdict" ? title : `${title}, verdict`] = badge ? badge.lastChild.textContent.trim() : "";
      });
      return fields;
    });
  }

  const tools = make("div", { class: "tools" });
  if (original.length >= FILTERED_FROM) {
    const label = box.querySelector("[aria-label]").getAttribute("aria-label");
    const found = make("output", {});
    const field = make("input", { type: "search", placeholder: "filter rows", "aria-label": `Filter rows: ${label}`, oninput: () => {
      const words = field.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of original) {
        const said = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => said.includes(word));
        shown += !row.hidden;
      }
      found.textContent = field.value ? `${shown} of ${original.length}` : "";
    } });
    tools.append(field, found);
  }
  const { name } = box.dataset;
  tools.append(
    make("button", { type: "button", class: "get", "aria-label": `${name} as CSV`, onclick: () => save(`${name}.csv`, "text/csv", csv(records())) }, "CSV"),
    make("button", { type: "button", class: "get", "aria-label": `${name} as JSON`, onclick: () => save(`${name}.json`, "application/json", JSON.stringify(records(), null, 2)) }, "JSON"),
  );
  box.prepend(tools);
  hintAtScrolling(box);
}

function plainValue(text) {
  return /^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?$/i.test(text) ? Number(text.replaceAll(",", "")) : text;
}

function csv(records) {
  const keys = Object.keys(records[0] ?? {});
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  return [keys, ...records.map((one) => keys.map((key) => one[key]))].map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function hintAtScrolling(box) {
  const wide = box.querySelector(".wide");
  const hint = make("p", { class: "hint", hidden: true }, "↔ scrolls sideways");
  box.append(hint);
  new ResizeObserver(() => { hint.hidden = wide.scrollWidth <= wide.clientWidth + 1; }).observe(wide);
}

// One link for all rows and cells: it shows beside the one that is pointed at, or has the focus.
function permalinks() {
  const link = make("a", { class: "permalink", "aria-label": "Link to this cell" }, "#");
  const follow = ({ target }) => {
    if (document.activeElement === link || target === link) return;
    const cell = target.closest?.(".table tbody :is(th, td)");
    const id = cell && (cell.id || (cell.matches("th") && cell.parentElement.id));
    if (!id) return;
    link.href = `#${id}`;
    cell.append(link);
  };
  addEventListener("mouseover", follow);
  addEventListener("focusin", follow);
}

function startTables() {
  document.querySelectorAll(".table").forEach(enhanceTable);
  permalinks();
}
startTables();
