/**
 * Credits for apps in TypeScript: a client of the gateway, in one file without dependencies, for servers.
 *
 * Copy it into your app. It needs `fetch` and `AbortSignal.any`: Node.js 20.3, or an edge runtime. docs/nextjs.md shows
 * it in Next.js; docs/gateway.md has the HTTP interface itself.
 */

/** How many credits: a whole number, or what the price book says for a quantity. */
export type Amount = number | { price: string; quantity?: number | string };

/** Kept with the entry, at most 4096 bytes as JSON. */
export type Metadata = Record<string, unknown>;

export interface Patience {
  /** How long to go on asking, with the same key. 10 000 if left out; the gateway takes half of it as its deadline. */
  timeoutMs?: number;
  /** Stops waiting. What was sent may still have its effect: the key tells. */
  signal?: AbortSignal;
}

export interface Keyed extends Patience {
  /**
   * The idempotency key: whatever is sent under it, however often, has one effect, for ever.
   *
   * Make it once for each thing to be done, before the first attempt, and where retries can find it again: an id that
   * the browser made for the click and sends with it, the id of a job, of a payment. Never make it where it is used,
   * from a clock or at random: then a retry would have another one, and charge again.
   * 1 to 255 ASCII characters without white space; unique per user and app.
   */
  key: string;
}

/** Proof of what a key did. Amounts are credits; `at` is in ms since 1970. */
export interface Receipt {
  user: string;
  origin: string;
  key: string;
  status: string;
  kind: string;
  amount: number;
  action: string;
  posted: number;
  held: number;
  available: number;
  seq: number;
  at: number;
  /** The key had this outcome before this call's last attempt. */
  replayed: boolean;
  required: number;
  refunded: number;
  details: Record<string, unknown>;
  /** What the user could spend right after: `available`. */
  balance: number;
}

/** One line of a user's history that moved credits. */
export interface Transaction {
  id: string;
  action: string;
  /** In ms since 1970. */
  timestamp: number;
  /** Signed: negative is spent. */
  amount: number;
}

/** It was refused, and asking again with the same key would be, too. `type` says why, and never changes. */
export class CreditsError extends Error {
  override name = 'CreditsError';
  /** Of the problem, such as `urn:sparked-credits:problem:account-not-found`; docs/gateway.md has them all. */
  readonly type: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;

  constructor(message: string, type: string, status: number) {
    super(message);
    this.type = type;
    this.status = status;
  }
}

/** The user has too few credits. Nothing was taken. */
export class InsufficientCreditsError extends CreditsError {
  override name = 'InsufficientCreditsError';
  readonly required: number;
  readonly available: number;

  constructor(message: string, type: string, status: number, required: number, available: number) {
    super(message, type, status);
    this.required = required;
    this.available = available;
  }
}

/** No answer came in time: whether it was done is unknown. Ask again with the same key, and nothing is done twice. */
export class UnavailableError extends CreditsError {
  override name = 'UnavailableError';
}

const PROBLEM = 'urn:sparked-credits:problem:';
const TIMEOUT_MS = 10_000;
const PAUSE_MS_MAX = 2_000;
const PAGE_MAX = 1_000;
const PAGES_MAX = 20;

/** What may be sent again: nothing was done, or nobody knows. 502 and 504 are those of proxies before the gateway. */
const AGAIN = new Set([429, 502, 503, 504]);
const IN_PROGRESS = PROBLEM + 'in-progress';

interface Ask {
  method?: 'GET' | 'POST';
  path: string;
  key?: string;
  body?: Record<string, unknown>;
  /** Not to wait for the outcome, once it is certain that there will be one. */
  later?: boolean;
}

export class CreditsSDK {
  // Private fields, so that nothing prints them with the object.
  readonly #url: string;
  readonly #token: string;

