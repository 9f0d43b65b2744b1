// Doing something: a form, then a page that says exactly what will happen, then what came of it.

import { newKey } from "./api.js";
import { fill, h, newId } from "./dom.js";
import { failed, notice } from "./parts.js";
import { actor } from "./session.js";

/**
 * Keys of what was sent and not answered, by what was sent: sent again, the same gets the same key, though the dialog
 * was closed in between.
 */
const unanswered = new Map();

addEventListener("beforeunload", (event) => {
  if (unanswered.size) event.preventDefault(); // The key would be lost, and doing it again might do it twice.
});

/**
 * Open a dialog for one action.
 *
 * `name`: of the action, for keys. `key`: one that is always the same; null where none is needed. `fields`: as `field`
 * takes them. `review(values)`: sentences that say what will happen. `verb(values)`: what the last button says.
 * `isGrave`: that button warns. `send(values, key)`: does it, and returns what it did as a sentence. `done()`: called
 * after it was done.
 */
export function act(action) {
  const id = newId("dialog");
  const body = h("div", {});
  const dialog = h("dialog", { "aria-labelledby": id }, h("h2", { id }, action.title), body);
  const controls = action.fields.map(field);

  function showForm() {
    fill(body, form);
  }

  function showReview() {
    const values = Object.fromEntries(controls.map(({ name, read }) => [name, read()]));
    review(action, values, { dialog, body, back: controls.length ? showForm : () => dialog.close() });
  }

  const form = h(
    "form",
    {
      class: "stack",
      on: {
        submit: (event) => {
          event.preventDefault();
          showReview();
        },
      },
    },
    controls.map(({ element }) => element),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"),
      h("button", { type: "submit", class: "primary" }, "Review"),
    ),
  );

  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  if (controls.length) showForm();
  else showReview();
  body.querySelector("input, select, textarea")?.focus();
}

/** Show what will happen, and have it happen when the last button is pressed. */
function review(action, values, { dialog, body, back }) {
  const about = `${action.name} ${action.title} ${JSON.stringify(values)}`;
  const key = action.key === undefined ? (unanswered.get(about) ?? newKey(action.name)) : action.key;
  const outcome = h("div", {});
  const go = h("button", { type: "button", class: action.isGrave ? "grave" : "primary", on: { click: sendIt } });
  const leave = h("button", { type: "button", on: { click: back } }, action.fields.length ? "Back" : "Cancel");
  go.textContent = action.verb(values);

  async function sendIt() {
    go.disabled = leave.disabled = true;
    fill(outcome, h("p", { class: "muted", role: "status" }, "Waiting for the receipt …"));
    const wasSent = unanswered.has(about);
    unanswered.set(about, key);
    try {
      const told = await action.send(values, key);
      unanswered.delete(about);
      dialog.close();
      notice(told);
      action.done?.();
    } catch (problem) {
      // Refused: another try is another one, with a key of its own. But who asks for an answer that was lost, and may
      // not ask any more, still does not know what came of it.
      if (problem.isDecided || !(wasSent || problem.isUnknown)) unanswered.delete(about);
      showProblem(problem);
    } finally {
      go.disabled = leave.disabled = false;
    }
  }

  function showProblem(problem) {
    const isUnknown = unanswered.has(about);
    fill(outcome, failed(problem), isUnknown ? unknown() : null);
    go.textContent = "Send again";
    go.hidden = !isUnknown;
    if (!dialog.isConnected) notice(`${action.title}: ${problem.message}`, "bad"); // It was closed meanwhile.
  }

  fill(
    body,
    h(
      "div",
      { class: "review" },
      action
        .review(values)
        .filter(Boolean)
        .map((sentence) => h("p", {}, sentence)),
    ),
    h(
      "p",
      { class: "muted small" },
      "By ",
      h("span", { class: "id" }, actor()),
      key ? [", under the idempotency key ", h("span", { class: "id" }, key)] : null,
    ),
    outcome,
    h("div", { class: "buttons" }, leave, go),
  );
  go.focus();
}

function unknown() {
  return h(
    "p",
    { class: "notice warn" },
    "Nobody knows yet whether it was done. Send it again: with the same key it is done once at most.",
  );
}

/**
 * A labelled field: `{name, label, type?, help?, value?, options?, optional?, …attributes}`.
 *
 * `type`: `number` reads a whole number, `checkbox` true or false, `textarea` and the rest text; empty is undefined.
 */
function field({ name, label, type = "text", help, value, options, optional = false, ...attributes }) {
  const id = newId(name);
  const props = {
    id,
    name,
    required: !optional && type !== "checkbox",
    "aria-describedby": help ? `${id}-help` : null,
    ...attributes,
  };
  let control;
  if (options)
    control = h(
      "select",
      props,
      options.map(([chosen, text]) => h("option", { value: chosen }, text)),
    );
  else if (type === "textarea") control = h("textarea", { rows: "2", ...props });
  else
    control = h("input", {
      type,
      autocomplete: "off",
      spellcheck: "false",
      ...(type === "number" ? { step: "1", inputmode: "numeric" } : {}),
      ...props,
    });
  if (value !== undefined && type !== "checkbox") control.value = value;
  const told = [
    h(
      "label",
      { for: id },
      label,
      optional && type !== "checkbox" ? h("span", { class: "muted" }, " (optional)") : null,
    ),
    control,
  ];
  return {
    name,
    element: h(
      "div",
      { class: type === "checkbox" ? "field check" : "field" },
      type === "checkbox" ? told.reverse() : told,
      help ? h("p", { class: "help", id: `${id}-help` }, help) : null,
    ),
    read() {
      if (type === "checkbox") return control.checked;
      const text = control.value.trim();
      if (text === "") return undefined;
      return type === "number" ? Number(text) : text;
    },
  };
}

export const REASON = {
  name: "reason",
  label: "Reason",
  type: "textarea",
  maxlength: "500",
  help: "Kept in the account's history for ever, with your name.",
};
