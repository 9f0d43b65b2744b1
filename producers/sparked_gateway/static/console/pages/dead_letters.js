// Dead letters: what workers and jobs gave up on, each with its reason, until a person requeues or drops it.

import { act } from "../acting.js";
import { get, newKey, post } from "../api.js";
import { fill, h } from "../dom.js";
import { away, plural, time, userLink, words } from "../format.js";
import { badge, code, facts, failed, heading, loading, nothing, section, skeleton, table } from "../parts.js";

const PATH = "/v1/admin/dead-letters";
const pathOf = (letter) => `${PATH}/${encodeURIComponent(letter)}`;
const linkOf = (letter) => `#/dead-letters/${encodeURIComponent(letter)}`;

export function deadLetters(view, signal) {
  const list = h("div", {});
  const again = loading(list, signal, () => get(PATH, { signal }), listed);
  fill(
    view,
    heading("Dead letters", h("button", { on: { click: again } }, "Reload")),
    h(
      "p",
      { class: "lead" },
      "Intents that could not be read or applied, and events that nothing could be made of. Nothing waits for them; open one to see what to do.",
    ),
    list,
  );
}

function listed({ letters, total }) {
  if (!letters.length) return section("None", {}, nothing("Nobody has to see to anything here."));
  return section(
    plural(total, "letter"),
    { note: total > letters.length ? `${letters.length} are shown` : "the newest first" },
    table(
      "Dead letters",
      [
        { name: "Letter", of: ({ letter }) => h("a", { href: linkOf(letter), class: "id" }, letter) },
        { name: "Time", of: ({ at }) => [time(at), h("div", { class: "muted small" }, away(at))] },
        { name: "From", of: ({ source }) => source },
        { name: "Kind", of: ({ kind }) => (kind ? words(kind) : "—") },
        { name: "User", of: ({ user }) => userLink(user) },
        { name: "Key", of: ({ key }) => h("span", { class: "id" }, key || "—") },
        { name: "Reason", of: ({ reason }) => reason },
      ],
      letters,
    ),
  );
}

export function deadLetter(view, letter, signal) {
  const shown = h("div", { class: "stack" }, skeleton(6));
  fill(view, heading("Dead letter"), h("p", { class: "id" }, letter), shown);
  read();

  async function read() {
    try {
      const found = await get(pathOf(letter), { signal });
      fill(shown, whole(found));
    } catch (problem) {
      if (!signal.aborted) fill(shown, failed(problem, read), back());
    }
  }
}

function back() {
  return h("p", {}, h("a", { href: "#/dead-letters" }, "All dead letters"));
}

function leave() {
  location.hash = "#/dead-letters";
}

function whole(found) {
  const isEvent = found.letter.startsWith("inbox:");
  const canRequeue = isEvent || found.content !== null;
  return [
    section(
      "What happened",
      {},
      h("p", { class: "notice bad" }, found.reason),
      facts([
        ["Time", h("span", {}, time(found.at), h("span", { class: "muted" }, ` ${away(found.at)}`))],
        ["From", isEvent ? `an event of ${found.source}` : `the queue ${found.source}`],
        [isEvent ? "Type" : "Kind", found.kind || "—"],
        ["User", userLink(found.user)],
        [isEvent ? "Event's id" : "Key", h("span", { class: "id" }, found.key || "—")],
        ["Key's outcome", found.outcome ? badge(words(found.outcome), "bad") : isEvent ? null : "none"],
      ]),
      h("p", { class: "advice" }, advice(found, isEvent, canRequeue)),
      h(
        "div",
        { class: "buttons" },
        canRequeue ? h("button", { class: "primary", on: { click: () => requeue(found, isEvent) } }, "Requeue") : null,
        h("button", { on: { click: () => drop(found) } }, "Drop"),
      ),
    ),
    section(
      isEvent ? "What was kept of the event" : "The intent, as it was sent",
      {},
      code(found.content ?? found.raw ?? ""),
    ),
    back(),
  ];
}

function advice({ outcome }, isEvent, canRequeue) {
  if (isEvent)
    return "Nothing could be made of this event. Once the reason is gone, such as after an upgrade, requeue it: it is dealt with once, however often it comes.";
  if (!canRequeue)
    return "It is not whole, or not JSON, so it can only be read and dropped. Its app has to send it again.";
  if (outcome)
    return "Its app was told this outcome, which is the key's for ever. If it is still to be done, requeue it under a new key; first see in the user's history what was done since.";
  return "Its key has no outcome, so nothing was taken. After an upgrade of the worker it can be requeued as it is.";
}

function requeue(found, isEvent) {
  const needsKey = Boolean(found.outcome);
  act({
    name: "requeue",
    key: null, // The intent has its own.
    title: `Requeue ${found.letter}`,
    fields: needsKey
      ? [
          {
            name: "key",
            label: "New idempotency key",
            value: newKey("requeue"),
            maxlength: "255",
            help: "The old one has an outcome for ever.",
          },
        ]
      : [],
    review: ({ key }) => [
      isEvent
        ? `Put this event of ${found.source} into the inbox again; the jobs deal with it.`
        : `Send this ${words(found.kind) || "intent"} of ${found.user || "nobody"} again, as the last of its queue, without its deadline.`,
      isEvent
        ? ""
        : key
          ? `Its key will be ${key}.`
          : `It keeps its key, ${found.key}, so that it has one effect at most.`,
      "It is no dead letter any more.",
    ],
    verb: () => "Requeue it",
    send: async ({ key }) => {
      await post(`${pathOf(found.letter)}/requeue`, key ? { key } : {});
      return isEvent
        ? "In the inbox again."
        : `Requeued. ${found.user ? "The user's history shows what comes of it." : ""}`;
    },
    done: () => (found.user && !isEvent ? (location.hash = `#/users/${encodeURIComponent(found.user)}`) : leave()),
  });
}

function drop(found) {
  act({
    name: "drop",
    key: null, // Dropped twice is dropped.
    title: `Drop ${found.letter}`,
    fields: [],
    review: () => [
      "Remove this letter for ever. Nothing will be made of it, and it cannot be shown again.",
      `It is ${words(found.kind) || "an intent that cannot be read"} of ${found.user || "nobody"}: ${found.reason}`,
    ],
    verb: () => "Drop it for ever",
    isGrave: true,
    send: async () => {
      await post(`${pathOf(found.letter)}/drop`, {});
      return `Dropped ${found.letter}.`;
    },
    done: leave,
  });
}
