// A stand-in of clerk-js, for development: as much of its interface as pages with credits need, from the stand-in
// whose script this is. Like the real one, it keeps a fresh session token in the cookie `__session` of the page's host.

(() => {
  const frontendApi = new URL(document.currentScript.src).origin;
  const publishableKey = document.currentScript.dataset.clerkPublishableKey;
  const REFRESH_MS = 45_000; // A token lives for 60 s.
  const LEEWAY_MS = 10_000; // One that ends within so long isn't given out any more.

  const listeners = new Set();
  let token = null; // The last one, while somebody is signed in.

  const ask = async (path, method = "GET") => {
    const answer = await fetch(frontendApi + path, { method, credentials: "include", cache: "no-store" });
    if (!answer.ok) throw Object.assign(new Error(`Clerk: status ${answer.status}`), { status: answer.status });
    return answer.json();
  };

  const endOf = (jwt) => {
    const payload = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(payload)).exp * 1000;
  };

  const keep = (jwt) => {
    token = jwt;
    const rest = "path=/; SameSite=Lax" + (location.protocol === "https:" ? "; Secure" : "");
    document.cookie = jwt ? `__session=${jwt}; ${rest}` : `__session=; max-age=0; ${rest}`;
  };

  const userOf = (shown) => ({
    id: shown.id,
    primaryEmailAddress: shown.email_addresses
      .map((each) => ({ id: each.id, emailAddress: each.email_address }))
      .find((each) => each.id === shown.primary_email_address_id) ?? null,
    publicMetadata: shown.public_metadata,
  });

  const sessionOf = ({ id, status, user }) => ({
    id,
    status,
    user: userOf(user),
    // A token, or null when the session has ended meanwhile.
    async getToken({ skipCache = false } = {}) {
      if (token && !skipCache && endOf(token) - Date.now() > LEEWAY_MS) return token;
      try {
        const { jwt } = await ask(`/v1/client/sessions/${id}/tokens`, "POST");
        if (Clerk.session?.id === id) keep(jwt);
        return jwt;
      } catch (error) {
        if (error.status !== 401) throw error;
        if (Clerk.session?.id === id) await update();
        return null;
      }
    },
  });

  // Asks who is signed in; listeners are told when it is somebody else than before, or nobody any more.
  const update = async () => {
    const { response } = await ask("/v1/client");
    const [shown] = response.sessions;
    keep(shown?.last_active_token.jwt ?? null);
    if (Clerk.loaded && shown?.id === Clerk.session?.id) return;
    Clerk.session = shown ? sessionOf(shown) : null;
    Clerk.user = Clerk.session?.user ?? null;
    Clerk.loaded = true;
    for (const tell of listeners) tell(resources());
  };

  const resources = () => ({ session: Clerk.session, user: Clerk.user });

  const goTo = (path, { redirectUrl = location.href } = {}) => {
    location.assign(`${frontendApi}${path}?${new URLSearchParams({ redirect_url: redirectUrl })}`);
  };

  let loading = null;

  const Clerk = {
    publishableKey,
    loaded: false,
    // As with clerk-js: undefined until it is loaded, then null while nobody is signed in.
    user: undefined,
    session: undefined,
    load() {
      loading ??= update().then(
        () => {
          const refresh = () => update().catch(() => {}); // The next one may do better.
          setInterval(refresh, REFRESH_MS);
          document.addEventListener("visibilitychange", () => document.hidden || refresh());
          addEventListener("pageshow", (event) => event.persisted && refresh());
        },
        (error) => {
          loading = null; // So that it can be tried again.
          throw error;
        },
      );
      return loading;
    },
    // Tells at once what is known, then whenever it changes. Returns how to end that.
    addListener(tell) {
      listeners.add(tell);
      if (Clerk.loaded) tell(resources());
      return () => listeners.delete(tell);
    },
    async redirectToSignIn(options) {
      goTo("/sign-in", options);
    },
    async redirectToSignUp(options) {
      goTo("/sign-up", options);
    },
    async signOut({ redirectUrl = "/" } = {}) {
      if (Clerk.session) await ask(`/v1/client/sessions/${Clerk.session.id}/remove`, "POST").catch(() => {});
      await update();
      location.assign(redirectUrl);
    },
  };
  window.Clerk = Clerk;
})();
