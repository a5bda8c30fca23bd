"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  root.classList.add("scripted");

  // A choice that was made is kept where the browser lets a page keep something.
  const kept = (value) => {
    try {
      if (value) localStorage.setItem("nanorepro-theme", value);
      return localStorage.getItem("nanorepro-theme");
    } catch {
      return null;
    }
  };
  const chosen = kept();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const theme = () => {
    const button = document.getElementById("theme");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
    const show = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Show in light colours" : "Show in dark colours");
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      kept(root.dataset.theme);
      show();
    });
    dark.addEventListener("change", show);
    show();
  };

  const sorting = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const value = (body, column) => {
      const cell = body.rows[0].cells[column];
      const number = cell.dataset.v;
      return number === undefined ? cell.textContent.trim() : number === "" ? null : Number(number);
    };
    const compare = (a, b) =>
      typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies].map((body) => [value(body, column), body]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null); // what is missing is last
          return down ? compare(b, a) : compare(a, b);
        });
        table.append(...rows.map(([, body]) => body));
      });
    });
  };

  const filtering = (table, form) => {
    const bodies = [...table.tBodies];
    const texts = new Map();
    const text = (body) => {
      if (!texts.has(body)) {
        const own = [...body.rows[0].cells, ...body.querySelectorAll("dt, dd:not([data-shared])")];
        texts.set(body, own.map((element) => element.textContent).join(" ").toLowerCase());
      }
      return texts.get(body);
    };
    const count = document.getElementById("count");
    const apply = () => {
      const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const selects = [...form.querySelectorAll("select")].filter((s) => s.selectedIndex > 0);
      const odd = form.elements.odd && form.elements.odd.checked;
      let shown = 0;
      for (const body of bodies) {
        const there =
          selects.every((s) => body.rows[0].cells[Number(s.dataset.column)].textContent.trim() === s.value) &&
          (!odd || body.dataset.odd !== undefined) &&
          words.every((word) => text(body).includes(word));
        body.hidden = !there;
        shown += there;
      }
      count.textContent = `${shown} of ${bodies.length} runs are shown`;
    };
    for (const changed of ["input", "change"]) form.addEventListener(changed, apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector("button").addEventListener("click", (event) => {
      event.preventDefault();
      form.reset();
      apply();
    });
    apply();
    return () => {
      form.reset();
      apply();
    };
  };

  const opening = (table, showAll) => {
    const toggle = (body, open) => {
      body.classList.toggle("open", open);
      body.rows[0].querySelector("th button").setAttribute("aria-expanded", String(open));
    };
    table.addEventListener("click", (event) => {
      const button = event.target.closest("tbody th button");
      if (!button) return;
      const body = button.closest("tbody");
      toggle(body, !body.classList.contains("open"));
    });
    const target = () => {
      const body = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!body || !table.contains(body) || body.tagName !== "TBODY") return;
      if (body.hidden) showAll();
      toggle(body, true);
      body.scrollIntoView({ block: "center" });
    };
    addEventListener("hashchange", target);
    target();
  };

  addEventListener("DOMContentLoaded", () => {
    theme();
    const table = document.getElementById("runs");
    if (!table) return;
    sorting(table);
    opening(table, filtering(table, document.getElementById("filters")));
  });
})();
