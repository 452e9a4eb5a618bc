"use strict";
const tip = document.getElementById("tip");

let shown = null;

function show(mark) {
  shown = mark;
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  const place = mark.getBoundingClientRect(), size = tip.getBoundingClientRect(), width = document.documentElement.clientWidth;
  const left = place.left + place.width / 2 - size.width / 2;
  tip.style.left = `${Math.max(6, Math.min(left, width - size.width - 6))}px`;
  tip.style.top = `${place.top > size.height + 12 ? place.top - size.height - 8 : place.bottom + 8}px`;
}
const hide = () => { shown = null; tip.hidden = true; };
const markOf = (event) => event.target.closest?.(".panel .mark");

for (const kind of ["pointerover", "focusin"])
  document.addEventListener(kind, (event) => { const mark = markOf(event); if (mark) show(mark); else if (kind === "pointerover") hide(); });
document.addEventListener("focusout", hide);
// Focus scrolls to the mark, so a tip must follow its mark instead of vanishing.
document.addEventListener("scroll", () => { if (shown) show(shown); }, true);

// One stop of the Tab key for each figure; within it, the arrow keys go from mark to mark.
for (const svg of document.querySelectorAll(".panel svg")) svg.querySelector(".mark")?.setAttribute("tabindex", "0");
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hide();
  const mark = markOf(event), step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!mark || !step) return;
  const marks = [...mark.closest("svg").querySelectorAll(".mark")];
  const next = marks[(marks.indexOf(mark) + step + marks.length) % marks.length];
  mark.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
  event.preventDefault();
});

// Sorting: by number where both cells are numbers, else by text; cells without a value come last, either way.
const value = (row, column) => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
function compare(a, b) {
  const x = Number(a.replaceAll(",", "")), y = Number(b.replaceAll(",", ""));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}
function sort(header) {
  const column = header.cellIndex, up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = header.closest("table").tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return up ? compare(x, y) : compare(y, x);
  });
  body.append(...rows);
}
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sort(button.parentElement));
