// What the pages have in common: who is signed in, and how a form is sent, once however often it has to be.

const shown = (selector, yes) => {
  for (const each of document.querySelectorAll(selector)) each.hidden = !yes;
};

let signedIn = false;
const entered = new Set();

/** Call `entering` when somebody is signed in, and whenever their session is renewed. */
export const onSignedIn = (entering) => {
  entered.add(entering);
  if (signedIn) entering();
};

const begin = async () => {
  const { Clerk } = window;
  if (!Clerk) throw new Error("Clerk's script did not load");
  await Clerk.load();
  const goesTo = document.querySelector("[data-goes-to]")?.dataset.goesTo;
  const home = { redirectUrl: `${location.origin}/` };
  if (goesTo === "sign-up") return Clerk.redirectToSignUp(home);
  if (goesTo === "sign-in") return Clerk.redirectToSignIn(home);
  Clerk.addListener(({ user }) => {
    signedIn = Boolean(user);
    shown(".signed-in, credits-balance", signedIn);
    shown(".signed-out", !signedIn);
    if (signedIn) for (const entering of entered) entering();
  });
  document.querySelector("#sign-out").addEventListener("click", () => Clerk.signOut());
};

begin().catch(() => {
  const main = document.querySelector("main");
  const said = Object.assign(document.createElement("p"), {
    className: "error",
    textContent: "Signing in is not possible right now. Load the page again in a moment.",
  });
  said.setAttribute("role", "alert");
  main.prepend(said);
});

// Refused for a reason that sending the same again does not change.
class Refused extends Error {}

// The key is made before the first send, and kept until an answer is final: then what was asked for is either paid
// and done, or refused. Until then sending the same again, with the same key, costs nothing more.
let pending = null;

const post = async (path, body, began) => {
  const text = JSON.stringify(body);
  if (pending?.path !== path || pending.text !== text) pending = { path, text, key: crypto.randomUUID() };
  await window.Clerk.session?.getToken(); // Puts a fresh token into the cookie, if it is about to end.
  began(pending.key);
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": pending.key },
    body: text,
  });
  const said = await answer.json();
  if (answer.headers.has("Retry-After")) throw new Error(said.error);
  if (answer.status !== 401) pending = null;
  if (!answer.ok) throw new Refused(refusal(answer.status, said));
  return said;
};

/** What `path` answers, with more `options` of `fetch` if need be; null if it does not. */
export const ask = async (path, options = {}) => {
  try {
    await window.Clerk.session?.getToken();
    const answer = await fetch(path, options);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
};

const refusal = (status, { error, required, available }) => {
  if (status === 402) return `Not enough credits: this takes ${required}, and you have ${available}.`;
  if (status === 401) return "You are not signed in any more. Sign in, and send it again.";
  if (status === 404) return "Your account is still being opened. Send it again in a moment.";
  return error;
};

/**
 * Send `form` to its `data-path` as JSON whenever it is submitted, and `show` what comes back.
 * @param {HTMLFormElement} form
 * @param {(answer: object, sent: object) => void} show
 * @param {(fields: object) => object} body What is sent, of the form's fields as text.
 * @param {{began?: (key: string) => void, ended?: () => void}} meanwhile Told when it is sent, with its key, and when
 *   that is over.
 */
export const onSubmit = (
  form,
  show,
  body = (fields) => fields,
  { began = () => {}, ended = () => {} } = {},
) => {
  const error = form.querySelector("[data-testid=error]");
  const button = form.querySelector("[type=submit]");
  const fail = (message) => {
    error.textContent = message;
    error.hidden = !message;
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!signedIn) return window.Clerk?.redirectToSignIn();
    if (button.disabled) return undefined;
    fail("");
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    const sent = body(Object.fromEntries(new FormData(form)));
    try {
      show(await post(form.dataset.path, sent, began), sent);
    } catch (problem) {
      fail(
        problem instanceof Refused
          ? problem.message
          : "No answer came. Send it again: you pay for it only once.",
      );
    } finally {
      button.disabled = false;
      form.removeAttribute("aria-busy");
      ended();
    }
    return undefined;
  });
  // As in any chat: Enter sends, with Shift it is a new line.
  form.querySelector("textarea")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
};
