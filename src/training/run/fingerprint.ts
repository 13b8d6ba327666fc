/** What tells the results of one training from those of another: all that decides the weights that come out. */
import { createHash } from 'node:crypto';
import type { TrainingPlan } from './trainer-protocol.ts';

/** Returns a SHA-256; the order of keys does not count. */
export function planFingerprint(plan: TrainingPlan): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(plan)))
    .digest('hex');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
