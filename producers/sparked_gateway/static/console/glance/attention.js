// What needs somebody, in words, with what to do about it. Read this first.

import { fill, h } from "../dom.js";
import { away, number, plural } from "../format.js";
import { pulses } from "../live.js";

const WAIT_SLOW_MS = 1_000;
const QUEUE_DEEP = 1_000;
const INBOX_DEEP = 1_000;
const RUN_OLD_MS = 13 * 3_600_000; // One begins every six hours.

export function attention() {
  const list = h("ul", { class: "needs", "aria-label": "What needs attention" });
  return {
    element: list,
    show(pulse, overview) {
      if (!pulse && !overview) return;
      const found = [...ofPulse(pulse), ...ofOverview(pulse, overview)];
      if (!found.length) {
        found.push({ tone: "good", text: pulse ? allWell(pulse) : "Nothing is noted; waiting for the first pulse." });
      }
      const key = JSON.stringify(found);
      if (list.dataset.shown === key) return; // Rewritten each second it could not be read aloud, or clicked.
      list.dataset.shown = key;
      const told = found.map(({ tone, text, href, link }) =>
        h("li", { class: tone }, h("span", {}, text), href ? h("a", { href }, link) : null),
      );
      fill(list, told);
    },
  };
}

function allWell({ workers, shards }) {
  const by = workers.length === 1 ? "One worker holds" : `${number(workers.length)} workers hold`;
  return `All is well: ${by} all ${number(shards.length)} shards, and nothing waits for a person.`;
}

function* ofPulse(pulse) {
  if (!pulse) return;
  const ownerless = pulse.shards.filter(({ owner }) => !owner).map(({ shard }) => shard);
  if (pulse.workers.length === 0) {
    yield { tone: "bad", text: "No worker is alive: nothing is applied, charges wait. Start credits worker." };
  } else if (ownerless.length) {
    const which = ownerless.length > 8 ? `${ownerless.slice(0, 8).join(", ")} …` : ownerless.join(", ");
    yield {
      tone: "bad",
      text:
        `${plural(ownerless.length, "shard has", "shards have")} no worker: ${which}. A dead worker's are taken over within ` +
        "seconds; if this stays, the worker's log says why they are halted.",
    };
  }
  const deep = pulse.shards.filter(({ intents, control }) => intents + control >= QUEUE_DEEP);
  if (deep.length) {
    const most = Math.max(...deep.map(({ intents, control }) => intents + control));
    yield {
      tone: "warn",
      text: `${plural(deep.length, "queue is", "queues are")} deep, up to ${number(most)}: more comes in than workers apply.`,
    };
  }
  const recent = pulses.slice(-10).filter(({ wait_ms: wait }) => wait);
  if (recent.length && recent.every(({ wait_ms: wait }) => wait.p99 >= WAIT_SLOW_MS)) {
    yield { tone: "warn", text: "Charges wait for more than a second: look at the store's disk and the workers' CPU." };
  }
  const failures = pulses.reduce((sum, { refused }) => sum + (refused.intent_failed ?? 0), 0);
  if (failures) {
    yield {
      tone: "bad",
      text: `${plural(failures, "intent")} failed inside the store in the last minutes.`,
      href: "#/dead-letters",
      link: "See dead letters",
    };
  }
  if (pulse.inbox >= INBOX_DEEP) {
    yield { tone: "warn", text: `${plural(pulse.inbox, "event")} wait in the inbox: are credits jobs running?` };
  }
}

function* ofOverview(pulse, overview) {
  if (!overview) return;
  const letters = pulse?.dead ?? overview.dead_intents + overview.dead_events;
  if (letters) {
    yield {
      tone: "warn",
      text: `${plural(letters, "dead letter waits", "dead letters wait")} for a person.`,
      href: "#/dead-letters",
      link: "Show, requeue or drop",
    };
  }
  if (overview.unpaid) {
    yield {
      tone: "info",
      text: `${plural(overview.unpaid, "training is", "trainings are")} completed and unpaid; collected once there are credits.`,
      href: "#/unpaid",
      link: "See whose",
    };
  }
  yield* ofRun(overview.reconciliation);
}

function* ofRun(run) {
  if (!run) return;
  const found = { href: `#/reconciliations/${encodeURIComponent(run.id)}`, link: "See the run" };
  if (run.state === "failed" || run.state === "stopped") {
    yield {
      tone: "bad",
      text: `The last reconciliation ${run.state === "failed" ? "failed" : "only looked"}: ${run.reason || "no reason was kept"}.`,
      ...found,
    };
  } else if (run.state === "finished" && !run.right) {
    yield { tone: "bad", text: `The last reconciliation left ${wrongs(run)}.`, ...found };
  } else if (run.state === "finished" && Date.now() - run.finished_at > RUN_OLD_MS) {
    yield {
      tone: "warn",
      text: `The last reconciliation ended ${away(run.finished_at)}: are credits jobs running?`,
      ...found,
    };
  }
}

function wrongs({ wrong, fixed, errors }) {
  const left = [];
  if (wrong > fixed) left.push(`${plural(wrong - fixed, "account")} wrong`);
  if (errors) left.push(plural(errors, "error"));
  return left.join(" and ") || "something wrong";
}
