// The numbers that are looked at first, of the last seconds.

import { h, say } from "../dom.js";
import { away, duration, number, rate } from "../format.js";
import { pulses } from "../live.js";
import { CHARGED, sum } from "./counts.js";

const SECONDS = 5;

export function vitals() {
  const charges = vital("Charges/s", `mean of ${SECONDS} s`);
  const refused = vital("Refused/s", `mean of ${SECONDS} s`);
  const wait = vital("Wait, p99", "until decided");
  const queued = vital("Queued", "in all shards");
  const workers = vital("Workers", "alive");
  const dead = vital("Dead letters", "", "#/dead-letters");
  const unpaid = vital("Unpaid", "trainings", "#/unpaid");
  const run = vital("Reconciled", "", "#/reconciliations");
  return {
    element: h(
      "ul",
      { class: "vitals", "aria-label": "Vital numbers" },
      [charges, refused, wait, queued, workers, dead, unpaid, run].map((each) => each.element),
    ),
    show(pulse, overview) {
      if (pulse) {
        const last = pulses.slice(-SECONDS);
        const seconds = last.reduce((total, each) => total + each.seconds, 0);
        const mean = (of) => last.reduce((total, each) => total + of(each), 0) / seconds;
        charges.set(rate(mean(({ applied }) => sum(applied, CHARGED))));
        refused.set(rate(mean(({ refused: by }) => sum(by))));
        const waits = last.map(({ wait_ms: found }) => found?.p99).filter((found) => found !== undefined);
        wait.set(waits.length ? duration(Math.max(...waits)) : "–");
        queued.set(number(pulse.shards.reduce((total, { intents, control }) => total + intents + control, 0)));
        workers.set(number(pulse.workers.length), pulse.workers.length ? "" : "bad");
      }
      if (overview) {
        const events = overview.dead_events;
        const letters = pulse?.dead ?? overview.dead_intents + events;
        dead.set(number(letters), letters ? "warn" : "", events ? `${number(events)} of events` : "for a person");
        unpaid.set(number(overview.unpaid));
        const { reconciliation } = overview;
        if (!reconciliation) run.set("never", "", "no run is kept");
        else if (reconciliation.state === "running") run.set("running", "", `since ${away(reconciliation.started_at)}`);
        else
          run.set(
            away(reconciliation.finished_at),
            reconciliation.right ? "" : "bad",
            reconciliation.right ? "all right" : "not all right",
          );
      }
    },
  };
}

function vital(label, hint, href) {
  const value = h("b", { class: "value" }, "–");
  const note = h("span", { class: "hint" }, hint);
  const content = [h("span", { class: "label" }, label), value, note];
  const element = h("li", {}, href ? h("a", { href }, content) : h("div", {}, content));
  return {
    element,
    set(text, tone = "", hintNow = hint) {
      say(value, text);
      say(note, hintNow);
      element.dataset.tone = tone;
    },
  };
}
