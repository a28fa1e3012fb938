"use strict";
const all = (query, root = document) => [...root.querySelectorAll(query)];

// Tables: a click on a column's head sorts, another one the other way round. Empty cells stay last.
function key(row, column, numbers) {
  const cell = row.querySelector("tr").children[column];
  const value = cell.dataset.value ?? cell.innerText.trim();
  return numbers && value !== "" ? Number(value) : value;
}
function sort(head) {
  const table = head.closest("table"), numbers = head.querySelector("button").dataset.sort === "number";
  const up = head.ariaSort !== "ascending", column = head.cellIndex;
  const rows = [...table.tBodies].map(row => [key(row, column, numbers), row]);
  rows.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numbers ? a - b || 0 : a.localeCompare(b, "en", { numeric: true });
    return up ? order : -order;
  });
  all("th", table).forEach(other => other.removeAttribute("aria-sort"));
  head.ariaSort = up ? "ascending" : "descending";
  table.append(...rows.map(([, row]) => row));
}
all("th button").forEach(button => button.addEventListener("click", () => sort(button.closest("th"))));

// Rows that show more.
function toggle(button, open) {
  button.ariaExpanded = open;
  document.getElementById(button.getAttribute("aria-controls")).hidden = !open;
}
all(".toggle").forEach(button =>
  button.addEventListener("click", () => toggle(button, button.ariaExpanded !== "true")));

// One box filters all rows; what has no row left goes, too.
const box = document.getElementById("filter"), told = document.querySelector(".bar output");
const only = document.getElementById("only-problems"), texts = new Map();
function text(element) {
  if (!texts.has(element)) texts.set(element, (element.dataset.title ?? element.textContent).toLowerCase());
  return texts.get(element);
}
function filter() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = element => words.every(word => text(element).includes(word));
  const rows = all("[data-row]:not([data-model])");
  rows.forEach(row => {
    const group = row.closest("[data-group]"), model = row.closest(".model");
    row.hidden = !(has(row) || (group && words.every(word => (text(row) + text(group.firstElementChild)).includes(word)))
      || (model && words.length && has(model)));
  });
  all("[data-group]").forEach(group => group.hidden = !group.querySelector("[data-row]:not([hidden])"));
  all(".model").forEach(model => {
    const row = document.querySelector(`[data-model="${model.id}"]`);
    const found = !words.length || has(row) || has(model) || model.querySelector("[data-row]:not([hidden])");
    row.hidden = model.hidden = !found || (only?.checked && row.dataset.problem === "0");
  });
  const shown = rows.filter(row => !row.hidden).length;
  told.textContent = words.length ? `${shown} of ${rows.length}` : "";
}
box.addEventListener("input", filter);
only?.addEventListener("change", filter);

// A link inside the page opens whatever hides its target.
function reveal(target) {
  if (target.hidden || target.closest("[hidden]")) {
    box.value = "";
    if (only) only.checked = false;
    filter();
  }
  for (let around = target; around; around = around.parentElement) {
    if (around.tagName === "DETAILS") around.open = true;
  }
  const button = target.matches(".folds [data-row]") && target.querySelector(".toggle");
  if (button) toggle(button, true);
  all(".flash").forEach(other => other.classList.remove("flash"));
  target.classList.add("flash");
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
  target.scrollIntoView();
}
const follow = hash => {
  const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
  if (target) reveal(target);
};
addEventListener("click", event => {
  const link = event.target.closest?.("a[href^='#']");
  if (!link) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  follow(link.getAttribute("href"));
});
addEventListener("popstate", () => follow(location.hash));
follow(location.hash);

// In a picture or a plot the arrow keys lead from mark to mark, so that Tab need not visit all.
all(".graph, .strip, .plot").forEach(drawing => {
  const marks = all("a", drawing);
  const at = index => marks.forEach((mark, i) => mark.setAttribute("tabindex", i === index ? 0 : -1));
  at(0);
  drawing.addEventListener("keydown", event => {
    const last = marks.length - 1, now = marks.indexOf(document.activeElement);
    const next = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: last }[event.key];
    if (next === undefined || now < 0) return;
    event.preventDefault();
    at(Math.min(Math.max(next, 0), last));
    marks[Math.min(Math.max(next, 0), last)].focus();
  });
});
