// Numbers, times and names, as people read them.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat("en");
const MINUS = "\u2212";

/** 1234567 → "1,234,567". */
export function number(value) {
  return whole.format(value).replace("-", MINUS);
}

/** With its sign: "+100", "−10", "0". */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}

export function credits(amount) {
  return `${number(amount)} ${Math.abs(amount) === 1 ? "credit" : "credits"}`;
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** So many a second: "0", "0.4", "9.8", "1,234". */
export function rate(perSecond) {
  return number(perSecond < 10 ? Number(perSecond.toFixed(1)) : Math.round(perSecond));
}

/** A time in ms as "0.4 ms", "12 ms", "1.2 s", "3 min", "2 h", "4 d". */
export function duration(ms) {
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

const clockOfToday = new Intl.DateTimeFormat("en", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const dated = new Intl.DateTimeFormat("en", {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

export function clock(ms) {
  return clockOfToday.format(ms);
}

/** A moment as an element: local time, with the exact one in UTC for who points at it. */
export function time(ms) {
  if (!ms) return "never";
  const iso = new Date(ms).toISOString();
  const today = new Date().toDateString() === new Date(ms).toDateString();
  return h("time", { datetime: iso, title: iso }, today ? clock(ms) : dated.format(ms));
}

/** "3 min ago", "in 2 h". */
export function away(ms, now = Date.now()) {
  const gap = ms - now;
  if (Math.abs(gap) < 1000) return "now";
  return gap < 0 ? `${duration(-gap)} ago` : `in ${duration(gap)}`;
}

/** "account_not_found" → "account not found". */
export function words(name) {
  return String(name).replaceAll("_", " ").replaceAll("-", " ");
}

/** An id of which the beginning tells enough. */
export function short(id, length = 8) {
  return id.length > length ? `${id.slice(0, length)}…` : id;
}

/** What a person typed into a datetime-local or date field, as ISO 8601 with a zone; undefined if nothing. */
export function zoned(local) {
  return local ? new Date(local.includes("T") ? local : `${local}T00:00`).toISOString() : undefined;
}

export function userLink(user) {
  return user ? h("a", { href: `#/users/${encodeURIComponent(user)}`, class: "id" }, user) : "—";
}
