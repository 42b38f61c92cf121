"use strict";
// What the page can do with a script; without one it shows the same, and less handily.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const made = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

  const tool = (text, act) => {
    const button = made("button", { type: "button", className: "tool", textContent: text });
    button.addEventListener("click", () => act(button));
    return button;
  };

  // light and dark: the system's until the button is pressed, and again at the next visit
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const theme = tool("", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    named();
    dispatchEvent(new Event("themed"));
  });
  const named = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
  named();
  theme.classList.add("theme");
  document.querySelector("header").append(theme);

  // a folded section opens where a link leads into it, and for printing
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal();
  });
  if (location.hash) reveal();
  const unprinted = new Set();
  addEventListener("beforeprint", () => {
    for (const each of all("details:not([open])")) { unprinted.add(each); each.open = true; }
  });
  addEventListener("afterprint", () => {
    for (const each of unprinted) each.open = false;
    unprinted.clear();
  });
  const folded = all("details.folded");
  document.getElementById("details")?.append(tool("Open all", (button) => {
    const opening = folded.some((each) => !each.open);
    for (const each of folded) each.open = opening;
    button.textContent = opening ? "Close all" : "Open all";
  }));

  // tables: a header sorts the rows of the first body; what is below the rule stays there
  const next = { none: "descending", descending: "ascending", ascending: "none" };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0], rows = [...body.rows], headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = made("button", { type: "button" });
      button.append(...header.childNodes);
      header.append(button);
      header.setAttribute("aria-sort", "none");
      const value = (row) => {
        const cell = row.cells[column], number = parseFloat(cell.dataset.value);
        return column === 0 ? cell.textContent : Number.isNaN(number) ? -Infinity : number;
      };
      button.addEventListener("click", () => {
        const state = next[header.getAttribute("aria-sort")];
        for (const each of headers) each.setAttribute("aria-sort", each === header ? state : "none");
        const sign = state === "ascending" ? 1 : -1;
        const order = (a, b) => {
          const [of_a, of_b] = [value(a), value(b)];
          return sign * (column === 0 ? of_a.localeCompare(of_b) : of_a < of_b ? -1 : of_a > of_b ? 1 : 0);
        };
        body.append(...(state === "none" ? rows : [...rows].sort(order)));
      });
    });
  }

  // pictures: enlarged, and the arrows go from one arm to the next at the same place
  const pictures = all(".gallery:not(.stills) .tile img");
  if (pictures.length) {
    const dialog = made("dialog", { className: "enlarged" });
    const shown = made("img"), caption = made("span"), bar = made("div");
    let at = 0;
    const show = (index) => {
      at = (index + pictures.length) % pictures.length;
      shown.src = pictures[at].src;
      shown.alt = pictures[at].alt;
      const words = pictures[at].closest("figure").querySelector("figcaption").textContent;
      caption.textContent = words.replace(/\s+/g, " ").trim();
    };
    bar.append(tool("←", () => show(at - 1)), caption, tool("→", () => show(at + 1)));
    bar.firstChild.ariaLabel = "previous";
    bar.lastChild.ariaLabel = "next";
    dialog.append(shown, bar);
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") show(at - 1);
      if (event.key === "ArrowRight") show(at + 1);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target === shown) dialog.close(); });
    document.body.append(dialog);
    pictures.forEach((picture, index) => {
      const button = made("button", { type: "button", className: "enlarge", ariaLabel: `Enlarge: ${picture.alt}` });
      picture.replaceWith(button);
      button.append(picture);
      button.addEventListener("click", () => { show(index); dialog.showModal(); });
    });
  }

  // texts to be pasted elsewhere
  for (const text of all(".paste")) {
    text.after(tool("Copy", async (button) => {
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        getSelection().selectAllChildren(text);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    }));
  }
})();