  /**
   * @param options.url The gateway, such as `https://credits.example.com`.
   * @param options.token The app's API key, `sk_…`, from `credits keys create`. A secret of the server: it can charge
   *   anybody.
   */
  constructor(options: { url: string; token: string }) {
    const { url, token } = options;
    if (!/^https?:\/\/[^\s?#@]+$/.test(url ?? '') || !URL.canParse(url)) {
      throw new TypeError('url: must be the URL of the gateway, such as https://credits.example.com');
    }
    if (!/^sk_[0-9a-f]+_[0-9a-f]+$/.test(token ?? '')) {
      throw new TypeError('token: must be an API key as `credits keys create` shows it, sk_…, and nothing else');
    }
    this.#url = url.replace(/\/+$/, '');
    this.#token = token;
  }

  /**
   * Take credits, before what they pay for is done.
   *
   * The key pays once. If the receipt is `replayed`, it was paid before, perhaps by an attempt whose answer was lost.
   *
   * @throws InsufficientCreditsError Nothing was taken, and nothing will be under this key.
   * @throws CreditsError Refused otherwise: no account, frozen, a spend limit, a key used for something else.
   * @throws UnavailableError No answer in time. Ask again with the same key.
   */
  async deduct(
    userId: string, amount: Amount, action: string, metadata: Metadata, options: Keyed,
  ): Promise<Receipt> {
    const body = { user: checkedUser(userId), ...asked(amount), action, metadata };
    return this.#write('/v1/charges', body, options);
  }

  /**
   * Take credits, do `work`, and give them back if it throws; what it throws goes on.
   *
   * Called again with the same key, it does the work again on the first charge: a key is for one piece of work, until
   * that has succeeded once. To do it once, whatever is sent again, is the app's task; docs/nextjs.md shows how.
   *
   * @throws CreditsError As `deduct`, and `charge-refunded`: it failed before, and was given back. Use a new key.
   * @throws UnavailableError From `deduct`, or, with the work's error as its `cause`, the credits could not be given
   *   back yet: `refund` them, with the key `refund:` and `key`.
   */
  async charging<T>(
    userId: string, amount: Amount, action: string, metadata: Metadata, options: Keyed,
    work: (receipt: Receipt) => Promise<T>,
  ): Promise<T> {
    const receipt = await this.deduct(userId, amount, action, metadata, options);
    const { key } = options;
    if (receipt.refunded > 0) {
      const message = `what was charged under the key ${key} was given back: new work needs a new key`;
      throw new CreditsError(message, PROBLEM + 'charge-refunded', 409);
    }
    try {
      return await work(receipt);
    } catch (error) {
      // Not by the caller's signal: that it has fired may be why the work failed.
      await this.refund(userId, key, { key: `refund:${key}` }).catch((failed: unknown) => {
        if (failed instanceof Error) failed.cause = error;
        throw failed;
      });
      throw error;
    }
  }

  /**
   * Give a charge or capture back, or `amount` of it. Returns once that is certain to happen, however long it may take.
   *
   * @param of The key of the charge.
   */
  async refund(
    userId: string, of: string, options: Keyed & { amount?: number; metadata?: Metadata },
  ): Promise<void> {
    const { amount, metadata = {} } = options;
    const part = amount === undefined ? {} : asked(amount);
    const body = { user: checkedUser(userId), of: checkedKey(of, 'of'), ...part, metadata };
    await this.#ask({ path: '/v1/refunds', body, key: checkedKey(options.key), later: true }, options);
  }

  /**
   * Set credits aside for work whose cost is known at its end only. `capture` takes what it came to; without that, the
   * credits are free again after `expiresIn` seconds (3600 if left out), whatever has become of this process.
   *
   * @throws As `deduct`.
   */
  async hold(
    userId: string, amount: Amount, action: string, metadata: Metadata, options: Keyed & { expiresIn?: number },
  ): Promise<Receipt> {
    const { expiresIn } = options;
    const lapse = expiresIn === undefined ? {} : { expires_in: expiresIn };
    const body = { user: checkedUser(userId), ...asked(amount), action, metadata, ...lapse };
    return this.#write('/v1/holds', body, options);
  }

  /**
   * Take `amount` of a hold, or all of it, and release the rest.
   *
   * @param hold The key of the hold.
   */
  async capture(
    userId: string, hold: string, options: Keyed & { amount?: number; metadata?: Metadata },
  ): Promise<Receipt> {
    const { amount, metadata = {} } = options;
    const part = amount === undefined ? {} : asked(amount);
    return this.#write(`${holdPath(userId, hold)}/capture`, { ...part, metadata }, options);
  }

  /** Release a hold. */
  async void(userId: string, hold: string, options: Keyed): Promise<Receipt> {
    return this.#write(`${holdPath(userId, hold)}/void`, {}, options);
  }

  /** Give credits, for which the API key needs the scope `admin`. The reason and the metadata stay in the history. */
  async add(
    userId: string, amount: number, reason: string, metadata: Metadata, options: Keyed,
  ): Promise<Receipt> {
    const body = { user: checkedUser(userId), ...asked(amount), reason, metadata };
    return this.#write('/v1/admin/grants', body, options);
  }

  /** What the user can spend now. */
  async getBalance(userId: string, options: Patience = {}): Promise<number> {
    const path = `/v1/users/${encodeURIComponent(checkedUser(userId))}/balance`;
    const found = (await this.#ask({ method: 'GET', path }, options)) as { available: number };
    return found.available;
  }

  /** The newest transactions, `limit` of them (50 if left out). */
  async getTransactions(userId: string, options: Patience & { limit?: number } = {}): Promise<Transaction[]> {
    const { limit = 50 } = options;
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > PAGE_MAX) {
      throw new TypeError(`limit: must be a whole number from 1 to ${PAGE_MAX}`);
    }
    const start = `/v1/users/${encodeURIComponent(checkedUser(userId))}/history?limit=${limit}`;
    const found: Transaction[] = [];
    let path = start;
    // What moved no credits, such as a hold, is passed over, but not without end.
    for (let pages = 0; pages < PAGES_MAX && found.length < limit; pages++) {
      const page = (await this.#ask({ method: 'GET', path }, options)) as HistoryPage;
      for (const entry of page.entries) {
        if (entry.amount !== 0) {
          found.push({ id: entry.id, action: entry.action, timestamp: entry.at, amount: entry.amount });
        }
      }
      if (page.next === null) break;
      path = `${start}&before=${encodeURIComponent(page.next)}`;
    }
    return found.slice(0, limit);
  }

  async #write(path: string, body: Record<string, unknown>, options: Keyed): Promise<Receipt> {
    const key = checkedKey(options?.key);
    // Half of the time for the outcome, the other for its answer.
    const timeout = Math.min((options.timeoutMs ?? TIMEOUT_MS) / 2000, 60);
    const receipt = (await this.#ask({ path, body: { ...body, timeout }, key }, options)) as Receipt;
    return { ...receipt, balance: receipt.available };
  }

  /** Ask, and ask again while nobody knows, until the time is over. */
  async #ask(ask: Ask, { timeoutMs = TIMEOUT_MS, signal }: Patience): Promise<unknown> {
    // Before anything is sent: what is no JSON, such as a BigInt in the metadata, is the caller's mistake.
    const text = ask.body ? JSON.stringify(ask.body) : null;
    const end = Date.now() + timeoutMs;
    const ours = AbortSignal.timeout(timeoutMs);
    const both = signal ? AbortSignal.any([ours, signal]) : ours;
    let last = new UnavailableError('the gateway did not answer in time', PROBLEM + 'unavailable', 0);
    for (let attempt = 0; ; attempt++) {
      let pauseMs = Math.min(100 * 2 ** attempt, PAUSE_MS_MAX) * (0.5 + Math.random() / 2);
      try {
        const response = await this.#send(ask, text, both);
        const answer: unknown = await response.json().catch((error: unknown) => {
          // An answer that breaks off is none; one that is no JSON is a proxy's.
          if (error instanceof SyntaxError) return null;
          throw error;
        });
        if (response.ok && answer !== null) return answer;
        const error = refusal(response.status, answer);
        if (!(error instanceof UnavailableError)) throw error;
        last = error;
        pauseMs += 1000 * Number(response.headers.get('retry-after')) || 0;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof CreditsError) throw error;
      }
      if (Date.now() + pauseMs >= end) throw last;
      await pause(pauseMs, both);
      signal?.throwIfAborted();
    }
  }

