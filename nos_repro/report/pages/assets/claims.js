// The filter of the index's claims.
function filterClaims(form) {
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
  form.append(...["CSV", "JSON"].map((kind) => make("button", { type: "button", class: "get", "aria-label": `claims as ${kind}`, onclick: () => {
    const rows = claimRows();
    if (kind === "CSV") save("claims.csv", "text/csv", csv(rows));
    else save("claims.json", "application/json", JSON.stringify(rows, null, 2));
  } }, kind)));
  form.hidden = false;
  apply();
}

// A line for each claim that the page shows, and each of its scales.
function claimRows() {
  return data("document").claims.filter(({ id }) => document.getElementById(id)).flatMap(({ id, says, place, source, findings }) =>
    findings.map(({ scale, verdict, reason }) => ({ claim: id, says, place, source, scale, verdict, reason })));
}
document.querySelectorAll("form.filter").forEach(filterClaims);
