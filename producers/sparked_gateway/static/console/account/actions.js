// What an admin can do to an account. Each has a reason, and is recorded with who did it.

import { act, REASON } from "../acting.js";
import { get, post } from "../api.js";
import { h } from "../dom.js";
import { credits, number, signed } from "../format.js";
import { notice } from "../parts.js";

const AMOUNT_MAX = String(Number.MAX_SAFE_INTEGER);
const AMOUNT = { name: "amount", label: "Credits", type: "number", min: "1", max: AMOUNT_MAX };

/** The buttons for an account. `account()`: as it was last read. */
export function actions(account, changed) {
  const { state } = account();
  if (state === "closed") return [h("p", { class: "muted" }, "Closed for ever: it can only be read.")];
  const button = (text, action) => h("button", { on: { click: () => action(account(), changed) } }, text);
  return [
    button("Grant", grant),
    button("Adjust", adjust),
    state === "frozen" ? button("Unfreeze", unfreeze) : button("Freeze", freeze),
  ];
}

export function openAccount(user, changed) {
  act({
    name: "open",
    key: "open", // Always the same: were it opened meanwhile, by a sign-up say, this changes nothing.
    title: "Open an account",
    fields: [{ ...AMOUNT, label: "Credits to begin with", min: "0", value: "100" }],
    review: ({ amount }) => [`Open the account of ${user} with ${credits(amount)}. An account is opened once.`],
    verb: () => "Open the account",
    send: async ({ amount }, key) => {
      const { posted } = await post("/v1/admin/accounts", { user, initial: amount }, { key });
      return `Opened with ${credits(posted)}.`;
    },
    done: changed,
  });
}

function grant({ user, available }, changed) {
  act({
    name: "grant",
    title: `Grant credits to ${user}`,
    fields: [
      AMOUNT,
      {
        name: "priority",
        label: "Spent",
        options: [
          ["paid", "last, as paid credits"],
          ["promotional", "first, as promotional credits"],
        ],
      },
      {
        name: "expires",
        label: "Expire at",
        type: "datetime-local",
        optional: true,
        help: "In your time zone. Empty: never.",
      },
      REASON,
    ],
    review: ({ amount, priority, expires, reason }) => [
      `Grant ${credits(amount)} (${priority}${expires ? `, expiring at ${new Date(expires).toLocaleString()}` : ""}) to ${user}.`,
      change(available, amount),
      because(reason),
    ],
    verb: ({ amount }) => `Grant ${credits(amount)}`,
    send: async ({ amount, priority, expires, reason }, key) => {
      const expiry = expires ? { expires_at: new Date(expires).toISOString() } : {};
      return told(
        await post("/v1/admin/grants", { user, amount, priority, reason, ...expiry }, { key }),
        `Granted ${credits(amount)}`,
      );
    },
    done: changed,
  });
}

function adjust({ user, available }, changed) {
  act({
    name: "adjust",
    title: `Adjust the credits of ${user}`,
    fields: [
      { ...AMOUNT, label: "Credits, with a sign", min: `-${AMOUNT_MAX}`, help: "Such as −50 to take some away." },
      {
        name: "force",
        label: "Even if less than that is available",
        type: "checkbox",
        help: "It is recorded, and the account then owes.",
      },
      REASON,
    ],
    review: ({ amount = 0, force, reason }) => [
      amount < 0 ? `Take ${credits(-amount)} from ${user}.` : `Give ${credits(amount)} to ${user}, as a correction.`,
      change(available, amount),
      available + amount < 0
        ? force
          ? "The account will owe."
          : "As it is now, this will be refused: too little is available."
        : "",
      because(reason),
    ],
    verb: ({ amount = 0 }) => `Adjust by ${signed(amount)}`,
    isGrave: true,
    send: async ({ amount, force, reason }, key) =>
      told(
        await post("/v1/admin/adjustments", { user, amount, force, reason }, { key }),
        `Adjusted by ${signed(amount)}`,
      ),
    done: changed,
  });
}

/** Give some or all of a charge back; what was given back before is read first. */
export async function refund(user, { key: of, origin, amount, action, kind }, changed) {
  const taken = Math.abs(amount);
  let left = taken;
  try {
    const receipt = await get(`/v1/receipts/${encodeURIComponent(user)}/${encodeURIComponent(of)}`, {
      query: { origin },
    });
    left = taken - receipt.refunded;
  } catch (problem) {
    notice(`What was refunded before is not known: ${problem.message}`, "warn");
  }
  if (left <= 0) {
    notice("All of it was refunded before.", "warn");
    return;
  }
  act({
    name: "refund",
    title: `Refund ${action || kind} of ${user}`,
    fields: [
      {
        ...AMOUNT,
        max: String(left),
        value: String(left),
        help:
          left < taken
            ? `${credits(taken - left)} of ${number(taken)} were refunded before.`
            : `All of it: ${number(taken)}.`,
      },
      REASON,
    ],
    review: ({ amount: back, reason }) => [
      `Refund ${credits(back)} of ${number(taken)} to ${user}, to the lots that they were taken from.`,
      `For what ${origin} took under the key ${of}.`,
      because(reason),
    ],
    verb: ({ amount: back }) => `Refund ${credits(back)}`,
    send: async ({ amount: back, reason }, key) =>
      told(
        await post("/v1/admin/refunds", { user, of, origin, amount: back, reason }, { key }),
        `Refunded ${credits(back)}`,
      ),
    done: changed,
  });
}

function freeze({ user }, changed) {
  act({
    name: "freeze",
    title: `Freeze ${user}`,
    fields: [REASON],
    review: ({ reason }) => [
      `Refuse all charges and holds of ${user}, in every app, until somebody unfreezes the account.`,
      "Grants and refunds go on, and what is held can still be captured or voided.",
      because(reason),
    ],
    verb: () => "Freeze the account",
    isGrave: true,
    send: async ({ reason }, key) => {
      await post("/v1/admin/freeze", { user, reason }, { key });
      return `${user} is frozen.`;
    },
    done: changed,
  });
}

function unfreeze({ user }, changed) {
  act({
    name: "unfreeze",
    title: `Unfreeze ${user}`,
    fields: [REASON],
    review: ({ reason }) => [`Accept charges and holds of ${user} again, in every app.`, because(reason)],
    verb: () => "Unfreeze the account",
    send: async ({ reason }, key) => {
      await post("/v1/admin/unfreeze", { user, reason }, { key });
      return `${user} is no longer frozen.`;
    },
    done: changed,
  });
}

function change(available, amount) {
  return `Available: ${number(available)} now, ${number(available + amount)} then.`;
}

function because(reason) {
  return `Reason: ${reason}`;
}

function told({ posted, held, replayed }, what) {
  return `${what}${replayed ? " before, under this key" : ""}. Available: ${number(posted - held)}.`;
}
