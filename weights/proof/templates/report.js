"use strict";
/* Sorts and filters the tables of the page, and changes between light and dark. Without it every row is shown. */
(() => {
  const FIRST = 50; // rows of a table before "show all"

  const made = (tag, fields = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), fields);
    node.append(...children);
    return node;
  };
  const value = (cell) => cell.dataset.v ?? cell.textContent.trim();
  const label = (cell) => cell.textContent.trim();

  function arm(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const titles = heads.map(label);
    const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    let sorted = -1, down = false, all = rows.length <= FIRST || "all" in table.dataset;

    const search = made("input", { type: "search", placeholder: "Filter", ariaLabel: `Filter ${table.dataset.name}` });
    const chosen = new Map();
    heads.forEach((head, at) => {
      if (!("choice" in head.dataset)) return;
      const options = [...new Set(rows.map((row) => label(row.cells[at])))].sort();
      if (options.length < 2) return;
      const select = made("select", { ariaLabel: `Filter by ${titles[at]}` }, made("option", { value: "", textContent: `${titles[at]}: all` }));
      select.append(...options.map((option) => made("option", { value: option, textContent: option || "none" })));
      select.addEventListener("change", show);
      chosen.set(at, select);
    });
    const order = made("select", { className: "order", ariaLabel: `Sort ${table.dataset.name}` }, made("option", { value: "", textContent: "Sort by" }));
    order.append(...titles.map((title, at) => made("option", { value: at, textContent: title })));
    const count = made("output");
    const more = made("button", { type: "button" });
    const tools = made("div", { className: "tools" }, search, ...chosen.values(), order, count, more);
    if (rows.length > 4) table.before(tools);

    function show() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0, seen = 0;
      for (const row of body.rows) {
        const fits = words.every((word) => text.get(row).includes(word)) &&
          [...chosen].every(([at, select]) => !select.value || label(row.cells[at]) === select.value);
        row.hidden = !fits || (!all && found >= FIRST);
        found += fits;
        seen += !row.hidden;
      }
      count.textContent = seen === rows.length ? `${seen} rows` : found === rows.length ? `${seen} of ${found} rows` :
        `${seen === found ? seen : `${seen} of ${found}`} rows that match, of ${rows.length}`;
      more.hidden = "all" in table.dataset || rows.length <= FIRST || (!all && found <= FIRST);
      more.textContent = all ? `Show ${FIRST}` : `Show all ${found}`;
    }

    function sort(at, turn) {
      const numbers = "number" in heads[at].dataset;
      down = at === sorted ? (turn ? !down : down) : numbers;
      sorted = at;
      const keys = new Map(rows.map((row) => [row, value(row.cells[at])]));
      const compare = numbers || rows.every((row) => "v" in row.cells[at].dataset)
        ? (a, b) => Number(keys.get(a)) - Number(keys.get(b))
        : (a, b) => keys.get(a).localeCompare(keys.get(b), "en", { numeric: true });
      body.append(...[...rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
      heads.forEach((head, n) => head.setAttribute("aria-sort", n === at ? (down ? "descending" : "ascending") : "none"));
      order.value = at;
      show();
    }

    heads.forEach((head, at) => {
      const button = made("button", { type: "button", textContent: titles[at], title: `Sort by ${titles[at]}` });
      button.addEventListener("click", () => sort(at, true));
      head.replaceChildren(button, made("span", { className: "label", textContent: titles[at] })); // paper shows the label
    });
    search.addEventListener("input", show);
    order.addEventListener("change", () => order.value !== "" && sort(Number(order.value), false));
    more.addEventListener("click", () => { all = !all; show(); });
    show();
    return (title, wanted) => {
      const select = chosen.get(titles.indexOf(title));
      if (select) { select.value = wanted; show(); }
    };
  }

  const filters = new Map([...document.querySelectorAll("table[data-name]")].map((table) => [table.dataset.name, arm(table)]));
  for (const link of document.querySelectorAll("a[data-pair]")) {
    link.addEventListener("click", () => filters.get("comparisons")("pair", link.dataset.pair));
  }

  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = made("button", { type: "button", className: "theme", textContent: dark() ? "Light" : "Dark" });
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    theme.textContent = dark() ? "Light" : "Dark";
  });
  document.querySelector("nav").append(theme);
})();
