// A period's statement: what there was, what came and went by kind, what there is. It adds up, or is refused.

import { get } from "../api.js";
import { fill, h, newId } from "../dom.js";
import { number, plural, signed, time, words, zoned } from "../format.js";
import { failed, section, skeleton } from "../parts.js";

export function statementPanel(path, signal) {
  const [first, next] = thisMonth();
  const since = h("input", { type: "date", id: newId("since"), value: first, required: true });
  const until = h("input", { type: "date", id: newId("until"), value: next, required: true });
  const shown = h("div", { "aria-live": "polite" });

  async function show(event) {
    event.preventDefault();
    fill(shown, skeleton(4));
    try {
      const query = { since: zoned(since.value), until: zoned(until.value) };
      fill(shown, statement(await get(`${path}/statement`, { query, signal })));
    } catch (problem) {
      if (!signal.aborted) fill(shown, failed(problem));
    }
  }

  const form = h(
    "form",
    { class: "filters", "aria-label": "Period of the statement", on: { submit: show } },
    h("div", { class: "field" }, h("label", { for: since.id }, "From"), since),
    h("div", { class: "field" }, h("label", { for: until.id }, "Until (not included)"), until),
    h("div", { class: "row" }, h("button", { type: "submit" }, "Show the statement")),
  );
  return section("Statement", { note: "days of your time zone" }, form, shown);
}

function thisMonth() {
  const now = new Date();
  return [0, 1].map((ahead) => {
    const day = new Date(now.getFullYear(), now.getMonth() + ahead, 1);
    return `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-01`;
  });
}

function statement({ since, until, opening, closing, sums, entries }) {
  const line = (name, value, kind = "") =>
    h("tr", { class: kind }, h("th", { scope: "row" }, name), h("td", { class: "num" }, value));
  return h(
    "table",
    { class: "statement" },
    h("caption", {}, time(since), " to ", time(until), `, ${plural(entries.length, "entry", "entries")}`),
    h(
      "tbody",
      {},
      line("Opening", number(opening), "total"),
      Object.entries(sums).map(([kind, amount]) => line(words(kind), signed(amount))),
      line("Closing", number(closing), "total"),
    ),
  );
}
