"use strict";

// A click on a header sorts; a second click turns the order. Cells without a number stay at the end either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    head.firstElementChild.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const compare = (one, two) => {
        const [a, b] = [one.cells[column], two.cells[column]];
        if (!numeric) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
        const [known, other] = ["value" in a.dataset, "value" in b.dataset];
        return known && other ? sign * (a.dataset.value - b.dataset.value) : other - known;
      };
      body.append(...[...body.rows].sort(compare));
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    });
  });
}

// The row under the pointer is framed through all columns of a figure.
for (const figure of document.querySelectorAll(".lanes")) {
  const cursor = figure.querySelector(".cursor");
  const [top, pitch, rows] = [figure.dataset.top, figure.dataset.pitch, figure.dataset.rows].map(Number);
  figure.addEventListener("pointermove", (event) => {
    const row = Math.floor((event.clientY - figure.getBoundingClientRect().top - top) / pitch);
    cursor.hidden = row < 0 || row >= rows;
    cursor.style.top = `${top + row * pitch}px`;
    cursor.style.width = `${figure.scrollWidth}px`;
  });
  figure.addEventListener("pointerleave", () => { cursor.hidden = true; });
}
