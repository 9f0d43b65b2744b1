// Some of what is decided, as it is decided: up to 20 a second.

import { fill, h, say } from "../dom.js";
import { clock, number, signed, userLink, words } from "../format.js";
import * as live from "../live.js";
import { badge, nothing, section } from "../parts.js";
import { FAULTS } from "./refusals.js";

const SHOWN = 25;
const EACH_MS = 500; // Faster than this nobody reads.

export function outcomesPanel(signal) {
  const list = h("ol", { class: "outcomes", "aria-label": "Recent outcomes" });
  const empty = nothing("Nothing was decided since this page was opened.");
  let isPaused = false;
  const pause = h("button", { class: "quiet", "aria-pressed": "false", on: { click: toggle } }, "Pause");

  function toggle() {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    say(pause, isPaused ? "Resume" : "Pause");
    if (!isPaused) show();
  }

  let next = null;
  function show() {
    next = null;
    if (isPaused) return;
    empty.hidden = live.outcomes.length > 0;
    fill(list, live.outcomes.slice(0, SHOWN).map(line));
  }

  live.on("outcome", () => (next ??= setTimeout(show, EACH_MS)), signal);
  signal.addEventListener("abort", () => clearTimeout(next));
  show();
  return {
    element: section(
      "Recent outcomes",
      { note: "a sample, the newest first", beside: pause, class: "live" },
      empty,
      list,
    ),
  };
}

const TAKES = new Set(["charge", "post_charge", "capture"]);

function line({ user, kind, status, amount, action, posted, held, at }) {
  const isApplied = status === "applied";
  return h(
    "li",
    {},
    h("time", { datetime: new Date(at).toISOString() }, clock(at)),
    userLink(user),
    h("span", { class: "what" }, words(kind), action !== kind ? h("span", { class: "muted" }, ` ${action}`) : null),
    h("span", { class: "amount" }, amount ? signed(TAKES.has(kind) ? -amount : amount) : ""),
    isApplied
      ? h("span", { class: "muted after" }, `${number(posted - held)} available`)
      : badge(words(status), FAULTS.has(status) ? "bad" : ""),
  );
}
