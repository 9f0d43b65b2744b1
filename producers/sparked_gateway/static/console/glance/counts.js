// Summing up what pulses count.

/** Kinds that take credits. */
export const CHARGED = ["charge", "post_charge", "capture"];

/** The sum of an object's counts; of these names only, if some are given. */
export function sum(counts, names = Object.keys(counts)) {
  return names.reduce((total, name) => total + (counts[name] ?? 0), 0);
}
