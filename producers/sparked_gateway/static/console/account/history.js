// An account's entries, newest first, with filters; each says who made it.

import { get } from "../api.js";
import { fill, h, newId } from "../dom.js";
import { number, signed, time, words, zoned } from "../format.js";
import { failed, nothing, section, skeleton, table } from "../parts.js";
import { refund } from "./actions.js";
import { entryDetails, noted } from "./details.js";
import { KINDS, REFUNDABLE } from "./kinds.js";

const PAGE = 25;
const LABELS = { kind: "Kind", action: "Action", app: "App", since: "Since", until: "Until" };

/** The panel; `start()` shows it from the newest entry on, `newer(heardAt)` does where that disturbs nobody. */
export function historyPanel(user, path, signal, changed) {
  const list = h("div", {}, skeleton(5));
  const more = h("div", { class: "more" });
  const filters = filterForm(start);
  let asked = null;
  let rows = null;
  let seen = new Set();
  let isBehind = false;
  let startedAt = 0;

  async function page(before) {
    asked?.abort();
    asked = new AbortController();
    const mine = AbortSignal.any([signal, asked.signal]);
    fill(more, before ? h("span", { class: "muted", role: "status" }, "Loading …") : null);
    try {
      const found = await get(`${path}/history`, { query: { limit: PAGE, before, ...filters.query() }, signal: mine });
      show(found, before);
    } catch (problem) {
      if (mine.aborted) return;
      if (!before) fill(list);
      fill(
        more,
        failed(problem, () => page(before)),
      );
    }
  }

  function show({ entries, next }, before) {
    if (!before) {
      isBehind = false;
      seen = new Set();
      rows = entriesTable(entries, user, changed);
      fill(list, rows);
    } else {
      rows.append_rows(entries.filter(({ id }) => !seen.has(id)));
    }
    for (const { id } of entries) seen.add(id);
    if (before && entries.length) isBehind = true;
    const empty = seen.size ? null : nothing(next ? "None among those looked at so far." : "No entries.");
    const button = next
      ? h("button", { on: { click: () => page(next) } }, entries.length ? "Load more" : "Look further back")
      : null;
    rows.hidden = !seen.size;
    fill(more, empty, button);
  }

  function start() {
    startedAt = performance.now();
    page();
  }

  /** Of what was heard of at that time, unless it is shown already. */
  function newer(heardAt) {
    if (heardAt <= startedAt) return;
    // Who has paged back, or is about to press something here, is not to have it move away.
    const isInUse = isBehind || list.querySelector("[aria-expanded=true]") || list.matches(":hover, :focus-within");
    if (isInUse) fill(more, h("button", { on: { click: start } }, "There are newer entries: show from the newest"));
    else start();
  }

  start();
  return {
    element: section("History", { note: "newest first" }, filters.element, list, more),
    start,
    newer,
  };
}

function filterForm(apply) {
  const fields = {
    kind: h(
      "select",
      {},
      h("option", { value: "" }, "any"),
      KINDS.map((kind) => h("option", { value: kind }, words(kind))),
    ),
    action: h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "any" }),
    app: h("input", { type: "text", autocomplete: "off", spellcheck: "false", placeholder: "any" }),
    since: h("input", { type: "datetime-local" }),
    until: h("input", { type: "datetime-local" }),
  };
  const element = h(
    "form",
    {
      class: "filters",
      "aria-label": "Filter the history",
      on: {
        submit: (event) => {
          event.preventDefault();
          apply();
        },
        reset: () => setTimeout(apply),
      },
    },
    Object.entries(fields).map(([name, control]) => {
      control.id = newId(name);
      return h("div", { class: "field" }, h("label", { for: control.id }, LABELS[name]), control);
    }),
    h(
      "div",
      { class: "row" },
      h("button", { type: "submit" }, "Filter"),
      h("button", { type: "reset", class: "quiet" }, "Clear"),
    ),
  );
  fields.kind.addEventListener("change", apply);
  return {
    element,
    query() {
      const text = (name) => fields[name].value.trim();
      return {
        kind: text("kind"),
        action: text("action"),
        app: text("app"),
        since: zoned(text("since")),
        until: zoned(text("until")),
      };
    },
  };
}

function entriesTable(entries, user, changed) {
  return table(
    "Entries, newest first",
    [
      { name: "Time", class: "nowrap when", of: ({ at }) => time(at) },
      { name: "Kind", class: "kind", of: ({ kind }) => words(kind) },
      {
        name: "Action",
        class: "action",
        of: (entry) => [entry.action === entry.kind ? "" : entry.action, reasonOf(entry)],
      },
      { name: "Amount", class: "num amount", of: amountOf },
      { name: "Posted", class: "num posted", of: ({ posted }) => number(posted) },
      { name: "By", class: "by", of: by },
      { name: "", class: "tools", of: (entry) => tools(entry, user, changed) },
    ],
    entries,
    { class: "entries", rowProps: ({ seq }) => ({ data: { seq } }) },
  );
}

function reasonOf(entry) {
  const { reason } = noted(entry);
  return reason ? h("div", { class: "muted small" }, reason) : null;
}

function amountOf({ amount, hold }) {
  const tone = amount > 0 ? "good" : amount < 0 ? "" : "muted";
  const held = hold ? h("div", { class: "muted small" }, `${signed(hold)} held`) : null;
  return [h("span", { class: tone }, signed(amount)), held];
}

/** Who: the person or key that an admin's entry was made by; else the app. */
function by(entry) {
  return h("span", { class: "id" }, noted(entry).actor || entry.origin);
}

function tools(entry, user, changed) {
  const toggle = h(
    "button",
    { class: "quiet", "aria-expanded": "false", on: { click: () => expand(toggle, entry) } },
    "Details",
  );
  const give = REFUNDABLE.has(entry.kind)
    ? h("button", { class: "quiet", on: { click: () => refund(user, entry, changed) } }, "Refund")
    : null;
  return h("div", { class: "row end" }, give, toggle);
}

function expand(toggle, entry) {
  const isOpen = toggle.getAttribute("aria-expanded") === "true";
  toggle.setAttribute("aria-expanded", String(!isOpen));
  const row = toggle.closest("tr");
  if (isOpen) row.nextElementSibling.remove();
  else row.after(h("tr", { class: "more-of" }, h("td", { colspan: "7" }, entryDetails(entry))));
}
