"use strict";
(() => {
  const root = document.documentElement;
  const every = (query, from = document) => [...from.querySelectorAll(query)];

  // Theme: system, dark, light. A page opened from a file may not be allowed to remember.
  const themes = ["system", "dark", "light"];
  const button = document.getElementById("theme");
  const remember = (value) => { try { localStorage.setItem("theme", value); } catch { /* private window */ } };
  let theme = "system";
  try { theme = localStorage.getItem("theme") || theme; } catch { /* private window */ }
  const paint = () => {
    if (!themes.includes(theme)) theme = "system";
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `◐ ${theme}`;
    button.setAttribute("aria-label", `theme: ${theme}`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remember(theme);
    paint();
  });
  paint();

  // Sorting: a stable sort by data-sort; what has no value stays last either way.
  const sort = (header, direction) => {
    const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
    const number = header.dataset.type === "number", sign = direction === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.sort;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
    });
    body.append(...rows);
    every("[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", direction);
  };
  every(".sort").forEach((control) => control.addEventListener("click", () => {
    const header = control.closest("th"), now = header.getAttribute("aria-sort");
    const other = { ascending: "descending", descending: "ascending" };
    sort(header, other[now] || header.dataset.first);
  }));

  // Filters, kept in the address so that a view can be passed on.
  const form = document.getElementById("filters");
  const apply = () => {
    const value = (name) => (form.elements[name] ? form.elements[name].value : "");
    const kind = value("kind"), task = value("task"), name = value("name").trim().toLowerCase();
    const named = (node) => !name || (node.dataset.name || "").includes(name);
    every("section[data-kind]").forEach((node) => { node.hidden = !!kind && node.dataset.kind !== kind; });
    every("tr[data-name], .plots > [data-name]").forEach((node) => { node.hidden = !named(node); });
    if (task) {
      every(".by-task tbody tr").forEach((node) => { node.hidden = node.dataset.task !== task || !named(node); });
      every(".point").forEach((node) => {
        const large = node.classList.contains("large");
        node.toggleAttribute("hidden", large ? node.dataset.task !== task : task !== "all");
      });
      every("figure[data-task]").forEach((node) => { node.hidden = task !== "all" && node.dataset.task !== task; });
      const text = task === "all" ? "all tasks of one policy. Small marks: one task each" : `one policy on ${task}`;
      every(".which").forEach((node) => { node.textContent = text; });
    }
    const shown = every("section:not([hidden]) tbody tr[data-name]").filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = name || kind ? `${shown} row${shown === 1 ? "" : "s"}` : "";
    const state = new URLSearchParams([...new FormData(form)].filter(([k, v]) => v && !(k === "task" && v === "all")));
    const mark = state.toString();
    if (mark || location.hash.includes("=")) {
      try { history.replaceState(null, "", mark ? `#${mark}` : location.pathname); } catch { /* from a file */ }
    }
  };
  if (form) {
    form.hidden = false;
    const read = () => {
      for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
        const field = ["kind", "task", "name"].includes(name) && form.elements[name];
        if (field && (field.type === "search" || [...field.options].some((o) => o.value === value))) field.value = value;
      }
      apply();
    };
    addEventListener("hashchange", read);
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    read();
  }

  // 'unscored' says why beside itself, not in the middle of the window.
  every("[popover]").forEach((node) => node.addEventListener("toggle", (event) => {
    const opener = document.querySelector(`[popovertarget="${node.id}"]`);
    if (event.newState !== "open" || !opener) return;
    const place = opener.getBoundingClientRect();
    node.style.margin = "0";
    node.style.left = `${Math.max(8, Math.min(place.left, innerWidth - node.offsetWidth - 8))}px`;
    const below = place.bottom + 6;
    node.style.top = `${below + node.offsetHeight < innerHeight ? below : Math.max(8, place.top - node.offsetHeight - 6)}px`;
  }));

  // Clips load and play while they are in view; a click, tap, Enter or space stops one. Without motion they wait.
  if ("IntersectionObserver" in window && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const watch = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => {
      if (!isIntersecting) target.pause(); else if (!target.dataset.stopped) target.play().catch(() => {});
    }), { threshold: 0.25 });
    const toggle = (video) => {
      const pair = every("video", video.closest("figure")), stop = !video.paused;
      pair.forEach((one) => {
        if (stop) { one.dataset.stopped = "1"; one.pause(); } else { delete one.dataset.stopped; one.play().catch(() => {}); }
      });
    };
    every("video").forEach((video) => {
      video.controls = false;
      video.tabIndex = 0;
      video.addEventListener("click", () => toggle(video));
      video.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(video); }
      });
      watch.observe(video);
    });
  }
})();
