// What happens, as it happens: pulses each second, and some of the outcomes. One connection for all pages.

import { send } from "./api.js";
import { isSignedIn } from "./session.js";

const PULSES_KEPT = 300;
const OUTCOMES_KEPT = 200;
const SILENT_MS = 6_000; // Pulses come each second.
const LOST_MS = 3_000; // So long may connecting anew take without anybody being told.
const RETRY_MS = [250, 1_000, 2_000];

/** The last five minutes, the newest last. */
export const pulses = [];
/** The newest first. */
export const outcomes = [];

const listeners = { pulse: new Set(), outcome: new Set(), state: new Set() };
let state = "connecting";
let following = null;

export const connection = () => state;

/** Call `listener` with each `pulse`, `outcome` or `state`, until `signal`. */
export function on(what, listener, signal) {
  listeners[what].add(listener);
  signal?.addEventListener("abort", () => listeners[what].delete(listener), { once: true });
}

/** Follow, through reconnects, until `stop`. */
export function start() {
  stop();
  following = new AbortController();
  keepFollowing(following.signal);
}

export function stop() {
  following?.abort();
  following = null;
}

async function keepFollowing(signal) {
  let tries = 0;
  let lost = null;
  while (!signal.aborted && isSignedIn()) {
    // A session's token ends after a minute, and the stream with it. That is no lost connection.
    lost ??= setTimeout(() => enter("lost"), LOST_MS);
    try {
      await followOnce(signal, () => {
        tries = 0;
        clearTimeout(lost);
        lost = null;
        enter("live");
      });
    } catch (problem) {
      if (problem.status === 403) break; // Not an admin: the page says so.
    }
    if (signal.aborted) break;
    await new Promise((resume) => setTimeout(resume, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
    tries += 1;
  }
  clearTimeout(lost);
}

async function followOnce(signal, heard) {
  const silence = new AbortController();
  const fallSilent = () => {
    enter("lost");
    silence.abort();
  };
  let watch = setTimeout(fallSilent, SILENT_MS);
  try {
    const answer = await send("/v1/admin/live", {
      headers: { accept: "text/event-stream" },
      signal: AbortSignal.any([signal, silence.signal]),
    });
    for await (const event of events(answer.body)) {
      if (event.event !== "pulse") {
        take(event);
        continue;
      }
      clearTimeout(watch);
      watch = setTimeout(fallSilent, SILENT_MS);
      heard();
      take(event);
    }
  } finally {
    clearTimeout(watch);
  }
}

/** Server-sent events of a body, read here because EventSource sends no Authorization. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    reader.cancel().catch(() => {}); // It has ended.
  }
}

function parsed(block) {
  const found = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") found.event = value;
    if (name === "data") found.data += value;
  }
  return found;
}

function take({ event, data }) {
  if (!data || !(event in listeners)) return;
  const told = JSON.parse(data);
  if (event === "pulse") {
    pulses.push(told);
    pulses.splice(0, pulses.length - PULSES_KEPT);
  } else {
    outcomes.unshift(told);
    outcomes.splice(OUTCOMES_KEPT);
  }
  tell(event, told);
}

function enter(next) {
  if (state !== next) {
    state = next;
    tell("state", next);
  }
}

function tell(what, told) {
  for (const listener of listeners[what]) listener(told);
}
