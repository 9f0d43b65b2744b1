// Kinds of entries, as docs/ledger.md lists them.

export const KINDS = [
  ...["charge", "refund", "hold", "capture", "void", "post_charge"],
  ...["open", "grant", "adjust", "repayment", "hold_expired", "lot_expired"],
  ...["freeze", "unfreeze", "close", "limit", "thresholds", "debt", "rebuild"],
];

/** Of these, some or all can be given back. */
export const REFUNDABLE = new Set(["charge", "capture", "post_charge"]);
