"use strict";
for (const box of document.querySelectorAll("[data-table]")) {
  const table = box.querySelector("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  // a click on a header sorts by its column: numbers from the highest, names from A
  const key = (row, at) => {
    const cell = row.cells[at];
    const number = Number.parseFloat(cell.dataset.value ?? "");
    return Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
  };
  heads.forEach((head, at) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const order = before === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      table.classList.remove("grouped"); // the lines between backbones mean nothing any more
      const sign = order === "ascending" ? 1 : -1;
      const missing = (k) => numeric && typeof k !== "number";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, at), key(b, at)];
        if (missing(x) !== missing(y)) return missing(x) ? 1 : -1;
        return x < y ? -sign : x > y ? sign : 0;
      });
      body.append(...rows);
    });
  });

  const filter = box.querySelector("input[type=search]");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    const all = body.rows.length;
    box.querySelector("output").textContent = shown < all ? `${shown} of ${all} shown` : "";
  });

  for (const choice of box.querySelectorAll("input[data-column]")) {
    choice.addEventListener("change", () => {
      for (const cell of table.querySelectorAll(`[data-group="${choice.dataset.column}"]`)) {
        cell.hidden = !choice.checked;
      }
    });
  }
}

const enlarged = document.getElementById("enlarged");
const whole = new Image();
enlarged.querySelector("form").after(whole);
for (const button of document.querySelectorAll(".picture")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img");
    whole.src = picture.src;
    whole.alt = picture.alt;
    enlarged.querySelector("p").textContent = picture.alt;
    enlarged.showModal();
  });
}
enlarged.addEventListener("click", (event) => {
  if (event.target === enlarged) enlarged.close(); // beside the picture
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch { // a page opened from a file may not write there: select it instead
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
}

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
