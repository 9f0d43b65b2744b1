// Which page the address's hash names. Each page is a function of where to show itself, and of when it is left.

import { fill, h } from "./dom.js";
import { heading } from "./parts.js";
import { deadLetter, deadLetters } from "./pages/dead_letters.js";
import { glance } from "./pages/glance.js";
import { reconciliation, reconciliations } from "./pages/reconciliations.js";
import { unpaid } from "./pages/unpaid.js";
import { user } from "./pages/user.js";
import { users } from "./pages/users.js";

/** First part of the hash: the page's title and function, and that of one thing of its kind. */
const PAGES = {
  "": { title: "At a glance", page: glance },
  users: { title: "Users", page: users, one: user },
  "dead-letters": { title: "Dead letters", page: deadLetters, one: deadLetter },
  reconciliations: { title: "Reconciliations", page: reconciliations, one: reconciliation },
  unpaid: { title: "Unpaid trainings", page: unpaid },
};

export const LINKS = Object.entries(PAGES).map(([name, { title }]) => ({ name, title, href: `#/${name}` }));

let shown = null;
let main = null;

/** Show the page of the address, now and whenever it changes. */
export function follow(element) {
  if (main === null) addEventListener("hashchange", () => main && show());
  main = element;
  show();
}

/** Leave the page that is shown; with an element, show it again there. */
export function refresh(element) {
  shown?.abort();
  shown = null;
  main = element;
  if (element) show();
}

export function currentName() {
  return parts()[0];
}

function parts() {
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return [name, decoded(rest.join("/"))];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  shown?.abort();
  shown = new AbortController();
  const [name, one] = parts();
  const found = PAGES[name];
  const view = h("div", { class: "page" });
  fill(main, view);
  document.title = `${one || found?.title || "Not found"} · Sparked Credits`;
  document.dispatchEvent(new Event("pagechange"));
  scrollTo(0, 0);
  if (found && one && found.one) found.one(view, one, shown.signal);
  else if (found && !one) found.page(view, shown.signal);
  else fill(view, heading("There is no such page"), h("p", {}, h("a", { href: "#/" }, "System at a glance")));
}
