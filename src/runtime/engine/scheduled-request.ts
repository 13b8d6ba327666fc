/** A generation request on its way through the engine. */

import type { DecodingStrategy } from '../decoding/decoding-strategy.ts';
import type { SectionName } from '../graph/attention.ts';
import type { AdapterCombination } from '../lora/adapter-combination.ts';
import type { GenerationRequest, GenerationTiming } from './generation-request.ts';
import type { SavedSlot } from './kv-cache.ts';
import type { Prefill } from './model-runner.ts';
import { RowPaths } from './row-paths.ts';

/** preempted: it gave its rows to others and waits with its cache saved. */
export type RequestState =
  | { readonly status: 'waiting' }
  | { readonly status: 'running'; readonly slot: number }
  | { readonly status: 'preempted'; readonly saved: SavedSlot }
  | { readonly status: 'finished' };

/** Moments of a request's life in milliseconds of the engine's clock. */
interface Moments {
  readonly submitted: number;
  scheduled: number | undefined;
  prefilled: number | undefined;
  firstToken: number | undefined;
}

export interface RequestStart {
  readonly adapters: AdapterCombination;
  /** What every row reads first. */
  readonly tokenId: number;
  readonly now: number;
}

export class ScheduledRequest {
  readonly adapters: AdapterCombination;
  state: RequestState = { status: 'waiting' };
  /** The token that each running row reads in the next step. */
  inputTokens: readonly number[];
  readonly paths = new RowPaths();
  /** What is left to be read of its prompt, or of its source; undefined before that began. */
  prefill: Prefill | undefined;
  /** Tokens of the source or prompt in the cache, padding included; 0 before they were read. */
  sourceLength = 0;
  /** Steps since it was last given its rows. */
  stepsInSlice = 0;
  /** Interactive requests that went before it. */
  overtakenBy = 0;
  /** Requests that started before it while it waited for room of its adapters. */
  passedBy = 0;
  readonly section: SectionName;
  readonly moments: Moments;

  constructor(
    readonly request: GenerationRequest,
    readonly strategy: DecodingStrategy,
    start: RequestStart,
  ) {
    this.adapters = start.adapters;
    this.inputTokens = [start.tokenId];
    this.section = this.rowDemand === 1 ? 'singles' : 'groups';
    this.moments = { submitted: start.now, scheduled: undefined, prefilled: undefined, firstToken: undefined };
  }

  /** Rows it may come to need at once: its beams, or its sampled sequences. */
  get rowDemand(): number {
    return Math.max(this.request.params.numBeams, this.request.params.numReturnSequences);
  }

  timing(now: number): GenerationTiming {
    const { submitted, scheduled = now, prefilled = now, firstToken = now } = this.moments;
    return {
      queuedMs: scheduled - submitted,
      prefillMs: prefilled - scheduled,
      decodeMs: now - prefilled,
      totalMs: now - submitted,
      timeToFirstTokenMs: firstToken - submitted,
    };
  }
}
