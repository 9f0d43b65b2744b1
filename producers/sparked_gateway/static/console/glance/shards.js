// Which worker holds which shard, and how much waits in each: one small square a shard.

import { fill, h, say } from "../dom.js";
import { number, plural, short } from "../format.js";
import { section } from "../parts.js";

const LEVELS = [1, 10, 100, 1_000];

export function shardsPanel() {
  const groups = h("div", { class: "owners" }, h("p", { class: "nothing" }, "Waiting for the first pulse."));
  let known = "";
  let cells = new Map();

  /** Laid out anew only if a shard or a worker comes or goes; else just the depths change. */
  function layOut({ shards, workers }) {
    cells = new Map(shards.map(({ shard }) => [shard, h("li", {}, String(shard))]));
    const by = Map.groupBy(shards, ({ owner }) => owner ?? "");
    const owners = [...new Set([...by.keys(), ...workers.map(({ id }) => id)])].sort();
    fill(
      groups,
      owners.map((owner) => group(owner, by.get(owner) ?? [])),
    );
  }

  function group(owner, shards) {
    const title = owner
      ? h(
          "h3",
          {},
          "Worker ",
          h("span", { class: "id", title: owner }, short(owner)),
          h("span", { class: "note", data: { owner } }),
        )
      : h("h3", { class: "bad" }, "No worker");
    return h(
      "div",
      { class: owner ? "owner" : "owner bad" },
      title,
      shards.length
        ? h(
            "ol",
            { class: "shards", "aria-label": owner ? `Shards of worker ${short(owner)}` : "Shards without a worker" },
            shards.map(({ shard }) => cells.get(shard)),
          )
        : h("p", { class: "nothing" }, "Holds no shard."),
    );
  }

  return {
    element: section("Shards and workers", { note: "shade: intents waiting", class: "live" }, groups),
    show(pulse) {
      const now = JSON.stringify([
        pulse.shards.map(({ shard, owner }) => [shard, owner]),
        pulse.workers.map(({ id }) => id),
      ]);
      if (now !== known) {
        known = now;
        layOut(pulse);
      }
      for (const { shard, intents, control } of pulse.shards) showDepth(cells.get(shard), shard, intents, control);
      for (const note of groups.querySelectorAll("[data-owner]")) tellOwner(note, pulse);
    },
  };
}

function tellOwner(note, { shards, workers }) {
  const id = note.dataset.owner;
  const count = plural(shards.filter(({ owner }) => owner === id).length, "shard");
  const lives = workers.some((worker) => worker.id === id);
  say(note, lives ? count : `${count}, is dead: others take over when its leases end`);
}

function showDepth(cell, shard, intents, control) {
  const depth = intents + control;
  const text = `shard ${shard}: ${depth ? `${plural(intents, "intent")}, ${number(control)} of control` : "nothing waits"}`;
  if (cell.title === text) return;
  cell.title = text;
  cell.dataset.level = LEVELS.filter((level) => depth >= level).length;
  fill(
    cell,
    h("span", { class: "unseen" }, text),
    h("span", { "aria-hidden": "true" }, String(shard)),
    depth ? h("b", { "aria-hidden": "true" }, compact(depth)) : null,
  );
}

function compact(count) {
  return count < 1000 ? String(count) : `${Math.round(count / 1000)}k`;
}
