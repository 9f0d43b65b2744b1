// Who is signed in: a person by Clerk, or whoever has an API key. A key is kept for this tab only.

const STORED = "console-api-key";
const LOADING_MS = 15_000;

let clerk = null;
const onEnd = new Set();

/** Where Clerk is, if this system has one: `{clerk_publishable_key, clerk_js}`, either null without. */
export async function readConfig() {
  const answer = await fetch("/console/config.json", { cache: "no-store", signal: AbortSignal.timeout(LOADING_MS) });
  if (!answer.ok) throw new Error(`config.json was answered with ${answer.status}`);
  return answer.json();
}

/** Load Clerk's script, which is the page's own way of signing people in. Throws if it can't be had. */
export async function loadClerk(config) {
  const script = document.createElement("script");
  script.src = config.clerk_js;
  script.crossOrigin = "anonymous";
  script.dataset.clerkPublishableKey = config.clerk_publishable_key;
  await withDeadline(
    new Promise((loaded, failed) => {
      script.addEventListener("load", loaded);
      script.addEventListener("error", () => failed(new Error("Clerk's script cannot be loaded")));
      document.head.append(script);
    }),
  );
  await withDeadline(window.Clerk.load());
  clerk = window.Clerk;
}

function withDeadline(promise) {
  const late = new Promise((_, failed) => {
    setTimeout(() => failed(new Error("Clerk did not answer in time")), LOADING_MS);
  });
  return Promise.race([promise, late]);
}

export const hasClerk = () => clerk !== null;
const hasKey = () => Boolean(sessionStorage.getItem(STORED));
export const isSignedIn = () => hasKey() || Boolean(clerk?.user);

let name = "";

/** Who is signed in, as it is recorded with what they do. */
export const actor = () => name;

export function knowActor(told) {
  name = told;
}

/** What stands behind `Bearer`; a fresh one for each request, for a session's token lives a minute. */
export async function token() {
  return sessionStorage.getItem(STORED) ?? (await clerk?.session?.getToken()) ?? "";
}

export function useKey(key) {
  sessionStorage.setItem(STORED, key);
}

export function signInWithClerk() {
  return clerk.redirectToSignIn({ redirectUrl: location.href });
}

/** Forget who it was. Of Clerk's session it is the person who ends it, by `signOut`. */
export async function signOut() {
  const byKey = hasKey();
  sessionStorage.removeItem(STORED);
  if (!byKey && clerk?.user) await clerk.signOut();
  ended("");
}

/** The gateway no longer takes who is signed in; `why` is for the sign-in page. */
export function ended(why) {
  sessionStorage.removeItem(STORED);
  for (const listener of onEnd) listener(why);
}

export function whenEnded(listener) {
  onEnd.add(listener);
}
