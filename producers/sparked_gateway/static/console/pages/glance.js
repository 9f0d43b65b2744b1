// The system at a glance: what needs somebody, what happens this second, and who does it.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { attention } from "../glance/attention.js";
import { charts } from "../glance/charts.js";
import { outcomesPanel } from "../glance/outcomes.js";
import { refusalsPanel } from "../glance/refusals.js";
import { shardsPanel } from "../glance/shards.js";
import { vitals } from "../glance/vitals.js";
import * as live from "../live.js";
import { failed, heading } from "../parts.js";

const OVERVIEW_EACH_MS = 15_000;

export function glance(view, signal) {
  const needs = attention();
  const numbers = vitals();
  const drawn = charts(signal);
  const shards = shardsPanel();
  const refusals = refusalsPanel();
  const outcomes = outcomesPanel(signal);
  const problem = h("div", { class: "perhaps" });
  fill(
    view,
    heading("System at a glance"),
    problem,
    needs.element,
    numbers.element,
    h("div", { class: "columns" }, drawn.elements),
    h("div", { class: "columns wide-first" }, shards.element, refusals.element),
    outcomes.element,
  );

  let overview = null;
  async function readOverview() {
    try {
      overview = await get("/v1/admin/overview", { signal });
      fill(problem);
      show();
    } catch (error) {
      if (!signal.aborted) fill(problem, failed(error, readOverview));
    }
  }

  function show() {
    const pulse = live.pulses.at(-1) ?? null;
    for (const part of [needs, numbers]) part.show(pulse, overview);
    if (pulse) for (const part of [drawn, shards, refusals]) part.show(pulse);
  }

  live.on("pulse", show, signal);
  live.on("state", (state) => state === "live" && readOverview(), signal);
  const timer = setInterval(readOverview, OVERVIEW_EACH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  readOverview();
}
