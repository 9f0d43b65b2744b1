// One user: what the account has and may do, what happened to it, and what an admin can do about it.

import { get } from "../api.js";
import { actions, openAccount } from "../account/actions.js";
import { holdsTable, limitsFacts, lotsTable } from "../account/details.js";
import { historyPanel } from "../account/history.js";
import { statementPanel } from "../account/statement.js";
import { fill, h, say } from "../dom.js";
import { number } from "../format.js";
import * as live from "../live.js";
import { badge, failed, heading, notice, section, skeleton } from "../parts.js";

const EACH_MS = 10_000; // Live outcomes are a sample, so that one may be missed.
const SETTLE_MS = 300;

const TONES = { open: "good", frozen: "warn", closed: "bad" };

export function user(view, id, signal) {
  const path = `/v1/users/${encodeURIComponent(id)}`;
  const head = h("div", { class: "stack" });
  const rest = h("div", { class: "stack" });
  fill(view, head, rest);
  fill(head, heading(id), skeleton(2));

  let page = null;
  let reading = null;
  let newestSeq = 0;

  /** Read all that is small; a newer reading makes an older one void. */
  async function read() {
    reading?.abort();
    reading = new AbortController();
    const mine = AbortSignal.any([signal, reading.signal]);
    try {
      const [account, lots, holds] = await Promise.all([
        get(path, { signal: mine }),
        get(`${path}/lots`, { signal: mine }),
        get(`${path}/holds`, { signal: mine }),
      ]);
      page ??= build();
      page.show(account, lots.lots, holds.holds);
    } catch (problem) {
      if (mine.aborted) return;
      page = null;
      fill(rest);
      if (problem.kind === "account-not-found") fill(head, heading(id), without(problem));
      else fill(head, heading(id), failed(problem, read));
    }
  }

  function without(problem) {
    const open = h("button", { on: { click: () => openAccount(id, read) } }, "Open the account");
    return h(
      "div",
      { class: "stack" },
      h("p", {}, `${problem.title || "There is no such account"}.`),
      h("div", {}, open),
    );
  }

  function build() {
    const balance = balancePanel();
    const lots = h("div", {});
    const holds = h("div", {});
    const limits = h("div", {});
    const buttons = h("div", { class: "buttons" });
    const state = h("span", {});
    let current = null;
    const changed = () => {
      read();
      history.start();
    };
    const history = historyPanel(id, path, signal, changed);
    fill(
      head,
      heading(id, state, h("button", { class: "quiet", on: { click: () => copy(id) } }, "Copy id")),
      balance.element,
      buttons,
    );
    fill(
      rest,
      h(
        "div",
        { class: "columns" },
        section("Lots", { note: "in the order in which they are spent" }, lots),
        section("Open holds", {}, holds),
        section("What is set", {}, limits),
      ),
      history.element,
      statementPanel(path, signal),
    );
    return {
      show(account, itsLots, itsHolds) {
        current = account;
        fill(state, badge(account.state, TONES[account.state]));
        balance.show(account);
        fill(lots, lotsTable(itsLots));
        fill(holds, holdsTable(itsHolds));
        fill(limits, limitsFacts(account));
        if (buttons.dataset.state !== account.state) {
          buttons.dataset.state = account.state;
          fill(
            buttons,
            actions(() => current, changed),
          );
        }
      },
      newer: history.newer,
    };
  }

  let settling = null;
  live.on(
    "outcome",
    ({ user: of, seq }) => {
      if (of !== id || seq < newestSeq) return;
      newestSeq = seq;
      const heardAt = performance.now();
      settling ??= setTimeout(() => {
        settling = null;
        read();
        page?.newer(heardAt);
      }, SETTLE_MS);
    },
    signal,
  );
  const timer = setInterval(() => document.visibilityState === "visible" && read(), EACH_MS);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    clearTimeout(settling);
  });
  read();
}

function balancePanel() {
  const parts = {
    available: h("b", { class: "value" }),
    posted: h("b", { class: "value" }),
    held: h("b", { class: "value" }),
  };
  const hints = { available: "can be spent", posted: "by the ledger", held: "set aside by holds" };
  return {
    element: h(
      "ul",
      { class: "vitals balance", "aria-label": "Balance", "aria-live": "polite" },
      Object.entries(parts).map(([name, value]) =>
        h(
          "li",
          {},
          h("div", {}, h("span", { class: "label" }, name), value, h("span", { class: "hint" }, hints[name])),
        ),
      ),
    ),
    show(account) {
      for (const [name, value] of Object.entries(parts)) {
        say(value, number(account[name]));
        value.dataset.testid = name;
        value.classList.toggle("bad", account[name] < 0);
      }
    },
  };
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied.");
  } catch {
    notice("The browser does not let this page copy.", "warn");
  }
}
