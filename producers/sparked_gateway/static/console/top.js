// The bar on top: where one is, whether what is shown is live, who is signed in.

import { fill, h, say } from "./dom.js";
import { clock, number } from "./format.js";
import * as live from "./live.js";
import { LINKS, currentName } from "./routes.js";
import { actor, signOut } from "./session.js";

const STATES = {
  connecting: { text: "Connecting", title: "Waiting for the first pulse" },
  live: { text: "Live", title: "Numbers are of this second" },
  lost: { text: "Connection lost", title: "What is shown may be old; trying again" },
};

const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };

export function topBar(element) {
  const nav = h("nav", { "aria-label": "Pages" });
  const state = h("span", { class: "pill", role: "status" });
  const lost = h("p", { class: "lost", role: "alert", hidden: true });
  const who = h("span", { class: "who" });
  const theme = h("button", { class: "quiet", on: { click: () => say(theme, THEMES[window.nextTheme()]) } });
  theme.textContent = THEMES[document.documentElement.dataset.theme];
  const leave = h("button", { class: "quiet", on: { click: () => signOut() } }, "Sign out");
  const right = h("div", { class: "right" }, state, who, theme, leave);
  fill(
    element,
    h(
      "div",
      { class: "bar" },
      h("a", { href: "#/", class: "brand" }, h("span", { class: "bolt" }), "Sparked Credits"),
      nav,
      right,
    ),
    lost,
  );

  // Made once: who is at a link with the keyboard is not to be thrown off it.
  const links = LINKS.map(({ name, title, href }) => {
    const count = h("span", { class: "count", hidden: true });
    return { name, count, element: h("a", { href }, title, " ", count) };
  });
  fill(
    nav,
    links.map(({ element: link }) => link),
  );

  function showPlace() {
    for (const { name, element: link } of links) {
      if (name === currentName()) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  function showDead({ dead }) {
    const { count } = links.find(({ name }) => name === "dead-letters");
    say(count, number(dead));
    count.hidden = dead === 0;
  }

  function showState() {
    const { text, title } = STATES[live.connection()];
    say(state, text);
    state.title = title;
    state.dataset.state = document.documentElement.dataset.connection = live.connection();
    const newest = live.pulses.at(-1);
    const since = newest ? ` since ${clock(newest.at)}` : "";
    lost.hidden = live.connection() !== "lost";
    say(
      lost,
      lost.hidden
        ? ""
        : `Connection lost: no pulse of the system${since}. The gateway or its store does not answer; trying again.`,
    );
  }

  function shownToSignedIn(isSignedIn) {
    for (const part of [nav, state, who, leave]) part.hidden = !isSignedIn;
    if (!isSignedIn) lost.hidden = true;
  }

  document.addEventListener("pagechange", showPlace);
  live.on("state", showState);
  live.on("pulse", showDead);
  shownToSignedIn(false);

  return {
    signedIn() {
      who.textContent = actor();
      who.title = `Signed in as ${actor()}: recorded with what you do`;
      showPlace();
      showState();
      shownToSignedIn(true);
    },
    signedOut() {
      shownToSignedIn(false);
    },
  };
}
