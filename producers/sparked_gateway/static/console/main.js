// Begins: finds out who signs people in and who is here, then shows the page that the address names.

import { get } from "./api.js";
import { add, fill, h } from "./dom.js";
import * as live from "./live.js";
import { failed, heading } from "./parts.js";
import { follow, refresh } from "./routes.js";
import * as session from "./session.js";
import { signInPage } from "./sign_in.js";
import { topBar } from "./top.js";

const main = document.getElementById("main");
const bar = topBar(document.getElementById("top"));

session.whenEnded((why) => {
  live.stop();
  bar.signedOut();
  showSignIn(why);
});

function showSignIn(why = "") {
  refresh(null);
  fill(main, signInPage({ why, then: enter }));
}

/** Show the console to who may see it; say why to who may not. */
async function enter() {
  try {
    const overview = await get("/v1/admin/overview");
    session.knowActor(overview.actor);
    bar.signedIn();
    live.start();
    follow(main);
  } catch (problem) {
    if (problem.status === 401) return; // `whenEnded` has shown the sign-in page.
    fill(main, refused(problem));
  }
}

function refused(problem) {
  const isForbidden = problem.status === 403;
  return h(
    "div",
    { class: "narrow" },
    heading(isForbidden ? "You may not see this" : "The console cannot begin"),
    failed(problem),
    h(
      "p",
      {},
      isForbidden
        ? "The console is for API keys with the scopes read and admin, and for people whose Clerk user has the admin role."
        : "It needs the gateway, and the gateway needs the store.",
    ),
    h(
      "p",
      { class: "row" },
      h("button", { on: { click: enter } }, "Try again"),
      h("button", { on: { click: () => session.signOut() } }, "Sign out"),
    ),
  );
}

async function begin() {
  try {
    const config = await session.readConfig();
    if (config.clerk_js) await session.loadClerk(config);
  } catch (error) {
    // An API key still works where Clerk does not.
    add(
      document.getElementById("notices"),
      h("p", { class: "notice bad" }, `Signing in with Clerk is not possible: ${error.message}.`),
    );
  }
  if (session.isSignedIn()) await enter();
  else showSignIn();
}

begin();
