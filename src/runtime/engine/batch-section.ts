/** The running requests of one section and their cache slots. */
import { invariant } from '../errors.ts';
import type { SectionName } from '../graph/attention.ts';
import type { KvCache, SourceCache } from './kv-cache.ts';
import type { ScheduledRequest } from './scheduled-request.ts';

export class BatchSection {
  /** By slot; a hole is filled by the next request that comes, or closed before the next step. */
  private readonly slots: (ScheduledRequest | undefined)[] = [];

  constructor(
    readonly name: SectionName,
    readonly cache: KvCache,
  ) {}

  get requests(): readonly ScheduledRequest[] {
    return this.slots.filter((request) => request !== undefined);
  }

  /** Makes room for requests that `place` brings one after the other, so that the cache grows once. */
  reserve(count: number): void {
    // holes are filled first, but what lies behind them stays where it is meanwhile
    if (count > 0) this.fit(this.requests, Math.max(this.slots.length, this.requests.length + count));
  }

  /** Gives a request a slot and puts there what the encoder made of its source, or what it left when preempted. */
  place(request: ScheduledRequest, source: SourceCache | undefined): void {
    const hole = this.slots.indexOf(undefined);
    const slot = hole === -1 ? this.slots.length : hole;
    const { state } = request;
    if (source !== undefined) request.sourceLength = source.length;
    this.fit([...this.requests, request], Math.max(this.slots.length, slot + 1));
    if (state.status === 'preempted') this.cache.restore(slot, state.saved);
    else {
      invariant(source !== undefined, 'a new request comes with its source');
      this.cache.writeSource(slot, source);
    }
    this.slots[slot] = request;
    request.state = { status: 'running', slot };
    request.stepsInSlice = 0;
  }

  /** Takes a request out; its slot is free at once. */
  remove(request: ScheduledRequest): void {
    this.slots[slotOf(request)] = undefined;
  }

  /** Takes a request out with a copy of its cache, for `place` to bring back. */
  preempt(request: ScheduledRequest): void {
    const saved = this.cache.save(slotOf(request), request.sourceLength, request.paths.extent);
    this.remove(request);
    request.state = { status: 'preempted', saved };
  }

  /** Closes the holes, so that the running requests are a prefix of the slots, and fits the cache to them. */
  compact(): void {
    for (let hole = this.slots.indexOf(undefined); hole !== -1; hole = this.slots.indexOf(undefined, hole)) {
      const last = this.slots.pop();
      if (last === undefined) continue;
      const from = this.slots.length;
      this.cache.moveSlot(from, hole);
      this.slots[hole] = last;
      last.state = { status: 'running', slot: hole };
    }
    this.fitCache();
  }

  /** Gives every running request's entries room. */
  fitCache(): void {
    this.fit(this.requests, this.slots.length);
  }

  private fit(requests: readonly ScheduledRequest[], slots: number): void {
    let positions = 0;
    let source = 0;
    for (const request of requests) {
      positions = Math.max(positions, request.paths.extent);
      source = Math.max(source, request.sourceLength);
    }
    this.cache.fit({ slots, positions, source }, this.slots.length);
  }
}

export function slotOf(request: ScheduledRequest): number {
  invariant(request.state.status === 'running', `request ${request.request.id} runs`);
  return request.state.slot;
}
