// Lines over the last minutes, drawn by uPlot on a canvas: colours are the page's, and follow its theme.

import { h, say } from "./dom.js";

const HEIGHT = 150;
const SHOWN_S = { least: 60, most: 300 };

/**
 * A chart of some series over time.
 *
 * `series`: `{label, color: CSS class that has it, fill?}`. `unit`: formats a value. `summary`: says in words what there
 * is to see, from the columns; it is what those hear who don't see the canvas.
 * Returns the element, and `draw([times in s, values, values …])`, in which null leaves a gap.
 */
export function chart({ title, series, unit, summary, signal }) {
  const canvas = h("div", { class: "canvas", role: "img", "aria-label": title });
  const values = series.map(() => h("b", {}, "–"));
  const legend = h(
    "ul",
    { class: "legend" },
    series.map(({ label, color }, i) => h("li", {}, h("span", { class: `key ${color}` }), `${label} `, values[i])),
  );
  const element = h("figure", { class: "chart" }, legend, canvas);

  let plot = null;
  let columns = [[], ...series.map(() => [])];

  function tellValues(at) {
    series.forEach((_, i) => {
      const value = columns[i + 1][at ?? columns[0].length - 1];
      say(values[i], value === null || value === undefined ? "–" : unit(value));
    });
  }

  function build() {
    plot?.destroy();
    plot = new window.uPlot(options(canvas, series, unit, tellValues), columns, canvas);
  }

  const resized = new ResizeObserver(() => {
    if (plot) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
    else if (canvas.clientWidth) build();
  });
  resized.observe(canvas);
  document.addEventListener("themechange", build, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build, { signal });
  signal.addEventListener("abort", () => {
    resized.disconnect();
    plot?.destroy();
  });

  return {
    element,
    draw(next) {
      columns = next;
      plot?.setData(columns);
      if (!plot || plot.cursor.idx === null || plot.cursor.idx === undefined) tellValues();
      canvas.setAttribute("aria-label", `${title}: ${summary(columns)}`);
    },
  };
}

function options(canvas, series, unit, tellValues) {
  const muted = colorOf(canvas, "muted");
  const axis = {
    stroke: muted,
    font: `11px ${getComputedStyle(canvas).fontFamily}`,
    ticks: { show: false },
    grid: { stroke: colorOf(canvas, "line"), width: 1 },
  };
  return {
    width: canvas.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 22, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: {
        time: true,
        range: (_, first, last) => [last - Math.min(SHOWN_S.most, Math.max(SHOWN_S.least, last - first)), last],
      },
      y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] },
    },
    axes: [
      {
        ...axis,
        size: 24,
        space: 60,
        values: (_, times) => times.map((s) => new Date(s * 1000).toTimeString().slice(0, 8)),
      },
      { ...axis, size: 56, space: 32, values: (_, found) => found.map((value) => (value === null ? "" : unit(value))) },
    ],
    series: [
      {},
      ...series.map(({ color, fill }) => {
        const stroke = colorOf(canvas, color);
        return {
          stroke,
          width: 1.5,
          points: { show: false },
          fill: fill ? stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") : undefined,
        };
      }),
    ],
    hooks: { setCursor: [(plot) => tellValues(plot.cursor.idx)] },
  };
}

/** The colour of a class, as a canvas takes it. */
function colorOf(within, name) {
  const probe = h("span", { class: `ink ${name}` });
  within.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
