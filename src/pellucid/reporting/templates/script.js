// The page is complete without this file; it adds the theme switch, explanations on hover, sorting, and a closer look at maps.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // Light and dark
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  // Print
  document.getElementById("print").addEventListener("click", () => window.print());
  addEventListener("beforeprint", () => all("details").forEach((d) => { d.dataset.was = d.open; d.open = true; }));
  addEventListener("afterprint", () => all("details").forEach((d) => { d.open = d.dataset.was === "true"; }));

  // Glossary words explain themselves where they stand; without this script they lead to the glossary.
  const tip = document.getElementById("tip");
  let shownFor = null;
  const hideTip = () => { tip.hidden = true; if (shownFor) shownFor.removeAttribute("aria-describedby"); shownFor = null; };
  const showTip = (term) => {
    const entry = document.getElementById(term.hash.slice(1));
    if (!entry) return;
    hideTip();
    tip.textContent = entry.nextElementSibling.textContent;
    tip.hidden = false;
    const box = term.getClientRects()[0];
    tip.style.left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + scrollX + "px";
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.top = (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + scrollY + "px";
    term.setAttribute("aria-describedby", "tip");
    shownFor = term;
  };
  all("a.term").forEach((term) => {
    term.addEventListener("mouseenter", () => showTip(term));
    term.addEventListener("mouseleave", hideTip);
    term.addEventListener("focus", () => showTip(term));
    term.addEventListener("blur", hideTip);
    term.addEventListener("click", (event) => {
      if (matchMedia("(hover: none)").matches) { event.preventDefault(); showTip(term); }
    });
  });

  // Sortable tables
  all("table[data-sortable]").forEach((table) => {
    const body = table.tBodies[0];
    const heads = all("th[data-sort-key]", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.append(head.firstChild);
      head.append(button);
      head.addEventListener("click", () => { // the whole heading is the target; the button inside serves the keyboard
        const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : head.dataset.better !== "higher";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value ?? "";
        const order = (a, b) => {
          const x = value(a), y = value(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          const gap = column === 0 ? x.localeCompare(y) : x - y;
          return up ? gap : -gap;
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  });

  // Gallery: arrow keys walk, Enter or a tap enlarges
  const closer = document.getElementById("closer");
  const stage = document.getElementById("closer-stage");
  let grid = [], at = [0, 0];
  const cell = (row, column) => grid[row] && grid[row][column];
  const step = (keys) => ({ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] })[keys];
  const enlarge = () => {
    const tile = cell(...at), place = tile.parentElement, copy = tile.cloneNode(true);
    copy.removeAttribute("role"); copy.removeAttribute("tabindex");
    const view = tile.closest(".gallery").querySelector(".views :checked");
    stage.className = view ? "view-" + view.value : "";
    stage.replaceChildren(copy);
    document.getElementById("closer-title").textContent = place.dataset.title + " · " + place.dataset.input;
    const picture = tile.querySelector("img.over, svg.bars");
    document.getElementById("closer-words").textContent = picture.alt ?? picture.getAttribute("aria-label");
    if (!closer.open) closer.showModal();
  };
  const walk = ([down, right]) => {
    if (!cell(at[0] + down, at[1] + right)) return;
    cell(...at).tabIndex = -1;
    at = [at[0] + down, at[1] + right];
    const tile = cell(...at);
    tile.tabIndex = 0;
    if (closer.open) enlarge(); else tile.focus();
  };
  all("table[data-gallery]").forEach((table) => {
    const tiles = [...table.tBodies[0].rows].map((row) => all(".tile", row));
    tiles.forEach((row, i) => row.forEach((tile, j) => {
      tile.setAttribute("role", "button");
      tile.tabIndex = i + j === 0 ? 0 : -1;
      const here = () => { if (grid !== tiles) grid = tiles; cell(...at) && (cell(...at).tabIndex = -1); at = [i, j]; tile.tabIndex = 0; };
      tile.addEventListener("click", () => { here(); enlarge(); });
      tile.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); here(); enlarge(); }
        else if (step(event.key)) { event.preventDefault(); here(); walk(step(event.key)); }
      });
    }));
  });
  closer.addEventListener("keydown", (event) => {
    if (step(event.key)) { event.preventDefault(); walk(step(event.key)); }
  });
  all("[data-walk]", closer).forEach((button) => button.addEventListener("click", () => walk(button.dataset.walk.split(",").map(Number))));
  document.getElementById("closer-shut").addEventListener("click", () => closer.close());
  closer.addEventListener("click", (event) => { if (event.target === closer) closer.close(); });
  closer.addEventListener("close", () => { stage.replaceChildren(); const tile = cell(...at); if (tile) tile.focus(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
})();
