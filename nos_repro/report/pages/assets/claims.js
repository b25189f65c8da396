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
  form.hidden = false;
  apply();
}
document.querySelectorAll("form.filter").forEach(filterClaims);
