// Charges and refusals, and how long charges wait, over the last five minutes.

import { chart } from "../chart.js";
import { duration, rate } from "../format.js";
import { pulses } from "../live.js";
import { section } from "../parts.js";
import { CHARGED, sum } from "./counts.js";

const GAP_S = 3;

export function charts(signal) {
  const flow = chart({
    title: "Charges and refusals per second",
    series: [
      { label: "charges/s", color: "accent", fill: true },
      { label: "all applied/s", color: "muted" },
      { label: "refused/s", color: "warn" },
    ],
    unit: rate,
    summary: ([, charges, , refused]) =>
      `${peak(charges, rate)} charges and ${peak(refused, rate)} refusals per second at most`,
    signal,
  });
  const wait = chart({
    title: "Wait from queued to decided",
    series: [
      { label: "p50", color: "good", fill: true },
      { label: "p99", color: "accent" },
    ],
    unit: duration,
    summary: ([, p50, p99]) => `p50 ${peak(p50, duration)} and p99 ${peak(p99, duration)} at most`,
    signal,
  });
  return {
    elements: [
      section("Charges", { note: "last 5 minutes", class: "live" }, flow.element),
      section("Wait", { note: "last 5 minutes", class: "live" }, wait.element),
    ],
    show() {
      flow.draw(
        columns([
          ({ applied, seconds }) => sum(applied, CHARGED) / seconds,
          ({ applied, seconds }) => sum(applied) / seconds,
          ({ refused, seconds }) => sum(refused) / seconds,
        ]),
      );
      wait.draw(columns([({ wait_ms: found }) => found?.p50 ?? null, ({ wait_ms: found }) => found?.p99 ?? null]));
    },
  };
}

/** Of each pulse its time and these values; null where pulses are missing, so that no line is drawn there. */
function columns(values) {
  const found = [[], ...values.map(() => [])];
  const push = (at, row) => [at, ...row].forEach((value, i) => found[i].push(value));
  for (const pulse of pulses) {
    const at = pulse.at / 1000;
    const last = found[0].at(-1);
    if (last !== undefined && at - last > GAP_S)
      push(
        last + 1,
        values.map(() => null),
      );
    if (last === undefined || at > last)
      push(
        at,
        values.map((of) => of(pulse)),
      );
  }
  return found;
}

function peak(values, unit) {
  const known = values.filter((value) => value !== null);
  return known.length ? unit(Math.max(...known)) : "nothing";
}
