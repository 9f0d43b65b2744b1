// Runs of the reconciliation: whether accounts are what their entries say, and everybody has one.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { away, duration, number, plural, time, userLink, words } from "../format.js";
import { badge, facts, heading, loading, nothing, section, table } from "../parts.js";

const PATH = "/v1/admin/reconciliations";
const EACH_MS = 10_000;

export function reconciliations(view, signal) {
  const list = h("div", {});
  const again = loading(list, signal, () => get(PATH, { signal }), listed);
  const timer = setInterval(() => document.visibilityState === "visible" && again(), EACH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  fill(
    view,
    heading("Reconciliations"),
    h(
      "p",
      { class: "lead" },
      "Each compares every account with its entries, and users with accounts. It repairs what it may, and reports the rest.",
    ),
    list,
  );
}

function listed({ runs }) {
  if (!runs.length)
    return section(
      "None",
      {},
      nothing("No run is kept. `credits jobs` begins one every six hours; `credits reconcile` begins one now."),
    );
  return section(
    plural(runs.length, "run"),
    { note: "the newest first" },
    table(
      "Runs of the reconciliation",
      [
        {
          name: "Began",
          of: (run) => h("a", { href: `#/reconciliations/${encodeURIComponent(run.id)}` }, time(run.started_at)),
        },
        { name: "State", of: state },
        { name: "By", of: ({ trigger }) => words(trigger) },
        { name: "Took", class: "num", of: ({ duration_ms: ms }) => duration(ms) },
        { name: "Verified", class: "num", of: ({ verified }) => number(verified) },
        { name: "Wrong", class: "num", of: ({ wrong }) => toned(wrong, "bad") },
        { name: "Fixed", class: "num", of: ({ fixed }) => toned(fixed, "good") },
        { name: "Opened", class: "num", of: ({ opened }) => number(opened) },
        { name: "Unknown", class: "num", of: ({ unknown }) => toned(unknown, "warn") },
        { name: "Errors", class: "num", of: ({ errors }) => toned(errors, "bad") },
      ],
      runs,
    ),
  );
}

function state({ state: name, right }) {
  if (name === "running") return badge("running");
  if (name === "finished") return right ? badge("all right", "good") : badge("not all right", "bad");
  return badge(name === "stopped" ? "only looked" : name, "bad");
}

function toned(count, tone) {
  return h("span", { class: count ? tone : "muted" }, number(count));
}

export function reconciliation(view, id, signal) {
  const shown = h("div", { class: "stack" });
  fill(
    view,
    heading("Reconciliation"),
    h("p", { class: "id" }, id),
    shown,
    h("p", {}, h("a", { href: "#/reconciliations" }, "All runs")),
  );
  loading(shown, signal, () => get(`${PATH}/${encodeURIComponent(id)}`, { signal }), whole);
}

function whole(run) {
  const { report } = run;
  return [
    section(
      "What it did",
      { beside: state(run) },
      run.reason ? h("p", { class: "notice bad" }, run.reason) : null,
      facts([
        ["Began", h("span", {}, time(run.started_at), h("span", { class: "muted" }, ` ${away(run.started_at)}`))],
        ["Took", duration(run.duration_ms)],
        ["Asked for by", words(run.trigger)],
        ["Accounts", number(run.accounts)],
        ["Verified", `${number(run.verified)}, by ${plural(run.entries, "entry", "entries")}`],
        ["Wrong", toned(run.wrong, "bad")],
        ["Fixed", toned(run.fixed, "good")],
        ["Users of Clerk", number(run.users)],
        ["Without account", number(run.missing)],
        ["Opened", number(run.opened)],
        ["Unknown to Clerk", toned(run.unknown, "warn")],
        ["Errors", toned(run.errors, "bad")],
      ]),
    ),
    findings(report.findings),
    texts("Shards that do not add up", report.totals),
    texts("Errors", report.errors),
    looseEnds(report.loose_ends),
    usersListed("Without an account", report.missing),
    usersListed("Accounts opened", report.opened),
    usersListed("Unknown to Clerk", report.unknown),
  ];
}

function findings(found = []) {
  if (!found.length) return null;
  return section(
    "Wrong accounts",
    { note: "as they were found; the first hundred" },
    table(
      "Wrong accounts",
      [
        { name: "User", of: ({ user }) => userLink(user) },
        { name: "Account said", of: ({ cached }) => numbers(cached) },
        { name: "Entries say", of: ({ calculated }) => numbers(calculated) },
        { name: "Problems", of: ({ problems }) => problems.map((text) => h("div", {}, text)) },
        { name: "Then", of: ({ outcome }) => outcome || "nothing was done" },
      ],
      found,
    ),
  );
}

function numbers({ posted, held }) {
  return `${number(posted)} posted, ${number(held)} held`;
}

function texts(title, found = []) {
  return found.length
    ? section(
        title,
        {},
        h(
          "ul",
          { class: "plain" },
          found.map((text) => h("li", {}, text)),
        ),
      )
    : null;
}

function looseEnds(found = []) {
  if (!found.length) return null;
  const line = ({ what, count, oldest_at: oldest }) =>
    h("li", {}, `${number(count)} ${words(what)}, the oldest ${away(oldest)}`);
  return section(
    "Loose ends",
    { note: "what should have been dealt with" },
    h("ul", { class: "plain" }, found.map(line)),
  );
}

function usersListed(title, found = []) {
  if (!found.length) return null;
  return section(
    title,
    { note: "the first hundred" },
    h(
      "ul",
      { class: "names" },
      found.map((user) => h("li", {}, userLink(user))),
    ),
  );
}
