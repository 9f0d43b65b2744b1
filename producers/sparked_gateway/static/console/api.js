// Asking the gateway. Whatever goes wrong is a Problem, with words that can be shown.

import { ended, token } from "./session.js";

const TIMEOUT_MS = 20_000;

/** What was answered instead of a result, or that no answer came (status 0). */
export class Problem extends Error {
  constructor({ status = 0, type = "", title = "", detail = "", ...members }) {
    super(detail || title);
    this.status = status;
    this.kind = type.split(":").at(-1);
    this.title = title;
    this.detail = detail || title;
    this.members = members;
  }

  /** Whether it is the key's outcome, which sending it again would only repeat. */
  get isDecided() {
    return Boolean(this.members.receipt);
  }

  /** Whether nobody knows what came of it, so that the same is to be sent again, under the same key. */
  get isUnknown() {
    const { status, kind } = this;
    return !this.isDecided && (status === 0 || status >= 500 || status === 429 || kind === "in-progress");
  }
}

/** The JSON that GET answers with. `query`'s empty values are left out. */
export function get(path, { query = {}, signal } = {}) {
  return ask("GET", withQuery(path, query), { signal });
}

/** The JSON that POST answers with. `key`: the idempotency key, made before the first send and kept for others. */
export function post(path, body, { key, signal } = {}) {
  return ask("POST", path, { body, key, signal });
}

/** An idempotency key that nobody else has. */
export function newKey(what) {
  // Not randomUUID, which browsers have on https and on this machine alone.
  const random = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0"));
  return `console-${what}-${random.join("")}`;
}

async function ask(method, path, { body, key, signal }) {
  const headers = { accept: "application/json, application/problem+json" };
  const answer = await send(path, {
    method,
    signal: signal ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) : AbortSignal.timeout(TIMEOUT_MS),
    headers: {
      ...headers,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(key === undefined ? {} : { "idempotency-key": key }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  try {
    return await answer.json();
  } catch (error) {
    throw lost(error, signal);
  }
}

/** A request on behalf of who is signed in; throws a Problem unless it is answered well. */
export async function send(path, options) {
  let answer;
  try {
    const headers = { ...options.headers, authorization: `Bearer ${await token()}` };
    answer = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    throw lost(error, options.signal);
  }
  if (answer.ok) return answer;
  const problem = await readProblem(answer);
  if (problem.status === 401) ended(problem.detail);
  throw problem;
}

/** What to throw instead of what fetch throws: nothing else, if the asker does not want the answer any more. */
function lost(error, signal) {
  if (signal?.reason?.name === "AbortError") return error;
  return new Problem({
    title: "No answer",
    detail: "No answer came: the gateway cannot be reached, or took too long.",
  });
}

async function readProblem(answer) {
  const told = { status: answer.status, title: `The gateway answered ${answer.status}` };
  try {
    return new Problem({ ...told, ...(await answer.json()) });
  } catch {
    return new Problem(told);
  }
}

function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
