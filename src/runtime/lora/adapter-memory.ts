/** What a worker's copies of adapters may take, beside the factors themselves, which lie in shared memory. */
import { MEBIBYTE } from '../../storage/byte-size.ts';

export interface AdapterMemory {
  /** Bytes that the units of a batch may take; adapters that do not fit beside those that run wait for them. */
  readonly stackBytes: number;
  /** Bytes of encoder factors, and as many of head factors, that are kept for the next run of the same adapters. */
  readonly factorBytes: number;
  /** Bytes of replaced heads that are kept in the form that sessions take. */
  readonly headBytes: number;
  /** Bytes that are copied between two steps, and up to one unit more: about a millisecond. */
  readonly pieceBytes: number;
}

export const defaultAdapterMemory: AdapterMemory = {
  stackBytes: 512 * MEBIBYTE,
  factorBytes: 128 * MEBIBYTE,
  headBytes: 256 * MEBIBYTE,
  pieceBytes: 4 * MEBIBYTE,
};