  async #send(ask: Ask, text: string | null, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.#token}` };
    if (text) headers['content-type'] = 'application/json';
    if (ask.key) headers['idempotency-key'] = quoted(ask.key);
    if (ask.later) headers['prefer'] = 'respond-async';
    const init: RequestInit & { cache: 'no-store' } = {
      method: ask.method ?? 'POST',
      headers,
      body: text,
      signal,
      // Next.js would keep balances; and whoever the gateway's URL leads to must not get the API key.
      cache: 'no-store',
      redirect: 'manual',
    };
    return fetch(this.#url + ask.path, init);
  }
}

interface HistoryPage {
  entries: { id: string; action: string; at: number; amount: number }[];
  next: string | null;
}

interface Problem {
  type?: string;
  detail?: string;
  required?: number;
  available?: number;
}

function refusal(status: number, answer: unknown): CreditsError {
  const problem: Problem = typeof answer === 'object' && answer !== null ? answer : {};
  const type = problem.type ?? 'about:blank';
  const message = problem.detail ?? `the gateway's URL answered ${status}, and not as a gateway does`;
  if (AGAIN.has(status) || type === IN_PROGRESS) return new UnavailableError(message, type, status);
  if (type === PROBLEM + 'insufficient-credits') {
    return new InsufficientCreditsError(message, type, status, problem.required ?? 0, problem.available ?? 0);
  }
  return new CreditsError(message, type, status);
}

