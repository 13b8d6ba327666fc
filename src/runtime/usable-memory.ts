import { totalmem } from 'node:os';

/** Bytes that this process may use: the machine's, or what a container leaves it. */
export function usableMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
}
