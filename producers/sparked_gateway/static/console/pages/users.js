// Finding a user: by the beginning of its id, as Clerk's ids are copied from other places.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { userLink } from "../format.js";
import { failed, heading, nothing, section } from "../parts.js";

const TYPING_MS = 250;

export function users(view, signal) {
  const input = h("input", {
    id: "user-id",
    type: "search",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    placeholder: "user_2abc…",
  });
  const found = h("div", { class: "stack", "aria-live": "polite" });
  const form = h(
    "form",
    {
      class: "search",
      role: "search",
      on: {
        submit: (event) => {
          event.preventDefault();
          location.hash = `#/users/${encodeURIComponent(input.value.trim())}`;
        },
      },
    },
    h("label", { for: "user-id" }, "User id, or how it begins"),
    h("div", { class: "row" }, input, h("button", { type: "submit", class: "primary" }, "Open")),
  );

  let asked = null;
  let timer = null;
  async function look() {
    asked?.abort();
    asked = new AbortController();
    const mine = asked;
    try {
      const answer = await get("/v1/admin/users", {
        query: { prefix: input.value.trim() },
        signal: AbortSignal.any([signal, mine.signal]),
      });
      if (!mine.signal.aborted) fill(found, listed(answer));
    } catch (problem) {
      if (!mine.signal.aborted && !signal.aborted) fill(found, failed(problem, look));
    }
  }
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));

  fill(view, heading("Users"), form, section("Accounts", { note: "by id" }, found));
  input.focus();
  look();
}

function listed({ users: names, more }) {
  if (!names.length) return nothing("No account has an id that begins like this.");
  return [
    h(
      "ul",
      { class: "names" },
      names.map((name) => h("li", {}, userLink(name))),
    ),
    more ? nothing("There are more: type more of the id.") : null,
  ];
}