function asked(amount: Amount): Record<string, unknown> {
  if (typeof amount === 'object' && amount !== null) {
    const { price, quantity } = amount;
    if (typeof price !== 'string' || price === '' || (typeof quantity === 'number' && !Number.isFinite(quantity))) {
      throw new TypeError('amount: must name a price of the book, and a quantity that is a number');
    }
    return quantity === undefined ? { price } : { price, quantity };
  }
  // JSON would make null of NaN.
  if (!Number.isSafeInteger(amount) || amount < 1) {
    throw new TypeError(`amount: must be a whole number of credits, 1 or more, not ${String(amount)}`);
  }
  return { amount };
}

function checkedUser(userId: string): string {
  // In a path, these two would mean another one.
  if (typeof userId !== 'string' || userId === '' || userId === '.' || userId === '..') {
    throw new TypeError('userId: must be the id of a user, such as what auth() of Clerk returns; is anybody signed in?');
  }
  return userId;
}

function checkedKey(key: unknown, what = 'key'): string {
  if (typeof key !== 'string' || !/^[!-~]{1,255}$/.test(key) || key === '.' || key === '..') {
    throw new TypeError(
      `${what}: must be 1 to 255 ASCII characters without white space, made once for each thing to be done, before its first ` +
        'attempt, and the same in every retry: the id that the browser sent with its request, the id of the job',
    );
  }
  return key;
}

function holdPath(userId: string, hold: string): string {
  return `/v1/users/${encodeURIComponent(checkedUser(userId))}/holds/${encodeURIComponent(checkedKey(hold, 'hold'))}`;
}

/** As a string of RFC 9651. */
function quoted(key: string): string {
  return `"${key.replace(/[\\"]/g, '\\$&')}"`;
}

/** Wait, or until `signal`. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
