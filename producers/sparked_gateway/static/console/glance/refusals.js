// What was refused in the last minutes, by reason: a person who has too few credits is no fault, a failure is.

import { fill, h } from "../dom.js";
import { number, words } from "../format.js";
import { pulses } from "../live.js";
import { nothing, section } from "../parts.js";

/** Statuses that are our fault, or an operator's; the others are answers like any other. */
export const FAULTS = new Set(["intent_failed", "malformed", "foreign_epoch", "other"]);

export function refusalsPanel() {
  const list = h("div", {}, nothing("Waiting for the first pulse."));
  let shown = "";
  return {
    element: section("Refusals by reason", { note: "last 5 minutes", class: "live" }, list),
    show() {
      const counts = new Map();
      for (const { refused } of pulses) {
        for (const [status, count] of Object.entries(refused)) counts.set(status, (counts.get(status) ?? 0) + count);
      }
      const found = [...counts].filter(([, count]) => count).sort(([, a], [, b]) => b - a);
      if (shown === JSON.stringify(found)) return;
      shown = JSON.stringify(found);
      const most = found[0]?.[1] ?? 1;
      fill(
        list,
        found.length
          ? h(
              "ul",
              { class: "bars" },
              found.map(([status, count]) => bar(status, count, most)),
            )
          : nothing("Nothing was refused."),
      );
    },
  };
}

function bar(status, count, most) {
  return h(
    "li",
    { class: FAULTS.has(status) ? "bad" : "", vars: { "--part": String(count / most) } },
    h("span", {}, words(status)),
    h("b", {}, number(count)),
  );
}
