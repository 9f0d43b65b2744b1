// <credits-balance> and <credits-history>: a person's credits, live. How to use and theme them: docs/components.md.

const HERE = new URL(import.meta.url).origin;
const LINES = 20; // Of history at a time.
const ANSWER_MS = 15_000;
const SILENT_MS = 45_000; // The gateway says something every 15 s.
const HIDDEN_MS = 60_000; // A tab that is hidden for longer gives its connection back.
const STEADY_MS = 5_000; // A stream that lasted so long ended because its token did: the next may follow at once.
const PAUSE_MAX_MS = 30_000;
const CLERK_MS = 10_000; // Until a page without Clerk counts as one where nobody is signed in.
const QUIET_MS = 1_000; // A balance is read out once it has not changed for so long.
const LINE_MAX = 65_536;

const feeds = new Map();

/** What one gateway says: a single stream, however many elements show it. */
class Feed {
  state = "loading"; // live | stale | signed-out
  balance = null;
  #elements = new Set();
  #running = false;
  #failures = 0;
  #refused = false;
  #round = new AbortController();

  constructor(base) {
    this.base = base;
  }

  attach(element) {
    this.#elements.add(element);
    element.update(this);
    if (!this.#running) this.#run();
  }

  detach(element) {
    this.#elements.delete(element);
    queueMicrotask(() => this.#elements.size || this.restart()); // Later, for it may only be moved.
  }

  /** Connect anew, now. `other`: it may be another person. */
  restart(other) {
    this.#failures = 0;
    if (other) this.#become("loading", null);
    this.#round.abort(this);
  }

  /** The answer to the person's question, or null if nobody is signed in. */
  async get(path, signal) {
    const own = [...this.#elements].find((each) => each.getToken);
    const options = { skipCache: this.#refused };
    const asked = own ? own.getToken(options) : loadedClerk().then((clerk) => clerk?.session?.getToken(options));
    const token = await Promise.race([asked, aborted(signal)]);
    if (!token) return null;
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch(this.base + path, { headers, signal, cache: "no-store", credentials: "omit" });
    const before = this.#refused;
    this.#refused = answer.status === 401;
    if (this.#refused && before) return null; // A fresh token, too.
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer;
  }

  async #run() {
    this.#running = true;
    while (this.#elements.size) {
      const round = (this.#round = new AbortController());
      const began = Date.now();
      const state = asleep ? await pause(2 ** 31 - 1, round.signal) : await this.#listen(round);
      if (round.signal.reason === this) continue;
      round.abort();
      if (state) this.#become(state, state === "stale" ? this.balance : null);
      this.#failures = state || Date.now() - began < STEADY_MS ? this.#failures + 1 : 0;
      const longest = Math.min(PAUSE_MAX_MS, 500 * 2 ** this.#failures);
      this.#round = new AbortController();
      if (this.#failures) await pause(longest * (0.5 + Math.random() / 2), this.#round.signal);
    }
    this.#running = false;
    this.#become("loading", null); // Whoever comes later may be another person's element.
  }

  /** Take balances in until the stream ends; return what to show if that is no good end. */
  async #listen(round) {
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => round.abort(), SILENT_MS);
    };
    try {
      heard();
      const answer = await this.get("/me/events", round.signal);
      if (!answer) return "signed-out";
      if (!this.balance) this.#become("loading", null); // Until an account is opened.
      for await (const { type, data } of events(answer.body, heard)) {
        if (type !== "balance") continue;
        const balance = JSON.parse(data);
        if (!Number.isSafeInteger(balance.available)) throw new Error("not a balance");
        this.#become("live", balance);
      }
    } catch {
      return "stale";
    } finally {
      clearTimeout(timer);
    }
  }

  #become(state, balance) {
    Object.assign(this, { state, balance });
    for (const element of this.#elements) element.update(this);
  }
}

/** Server-sent events of a stream; `heard` is called for whatever comes, comments included. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let type = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/); // At the end, \n may follow.
    rest = lines.pop();
    if (rest.length > LINE_MAX) throw new Error("an endless line");
    for (const line of lines) {
      const [, field, text] = line.match(/^([^:]*):? ?(.*)$/s);
      if (field === "event") type = text;
      else if (field === "data") data.push(text);
      else if (line === "") {
        if (data.length) yield { type, data: data.join("\n") };
        type = "";
        data = [];
      }
    }
  }
}

let asleep = false;
let falling;
function turned() {
  clearTimeout(falling);
  const fall = () => {
    asleep = true;
    for (const feed of feeds.values()) feed.restart();
  };
  if (document.hidden) {
    falling = setTimeout(fall, HIDDEN_MS);
    return;
  }
  for (const feed of feeds.values()) if (asleep || feed.state !== "live") feed.restart();
  asleep = false;
}
document.addEventListener("visibilitychange", turned);
turned();

// Going offline too: the gateway may be on this machine, and else the attempt shows that it can't be reached.
for (const change of ["online", "offline"]) {
  addEventListener(change, () => feeds.forEach((feed) => feed.restart()));
}

let clerk;
/** Clerk once it has loaded; from then on, feeds begin anew as people sign in and out. */
async function loadedClerk() {
  for (let waited = 0; waited < CLERK_MS && !window.Clerk?.loaded; waited += 50) await pause(50);
  if (clerk || !window.Clerk?.loaded) return clerk;
  clerk = window.Clerk;
  let current = clerk.session?.id;
  clerk.addListener(() => {
    const now = clerk.session?.id;
    if (clerk.session === undefined || now === current) return; // Undefined while it changes.
    current = now;
    for (const feed of feeds.values()) feed.restart(true);
  });
  return clerk;
}

const aborted = (signal) => new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason)));

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => resolve(clearTimeout(timer)));
  });

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  :host { display: inline-block; font: var(--credits-font, inherit); color: var(--credits-color, inherit) }
  :host([hidden]), [hidden] { display: none !important }
  * { box-sizing: border-box }
  [part~=box] {
    display: inline-flex; align-items: center; gap: .5em; padding: .25em .75em; line-height: 1.5;
    border: 1px solid var(--credits-border, transparent); border-radius: var(--credits-radius, .5em);
    background: var(--credits-background, color-mix(in srgb, currentColor 8%, transparent));
  }
  [part~=label], [part~=mark], [part~=detail], th, td:last-child {
    color: var(--credits-muted, color-mix(in srgb, currentColor 75%, transparent)); font-size: .875em
  }
  [part~=number], td + td { font-variant-numeric: tabular-nums }
  [part~=number] { font-weight: 600 }
  [part~=number], [part~=box] [part~=skeleton] { font-size: 1.125em }
  [part~=skeleton] {
    display: block; width: 3ch; height: 1.5em; opacity: .25; border-radius: .25em; background: currentColor
  }
  @media (prefers-reduced-motion: no-preference) {
    [part~=skeleton] { animation: pulse 1.5s ease-in-out infinite alternate }
  }
  @keyframes pulse { to { opacity: .1 } }
  :host(credits-history) { display: block }
  :host(credits-history) [part~=skeleton] {
    width: 100%; height: 9em; background: repeating-linear-gradient(currentColor 0 1em, transparent 1em 4em)
  }
  table { width: 100%; border-collapse: collapse }
  th, td { padding: .5rem; text-align: end; vertical-align: baseline; font-weight: 400 }
  th:first-child, td:first-child { text-align: start; overflow-wrap: anywhere }
  tbody tr { border-block-start: 1px solid var(--credits-border, color-mix(in srgb, currentColor 15%, transparent)) }
  [part~=detail] { display: block }
  [part~=status]:empty { margin: 0 }
  [part~=gain] { color: var(--credits-gain, color-mix(in srgb, #16a34a 75%, currentColor)); font-weight: 600 }
  [part~=loss] { color: var(--credits-loss, color-mix(in srgb, #dc2626 80%, currentColor)); font-weight: 600 }
  button {
    font: inherit; color: inherit; background: none; cursor: pointer; padding: .5em 1em; margin-block: .5em;
    border: 1px solid var(--credits-muted, currentColor); border-radius: var(--credits-radius, .5em);
  }
  :focus-visible { outline: 2px solid var(--credits-focus, currentColor); outline-offset: 2px }
  .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
`);

/** An element of our own; children that are text stay text, whatever is in it. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.append(...children);
  return element;
}

/** Show an element or don't; with `text`, say that. */
function show(element, visible, text) {
  element.hidden = !visible;
  if (text !== undefined && element.textContent !== text) element.textContent = text;
}

const skeleton = (label) => make("span", { part: "skeleton", role: "status", "aria-busy": true, "aria-label": label });

class CreditsElement extends HTMLElement {
  static observedAttributes = ["gateway"];
  #getToken;
  #feed;

  constructor() {
    super();
    this.attachShadow({ mode: "open" }).adoptedStyleSheets = [sheet];
    for (const name of ["gateway", "getToken"]) {
      if (!Object.hasOwn(this, name)) continue; // Set before this class was there to see it.
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
  }

  /** Where the credits are asked for; by default where this script is from. */
  get gateway() {
    return (this.getAttribute("gateway") || HERE).replace(/\/+$/, "");
  }
  set gateway(url) {
    this.setAttribute("gateway", url);
  }

  /** An async function that gives a session token, or null if nobody is signed in; by default Clerk's. */
  get getToken() {
    return this.#getToken;
  }
  set getToken(given) {
    const isFirst = !this.#getToken; // React may give another one each time that it renders.
    this.#getToken = given;
    if (isFirst) this.refresh();
  }

  /** Call it when somebody signs in or out, unless Clerk is what knows. */
  refresh() {
    this.#feed?.restart(true);
  }

  connectedCallback() {
    const { gateway } = this;
    if (!feeds.has(gateway)) feeds.set(gateway, new Feed(gateway));
    this.#feed = feeds.get(gateway);
    this.#feed.attach(this);
  }

  disconnectedCallback() {
    this.#feed?.detach(this);
    this.#feed = null;
  }

  attributeChangedCallback() {
    if (!this.#feed) return;
    this.disconnectedCallback();
    this.connectedCallback();
  }

  /** As the page's language writes numbers, with a sign or without; 1000 as that, and 10,000. */
  number(value, signDisplay = "auto") {
    const style = { useGrouping: "min2", numberingSystem: "latn", signDisplay };
    return new Intl.NumberFormat(this.language, style).format(value);
  }

  get language() {
    const { lang } = this.closest("[lang]") ?? document.documentElement;
    try {
      return Intl.getCanonicalLocales(lang || [])[0];
    } catch {
      return undefined; // It is none, as en_US: then the browser's.
    }
  }
}

class CreditsBalance extends CreditsElement {
  #label = make("span", { part: "label" }, "Credits:");
  #number = make("bdi", { part: "number", "data-testid": "credits-balance", dir: "ltr" });
  #skeleton = skeleton("Loading credits");
  #mark = make("span", { part: "mark" });
  #spoken = make("span", { class: "unseen", "aria-live": "polite" });
  #speaking;
  #known;

  constructor() {
    super();
    const shown = [this.#label, this.#number, this.#skeleton, this.#mark];
    this.shadowRoot.append(make("span", { part: "box" }, ...shown), this.#spoken);
  }

  update({ state, balance }) {
    const marks = { "signed-out": "Signed out", stale: navigator.onLine ? "reconnecting…" : "offline" };
    show(this.#label, state !== "signed-out");
    show(this.#skeleton, state === "loading");
    show(this.#mark, marks[state], marks[state] ?? "");
    show(this.#number, balance, balance ? this.number(balance.available) : "");
    if (balance) this.#tell(balance);
    else this.#known = null;
  }

  #tell({ available, posted, held }) {
    const before = this.#known;
    if (before && before.posted === posted && before.held === held) return;
    this.#known = { available, posted, held };
    clearTimeout(this.#speaking);
    const speak = () => (this.#spoken.textContent = `Credits: ${this.#number.textContent}`);
    if (before) this.#speaking = setTimeout(speak, QUIET_MS); // The first number is no news.
    this.dispatchEvent(new CustomEvent("credits-change", { bubbles: true, composed: true, detail: this.#known }));
  }
}

class CreditsHistory extends CreditsElement {
  #rows = make("tbody");
  #table = make("table", { part: "table" });
  #skeleton = skeleton("Loading the history of credits");
  #status = make("p", { part: "status", role: "status" });
  #button = make("button", { part: "button", type: "button" });
  #feed;
  #user; // Whose lines these are,
  #seq; // as of which entry,
  #newest; // from this id
  #next; // to just before this one; null when there are no older ones.
  #refreshing = false;
  #asked = false; // By hand, meanwhile.

  constructor() {
    super();
    const heads = ["Action", "Credits", "Balance"].map((name) => make("th", { scope: "col" }, name));
    const caption = make("caption", { class: "unseen" }, "History of credits");
    this.#table.append(caption, make("thead", {}, make("tr", {}, ...heads)), this.#rows);
    this.shadowRoot.append(this.#table, this.#skeleton, this.#status, this.#button);
  }

  update(feed) {
    const { state, balance } = (this.#feed = feed);
    if (balance?.user !== this.#user) {
      this.#user = balance?.user;
      this.#seq = this.#newest = this.#next = null;
      this.#rows.replaceChildren();
      this.#say("");
    }
    show(this.#skeleton, state === "loading" || (balance && this.#seq === null && !this.#status.textContent));
    if (balance && balance.seq !== this.#seq) this.#refresh();
    if (!balance) this.#say({ loading: "", "signed-out": "Signed out" }[state] ?? "No connection yet. Trying again…");
  }

  /** Put what is new on top. */
  async #refresh(asked = false) {
    this.#asked ||= asked && this.#refreshing;
    if (this.#refreshing) return;
    this.#refreshing = true;
    this.#asked = false;
    const { user, seq } = this.#feed.balance;
    const page = await this.#page("");
    if (user === this.#user && page) {
      this.#seq = seq;
      const known = page.entries.findIndex(({ id }) => id === this.#newest);
      if (known < 0) {
        this.#rows.replaceChildren();
        this.#next = page.next;
      }
      this.#rows.prepend(...this.#lines(known < 0 ? page.entries : page.entries.slice(0, known)));
      this.#newest = page.entries[0]?.id;
    }
    if (user === this.#user) this.#settle(page, () => this.#refresh(true), this.#rows.firstElementChild);
    await pause(QUIET_MS / 2); // However fast they come.
    this.#refreshing = false;
    if (this.#asked) this.#refresh();
    else if (page && this.isConnected) this.update(this.#feed);
  }

  /** Put older ones below. */
  async #older() {
    const next = this.#next;
    show(this.#button, true, "Loading…");
    this.#button.onclick = null;
    const page = await this.#page(`&before=${encodeURIComponent(next)}`);
    if (next !== this.#next) return; // Other lines are shown by now.
    const lines = this.#lines(page?.entries ?? []);
    this.#rows.append(...lines);
    if (page) this.#next = page.next;
    this.#settle(page, () => this.#older(), lines[0]);
  }

  /** A page of history, or null if it can't be had. */
  async #page(query) {
    try {
      const answer = await this.#feed.get(`/me/history?limit=${LINES}${query}`, AbortSignal.timeout(ANSWER_MS));
      return await answer.json();
    } catch {
      return null;
    }
  }

  /** Say how that went; who pressed a button that is gone now goes on at `line`. */
  #settle(page, again, line) {
    const pressed = this.shadowRoot.activeElement === this.#button;
    show(this.#skeleton, false);
    const empty = this.#rows.childElementCount ? "" : "Nothing here yet.";
    if (!page) this.#say("The history could not be loaded.", "Try again", again);
    else this.#say(empty, this.#next && "Load more", () => this.#older());
    if (pressed && this.#button.hidden) line?.focus();
  }

  #say(text, label = "", clicked = null) {
    show(this.#table, this.#rows.childElementCount);
    show(this.#status, true, text);
    show(this.#button, label, label ?? "");
    this.#button.onclick = clicked;
  }

  /** What changed a balance, as rows; what changed only a setting is left out. */
  #lines(entries) {
    return entries.filter(({ amount, hold }) => amount || hold).map((entry) => this.#line(entry));
  }

  #line({ action, kind, amount, hold, posted, held, at }) {
    const when = new Date(at);
    const local = when.toLocaleString(this.language, { dateStyle: "medium", timeStyle: "short" });
    const detail = make("span", { part: "detail" }, make("time", { datetime: when.toISOString() }, local));
    if (kind !== "charge" && kind !== action) detail.append(` · ${kind.replaceAll("_", " ")}`);
    const what = make("td", {}, make("bdi", { part: "action" }, action), detail);
    const part = !amount ? "hold" : amount > 0 ? "gain" : "loss";
    const text = amount
      ? this.number(amount, "exceptZero")
      : `${this.number(Math.abs(hold))} ${hold > 0 ? "held" : "released"}`;
    // Left to right in any page: its sign comes first.
    const change = make("td", { part }, make("bdi", { dir: "ltr" }, text));
    const after = make("td", {}, make("bdi", { dir: "ltr" }, this.number(posted - held)));
    return make("tr", { part: "line", tabindex: -1 }, what, change, after);
  }
}

for (const [name, type] of [["credits-balance", CreditsBalance], ["credits-history", CreditsHistory]]) {
  if (!customElements.get(name)) customElements.define(name, type); // A page may have this script twice.
}
