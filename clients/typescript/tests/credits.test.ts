import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { CreditsError, CreditsSDK, InsufficientCreditsError, UnavailableError } from '../credits.js';
import { admin, adminToken, app, appToken, loseAnswer, network, url, user } from './gateway.js';

const PROBLEM = 'urn:sparked-credits:problem:';

/** Resolves as soon as `holds` does. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 10_000;
  while (!(await holds())) assert(Date.now() < end, 'it did not come to hold');
}

// What it costs

test('a charge takes credits, and its key takes them once', async () => {
  const ana = await user('ana', 100);
  const metadata = { app: 'app.sparked.world', model: 'claude-sonnet-4' };
  const first = await app.deduct(ana, 10, 'chat_message', metadata, { key: 'message-1' });
  assert.equal(first.balance, 90);
  assert.equal(first.replayed, false);
  const again = await app.deduct(ana, 10, 'chat_message', metadata, { key: 'message-1' });
  assert.deepEqual(again, { ...first, replayed: true });
  assert.equal(await app.getBalance(ana), 90);
});

test('a price of the book can be charged, by quantity too', async () => {
  const bo = await user('bo', 200);
  const fixed = await app.deduct(bo, { price: 'canvas_generation_complex' }, 'canvas_generation', {}, { key: 'c' });
  assert.equal(fixed.amount, 75);
  const metered = await app.deduct(bo, { price: 'video_generation', quantity: '4.5' }, 'video', {}, { key: 'v' });
  assert.equal(metered.amount, 45);
  assert.equal(metered.balance, 80);
});

test('too few credits are an error of its own, with both numbers', async () => {
  const cy = await user('cy', 30);
  const error = await app.deduct(cy, 50, 'canvas_generation', {}, { key: 'c-1' }).catch((error: unknown) => error);
  assert(error instanceof InsufficientCreditsError && error instanceof CreditsError && error instanceof Error);
  assert.equal(error.name, 'InsufficientCreditsError');
  assert.deepEqual([error.required, error.available, error.status], [50, 30, 402]);
  assert.equal(await app.getBalance(cy), 30);
});

test('other refusals have the type of their problem', async () => {
  const di = await user('di', 100);
  await app.deduct(di, 10, 'chat_message', {}, { key: 'k' });
  const refused = (type: string, status: number) => (error: unknown) =>
    error instanceof CreditsError && error.type === PROBLEM + type && error.status === status;
  await assert.rejects(app.deduct(di, 11, 'chat_message', {}, { key: 'k' }), refused('idempotency-key-reused', 422));
  await assert.rejects(app.deduct('nobody', 1, 'chat', {}, { key: 'k' }), refused('account-not-found', 404));
  await assert.rejects(app.getBalance('nobody'), refused('account-not-found', 404));
  await assert.rejects(app.add(di, 1, 'a gift', {}, { key: 'k' }), refused('forbidden', 403));
  await assert.rejects(app.deduct(di, 1, 'no action', {}, { key: 'x' }), refused('invalid-request', 400));
  const unknown = new CreditsSDK({ url, token: `sk_${'0'.repeat(12)}_${'0'.repeat(48)}` });
  await assert.rejects(unknown.getBalance(di), refused('unauthorized', 401));
});

test('a refund gives back what was charged', async () => {
  const ed = await user('ed', 100);
  await app.deduct(ed, 50, 'canvas_generation', {}, { key: 'c-1' });
  await app.refund(ed, 'c-1', { key: 'refund:c-1' });
  await app.refund(ed, 'c-1', { key: 'refund:c-1' });
  await until(async () => (await app.getBalance(ed)) === 100);
  await app.deduct(ed, 50, 'canvas_generation', {}, { key: 'c-2' });
  await app.refund(ed, 'c-2', { key: 'refund:c-2', amount: 20 });
  await until(async () => (await app.getBalance(ed)) === 70);
});

test('work that fails is given back, and its key pays for nothing more', async () => {
  const eve = await user('eve', 100);
  const answer = await app.charging(eve, 10, 'chat', {}, { key: 'm-1' }, async (receipt) => receipt.balance);
  assert.equal(answer, 90);
  const broken = new Error('the model is out');
  const failing = app.charging(eve, 10, 'chat', {}, { key: 'm-2' }, () => Promise.reject(broken));
  await assert.rejects(failing, (error) => error === broken);
  await until(async () => (await app.getBalance(eve)) === 90);
  const again = app.charging(eve, 10, 'chat', {}, { key: 'm-2' }, () => Promise.resolve(assert.fail('it was done')));
  await assert.rejects(again, (error) => error instanceof CreditsError && error.type === `${PROBLEM}charge-refunded`);
});

test('a hold sets aside, a capture takes a part, a void takes nothing', async () => {
  const fe = await user('fe', 100);
  const hold = await app.hold(fe, 60, 'video_generation', { resolution: '720p' }, { key: 'job/1', expiresIn: 60 });
  assert.equal(hold.balance, 40);
  assert.equal(await app.getBalance(fe), 40);
  const taken = await app.capture(fe, 'job/1', { key: 'capture:job/1', amount: 25 });
  assert.deepEqual([taken.amount, taken.balance], [25, 75]);
  await app.hold(fe, 60, 'video_generation', {}, { key: 'job?2' });
  assert.equal((await app.void(fe, 'job?2', { key: 'void:2' })).balance, 75);
});

test('an admin gives credits, and who gave them stays known', async () => {
  const gus = await user('gus', 0);
  const metadata = { granted_by: 'user_admin', admin_action: true };
  const given = await admin.add(gus, 100, 'a gift', metadata, { key: 'gift-1' });
  assert.deepEqual([given.balance, given.kind], [100, 'grant']);
  const response = await fetch(`${url}/v1/users/gus/history?kind=grant`, {
    headers: { authorization: `Bearer ${adminToken}` },
  });
  const { entries } = (await response.json()) as { entries: { metadata: object }[] };
  const kept = entries[0]?.metadata as Record<string, unknown>;
  assert.deepEqual([kept['granted_by'], kept['admin_action'], kept['reason']], ['user_admin', true, 'a gift']);
});

test('transactions are the newest entries that moved credits', async () => {
  const hal = await user('hal', 100);
  for (const number of [1, 2, 3]) {
    await app.deduct(hal, number, 'chat_message', {}, { key: `m-${number}` });
    await app.hold(hal, 1, 'video', {}, { key: `h-${number}` });
  }
  const two = await app.getTransactions(hal, { limit: 2 });
  assert.deepEqual(
    two.map(({ action, amount }) => ({ action, amount })),
    [{ action: 'chat_message', amount: -3 }, { action: 'chat_message', amount: -2 }],
  );
  assert.deepEqual(Object.keys(two[0] ?? {}).sort(), ['action', 'amount', 'id', 'timestamp']);
  assert(Math.abs((two[0]?.timestamp ?? 0) - Date.now()) < 3_600_000);
  const all = await app.getTransactions(hal);
  assert.deepEqual(all.map(({ amount }) => amount), [-3, -2, -1, 100]);
  await assert.rejects(app.getTransactions(hal, { limit: 0 }), TypeError);
});

// What is refused before anything is sent

test('without a key that can be one, nothing is sent', async () => {
  const ida = await user('ida', 100);
  // @ts-expect-error the key is required
  await assert.rejects(app.deduct(ida, 1, 'chat', {}), /^TypeError: key: must be .* made once for each thing/);
  // @ts-expect-error the key is required
  await assert.rejects(app.deduct(ida, 1, 'chat', {}, {}), TypeError);
  // @ts-expect-error the key is required
  await assert.rejects(admin.add(ida, 1, 'gift', {}, { timeoutMs: 1 }), TypeError);
  for (const key of ['', 'with space', 'x'.repeat(256), 'line\nbreak', 'ü', '..']) {
    await assert.rejects(app.deduct(ida, 1, 'chat', {}, { key }), TypeError);
  }
  assert.equal(await app.getBalance(ida), 100);
});

test('an amount that is no number, or nobody, is refused before it could be taken for something else', async () => {
  const jo = await user('jo', 100);
  for (const amount of [NaN, 0, -5, 1.5, Infinity, null, '10', {}, { price: 'x', quantity: NaN }]) {
    await assert.rejects(app.deduct(jo, amount as number, 'chat_message', {}, { key: 'k' }), /^TypeError: amount: /);
  }
  await assert.rejects(app.deduct(jo, 1, 'chat', { size: 1n }, { key: 'k' }), TypeError);
  for (const nobody of [null, undefined, '', '.', '..']) {
    await assert.rejects(app.getBalance(nobody as string), /^TypeError: userId: /);
  }
  assert.equal(await app.getBalance(jo), 100);
});

test('any key and user that the system takes arrives as it is', async () => {
  const user_ = await user('kä/%2F?#"\\', 100);
  for (const key of ['"', '\\', 'a/b%2Fc?d#e', '%', '~{:}~']) {
    const { key: kept } = await app.deduct(user_, 1, 'chat', {}, { key });
    assert.equal(kept, key);
    await app.hold(user_, 1, 'video', {}, { key: `h${key}` });
    assert.equal((await app.capture(user_, `h${key}`, { key: `c${key}` })).amount, 1);
  }
  assert.equal(await app.getBalance(user_), 90);
});

// When the network fails

test('a lost answer, a proxy\'s error and a refused connection are retried with the same key', async (t) => {
  const lee = await user('lee', 100);
  const net = await network(t, (number, pass, req, res) => {
    if (number === 1) return loseAnswer(req, res);
    if (number === 2) return void res.writeHead(502, { 'content-type': 'text/html' }).end('<html>');
    if (number === 3) return void res.destroy();
    pass();
  });
  const receipt = await net.client.deduct(lee, 10, 'chat', {}, { key: 'm-1' });
  assert.equal(net.requests, 4);
  assert.equal(receipt.replayed, true);
  assert.equal(await app.getBalance(lee), 90);
});

test('a retry waits as long as it is asked to', async (t) => {
  const mo = await user('mo', 100);
  const busy = { type: `${PROBLEM}busy`, status: 503, detail: 'busy' };
  const times: number[] = [];
  const net = await network(t, (number, pass, _req, res) => {
    times.push(Date.now());
    if (number > 1) return pass();
    res.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': '1' }).end(JSON.stringify(busy));
  });
  await net.client.deduct(mo, 10, 'chat', {}, { key: 'm-1' });
  assert((times[1] ?? 0) - (times[0] ?? 0) >= 990);
});

test('requests under one key at the same moment all get its receipt', async () => {
  const nan = await user('nan', 100);
  const asked = Array.from({ length: 5 }, () => app.deduct(nan, 10, 'chat', {}, { key: 'm-1' }));
  const receipts = await Promise.all(asked);
  assert.deepEqual(receipts.map(({ balance }) => balance), [90, 90, 90, 90, 90]);
  assert.equal(await app.getBalance(nan), 90);
});

test('where no answer comes in time, the outcome is unknown, and the same key settles it', async (t) => {
  const oz = await user('oz', 100);
  const net = await network(t, () => undefined);
  const options = { key: 'm-1', timeoutMs: 300 };
  const error = await net.client.deduct(oz, 10, 'chat', {}, options).catch((error: unknown) => error);
  assert(error instanceof UnavailableError, inspect(error));
  assert.equal(error.name, 'UnavailableError');
  assert.equal((await app.deduct(oz, 10, 'chat', {}, { key: 'm-1' })).balance, 90);
  const nowhere = new CreditsSDK({ url: 'http://127.0.0.1:1', token: appToken });
  await assert.rejects(nowhere.getBalance(oz, { timeoutMs: 300 }), UnavailableError);
});

test('a refusal is not retried, nor what is no gateway', async (t) => {
  const pia = await user('pia', 5);
  const net = await network(t, (_number, pass) => pass());
  await assert.rejects(net.client.deduct(pia, 10, 'chat', {}, { key: 'm-1' }), InsufficientCreditsError);
  assert.equal(net.requests, 1);
  const other = await network(t, (_number, _pass, _req, res) => void res.writeHead(302, { location: url }).end());
  await assert.rejects(other.client.getBalance(pia), /answered 302, and not as a gateway does/);
});

test('whoever waits can stop waiting', async (t) => {
  const net = await network(t, () => undefined);
  const stop = new AbortController();
  const waiting = net.client.getBalance('ada', { signal: stop.signal });
  const why = new Error('the page is gone');
  stop.abort(why);
  await assert.rejects(waiting, (error) => error === why);
  await assert.rejects(net.client.getBalance('ada', { signal: stop.signal }), (error) => error === why);
});

// The API key

test('the API key is nowhere to be seen', async () => {
  const secret = appToken.split('_')[2] ?? '';
  assert(secret.length > 20);
  const nowhere = new CreditsSDK({ url: 'http://127.0.0.1:1', token: appToken });
  const unavailable: unknown = await nowhere.getBalance('ada', { timeoutMs: 50 }).catch((error: unknown) => error);
  const refused: unknown = await app.getBalance('nobody').catch((error: unknown) => error);
  for (const shown of [app, unavailable, refused]) {
    assert(!inspect(shown, { depth: 9, showHidden: true }).includes(secret));
    assert(!JSON.stringify(shown).includes(secret));
  }
  for (const token of [`${appToken}\n`, `Bearer ${appToken}`, '']) {
    assert.throws(() => new CreditsSDK({ url, token }), (error: Error) => !error.message.includes(secret));
  }
  assert.throws(() => new CreditsSDK({ url: 'http://[', token: appToken }), /^TypeError: url: /);
  assert.throws(() => new CreditsSDK({ url: undefined as unknown as string, token: appToken }), /^TypeError: url: /);
});
