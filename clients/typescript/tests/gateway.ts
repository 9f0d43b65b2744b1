/** The gateway that the tests run against, and a network that can be broken between it and the client. */

import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { CreditsSDK } from '../credits.js';

function told(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: tests/integration/test_typescript.py runs these tests`);
  return value;
}

export const url = told('GATEWAY_URL');
/** An API key of the app `chat`, to charge and to read. */
export const appToken = told('GATEWAY_APP_TOKEN');
export const adminToken = told('GATEWAY_ADMIN_TOKEN');

export const app = new CreditsSDK({ url, token: appToken });
export const admin = new CreditsSDK({ url, token: adminToken });

/** A user of this test alone, who has `initial` credits. */
export async function user(name: string, initial: number): Promise<string> {
  const response = await fetch(`${url}/v1/admin/accounts`, {
    method: 'POST',
    headers: { authorization: `Bearer ${adminToken}`, 'idempotency-key': 'open' },
    body: JSON.stringify({ user: name, initial }),
  });
  if (!response.ok) throw new Error(await response.text());
  return name;
}

export interface Network {
  client: CreditsSDK;
  /** How many requests have come. */
  requests: number;
}

/** What becomes of a request: `pass` sends it on to the gateway, and its answer back. */
export type Fate = (number: number, pass: () => void, req: IncomingMessage, res: ServerResponse) => void;

/** A client whose requests have a `fate`, the first of them with the number 1, until the test has ended. */
export async function network(t: TestContext, fate: Fate): Promise<Network> {
  const server = createServer((req, res) => {
    made.requests += 1;
    fate(made.requests, () => forward(req, res), req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const made = { client: new CreditsSDK({ url: `http://127.0.0.1:${port}/`, token: appToken }), requests: 0 };
  return made;
}

/** Have the gateway do it, and lose its answer. */
export function loseAnswer(req: IncomingMessage, res: ServerResponse): void {
  const onward = request(url + req.url, { method: req.method ?? 'GET', headers: req.headers }, (answer) => {
    answer.resume().on('end', () => res.destroy());
  });
  req.pipe(onward);
}

function forward(req: IncomingMessage, res: ServerResponse): void {
  const onward = request(url + req.url, { method: req.method ?? 'GET', headers: req.headers }, (answer) => {
    res.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(res);
  });
  onward.on('error', () => res.destroy());
  req.pipe(onward);
}
