// What an account has beside its balance: lots, holds, and what is set for it.

import { h } from "../dom.js";
import { away, credits, number, time, words } from "../format.js";
import { badge, code, facts, nothing, table } from "../parts.js";

export function lotsTable(lots) {
  return table(
    "Lots, in the order in which they are spent",
    [
      { name: "Priority", class: "nowrap", of: ({ priority }) => priority },
      {
        name: "Available",
        class: "num",
        of: ({ available }) => h("span", { class: available < 0 ? "bad" : "" }, number(available)),
      },
      { name: "Held", class: "num", of: ({ held }) => number(held) },
      {
        name: "Expires",
        of: ({ expires_at: at }) =>
          at ? h("div", {}, time(at), h("div", { class: "muted small" }, away(at))) : "never",
      },
    ],
    lots,
  );
}

export function holdsTable(holds) {
  if (!holds.length) return nothing("None.");
  return table(
    "Open holds",
    [
      { name: "App", of: ({ origin }) => origin },
      { name: "Action", of: ({ action }) => action },
      { name: "Amount", class: "num", of: ({ amount }) => number(amount) },
      { name: "Lapses", of: ({ expires_at: at }) => h("span", { class: "nowrap" }, away(at)) },
      { name: "Key", of: ({ key }) => h("span", { class: "id" }, key) },
    ],
    holds,
  );
}

const WINDOWS = { day: "per day (UTC)", month: "per month (UTC)", rolling_day: "in any 24 hours", ever: "ever" };

export function limitsFacts({ debt, thresholds, limits }) {
  return facts([
    ["May owe", debt ? credits(debt) : "nothing"],
    ["Told below", thresholds.length ? thresholds.map(number).join(", ") : "no thresholds"],
    ...(limits.length ? limits.map(limitFact) : [["Spend limits", "none"]]),
  ]);
}

function limitFact({ window, action, amount, spent }) {
  const isReached = spent >= amount;
  return [
    `Limit ${WINDOWS[window] ?? words(window)}${action ? `, ${action}` : ""}`,
    h("span", {}, `${number(spent)} of ${number(amount)} spent `, isReached ? badge("reached", "warn") : null),
  ];
}

/** All that an entry says, for those who look twice. */
export function entryDetails(entry) {
  const { actor, reason, metadata } = noted(entry);
  const lots = Object.entries(entry.lots);
  const { price } = entry;
  return h(
    "div",
    { class: "details" },
    facts([
      ["Entry", number(entry.seq)],
      ["Key", h("span", { class: "id" }, entry.key || "—")],
      ["Origin", entry.origin],
      ["Actor", actor ? h("span", { class: "id" }, actor) : null],
      ["Reason", reason || null],
      ["Of", entry.of ? h("span", { class: "id" }, entry.of) : null],
      ["Held", entry.hold ? `${number(entry.hold)}, ${number(entry.held)} after` : null],
      [
        "Lots",
        lots.length
          ? lots.map(([name, { available, held }]) =>
              h("div", {}, `${name}: ${number(available)} available, ${number(held)} held`),
            )
          : null,
      ],
      ["Price", price ? `${price.name}: ${price.quantity} × ${price.unit_price} (book ${price.version})` : null],
    ]),
    Object.keys(metadata).length
      ? code(metadata)
      : h("p", { class: "muted" }, `No ${actor || reason ? "more " : ""}metadata.`),
  );
}

/** Who made an entry and why, and the rest of its metadata. Of an app's entry all of that is what the app says. */
export function noted({ origin, metadata }) {
  if (origin !== "system") return { actor: "", reason: "", metadata };
  const { actor = "", reason = "", ...rest } = metadata;
  return { actor: String(actor), reason: String(reason), metadata: rest };
}
