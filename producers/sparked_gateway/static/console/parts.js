// What pages are put together from.

import { fill, h, newId } from "./dom.js";
import { Problem } from "./api.js";

export function heading(text, ...beside) {
  return h("div", { class: "heading" }, h("h1", {}, text), ...beside);
}

/** A titled part of a page. `props.class` is added to its own. */
export function section(title, { note, beside, ...props } = {}, ...children) {
  const id = newId("section");
  return h(
    "section",
    { ...props, class: `panel ${props.class ?? ""}`, "aria-labelledby": id },
    h("div", { class: "panel-head" }, h("h2", { id }, title), note ? h("span", { class: "note" }, note) : null, beside),
    ...children,
  );
}

/** A problem, as it is told to people. */
export function failed(problem, again) {
  if (!(problem instanceof Problem)) console.error(problem);
  const title = problem.title && problem.title !== problem.detail ? problem.title : null;
  return h(
    "div",
    { class: "notice bad", role: "alert" },
    title ? h("strong", {}, `${title}: `) : null,
    problem instanceof Problem ? problem.detail : `The console failed: ${problem.message}`,
    again ? h("button", { class: "inline", on: { click: again } }, "Try again") : null,
  );
}

export function nothing(text) {
  return h("p", { class: "nothing" }, text);
}

export function skeleton(lines = 3) {
  return h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, () => h("span", {})),
  );
}

/**
 * A table. Of the class `cards` each row becomes a card where there is little room: cells know their column's name.
 *
 * `columns`: `{name, of: (row) => cell content, class?}`. `rowProps`: attributes of a row's element.
 */
export function table(caption, columns, rows, { class: kind = "cards", rowProps = () => ({}) } = {}) {
  const body = h("tbody", {});
  const made = h(
    "table",
    { class: kind },
    h("caption", { class: "unseen" }, caption),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        columns.map(({ name, class: its }) => h("th", { scope: "col", class: its }, name)),
      ),
    ),
    body,
  );
  const line = (row) =>
    h(
      "tr",
      rowProps(row),
      columns.map(({ name, of, class: its }) => h("td", { class: its, data: { label: name } }, h("div", {}, of(row)))),
    );
  made.append_rows = (more) => body.append(...more.map(line));
  made.append_rows(rows);
  return made;
}

/** Names and values, below each other. Pairs whose value is null or undefined are left out. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

export function code(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return h("pre", { tabindex: "0", "aria-label": "As it is stored" }, text);
}

export function badge(text, tone = "") {
  return h("span", { class: `badge ${tone}` }, text);
}

/**
 * Show what `load` returns by `shown`, in `view`; meanwhile a skeleton, and a problem if there is one.
 *
 * Returns a function that loads again. An answer that comes after a newer one was asked for is not shown.
 */
export function loading(view, signal, load, shown) {
  let newest = 0;
  async function again() {
    const mine = (newest += 1);
    const isCurrent = () => mine === newest && !signal.aborted;
    try {
      const found = await load();
      if (isCurrent()) fill(view, shown(found));
    } catch (problem) {
      if (isCurrent()) fill(view, failed(problem, again));
    }
  }
  fill(view, skeleton());
  again();
  return again;
}

/** Say briefly, at the edge, what was done. */
export function notice(text, tone = "good") {
  const told = h("p", { class: `notice ${tone}` }, text);
  document.getElementById("notices").append(told);
  setTimeout(() => told.remove(), 8_000);
}
