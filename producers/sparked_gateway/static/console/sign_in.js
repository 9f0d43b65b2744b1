// Signing in: with Clerk where there is one, or with an API key.

import { h } from "./dom.js";
import { heading } from "./parts.js";
import { hasClerk, signInWithClerk, useKey } from "./session.js";

/** `why`: what the gateway said, if it was the one to end a session. `then`: called once there is somebody. */
export function signInPage({ why, then }) {
  const key = h("input", {
    id: "api-key",
    name: "api-key",
    type: "password",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "api-key-help",
  });
  const form = h(
    "form",
    {
      class: "stack",
      on: {
        submit: (event) => {
          event.preventDefault();
          if (key.value.trim()) {
            useKey(key.value.trim());
            then();
          }
        },
      },
    },
    h(
      "div",
      { class: "field" },
      h("label", { for: "api-key" }, "API key"),
      key,
      h(
        "p",
        { class: "help", id: "api-key-help" },
        "One with the scopes read and admin, as ",
        h("code", {}, "credits keys create"),
        " makes. It is kept until this tab is closed, and recorded by its id with what you do.",
      ),
    ),
    h("div", {}, h("button", { class: hasClerk() ? "" : "primary", type: "submit" }, "Sign in with the key")),
  );
  return h(
    "div",
    { class: "narrow stack" },
    heading("Sparked Credits console"),
    why ? h("p", { class: "notice bad", role: "alert" }, `Signed out: ${why}`) : null,
    hasClerk()
      ? h(
          "div",
          { class: "stack" },
          h("p", {}, "For people whose Clerk user has the admin role."),
          h("div", {}, h("button", { class: "primary", on: { click: signInWithClerk } }, "Sign in with Clerk")),
          h("p", { class: "muted" }, "or"),
        )
      : null,
    form,
  );
}
