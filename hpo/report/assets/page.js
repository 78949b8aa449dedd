"use strict";
// Draws the figures in the colours of the page, sorts tables, copies commands. Nothing is fetched from anywhere.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);

  const place = (name) => document.getElementById(`figure-${name}`);

  // Colours are named in the figures (`var(--complete)`) and looked up here, so that they follow the page's theme.
  const coloured = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\((--[a-z]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
    return value;
  };

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [name, figure] of Object.entries(figures)) {
      const { data, layout } = coloured(figure, style);
      Plotly.react(place(name), data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  };

  // The library travels compressed: a third of its size.
  const load = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    draw();
    document.documentElement.dataset.drawn = "yes";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    addEventListener("beforeprint", () => {
      document.documentElement.dataset.theme = "light";
      draw();
      for (const name of Object.keys(figures)) Plotly.Plots.resize(place(name));
    });
    addEventListener("afterprint", () => {
      delete document.documentElement.dataset.theme;
      draw();
    });
  };
  load().catch((error) => {
    for (const name of Object.keys(figures))
      place(name).textContent = `This browser cannot draw the figure (${error}); one from 2023 on can.`;
  });

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => {
          const cell = row.cells[column];
          return cell.dataset.n !== undefined ? Number(cell.dataset.n) : cell.textContent;
        };
        const empty = (value) => value === "" || Number.isNaN(value);
        const order = (one, other) => {
          const [a, b] = [key(one), key(other)];
          if (empty(a) || empty(b)) return empty(a) - empty(b);
          const rank = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
          return down ? -rank : rank;
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
      });
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]"))
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(button.previousElementSibling);
      }
    });
})();
