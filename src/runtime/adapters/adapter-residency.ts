/**
 * Which adapters are in memory, within a budget of bytes for all models together: who is held stays, the least recently
 * used of the others goes out. It knows nothing of files, models or requests.
 *
 * Whoever finds no room waits in order of arrival, and nobody overtakes, not even with adapters that are in: else those
 * in steady use would keep the first in line out for ever. All adapters of one asker get their room in one step, and an
 * asker that waits holds none: no two can wait for each other.
 */
import { mebibytes } from '../../storage/byte-size.ts';
import type { Clock } from '../engine/clock.ts';
import { invariant, RuntimeError } from '../errors.ts';
import { RETRY_MS } from '../retry.ts';

export interface Tenant {
  readonly id: string;
  readonly memoryBytes: number;
  /** Brings it into memory; called once however many ask. */
  bringIn(): Promise<void>;
  putOut(): void;
}

export interface ResidencyOptions {
  readonly budgetBytes: number;
  /** Askers that may wait for room; one more is refused with OVERLOADED. */
  readonly maxWaiting: number;
  /** Milliseconds that one may wait, for room and for what is on its way in together; then TIMEOUT. */
  readonly waitMs: number;
  readonly clock: Clock;
}

interface Slot {
  readonly tenant: Tenant;
  readonly bytes: number;
  holdCount: number;
  /** Set while it is being brought in. */
  arrival: Promise<void> | undefined;
  /** Goes out as soon as nobody holds it. */
  retired: boolean;
}

/** Adapters that stay in memory until it is released. */
export interface Hold {
  readonly slots: readonly Slot[];
}

interface Waiter {
  readonly tenants: readonly Tenant[];
  readonly grant: (hold: Hold) => void;
}

export class AdapterResidency {
  /** The least recently used first. */
  private readonly slots = new Map<Tenant, Slot>();
  private readonly queue: Waiter[] = [];
  private used = 0;

  constructor(private readonly options: ResidencyOptions) {}

  get usedBytes(): number {
    return this.used;
  }

  get waitingCount(): number {
    return this.queue.length;
  }

  /** Throws BAD_USER_INPUT when so much could never be in memory together. */
  checkFits(tenants: readonly Tenant[], argument: string): void {
    const bytes = bytesOf(tenants);
    const { budgetBytes } = this.options;
    if (bytes <= budgetBytes) return;
    const message = `Expected adapters of at most ${mebibytes(budgetBytes)} together, ${mebibytes(bytes)} came. Choose fewer or smaller ones.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument, limit: 'GISTQL_ADAPTERS_MEMORY_MB' });
  }

  /** Holds what is in memory already, in the same tick; undefined when one is not, or others wait. */
  tryHold(tenants: readonly Tenant[]): Hold | undefined {
    if (this.queue.length > 0) return undefined;
    const slots = tenants.map((tenant) => this.slots.get(tenant));
    if (slots.some((slot) => slot === undefined || slot.arrival !== undefined)) return undefined;
    return this.reserve(tenants);
  }

  /**
   * Resolves when all are in memory, which must fit; undefined when the signal was aborted before they were.
   * Rejects with what `bringIn` rejects with, TIMEOUT or OVERLOADED.
   */
  async hold(tenants: readonly Tenant[], signal?: AbortSignal): Promise<Hold | undefined> {
    invariant(bytesOf(tenants) <= this.options.budgetBytes, 'nobody waits for more room than there is');
    if (signal?.aborted) return undefined;
    const { clock, waitMs } = this.options;
    const deadline = clock.now() + waitMs;
    const atOnce = this.queue.length === 0 ? this.reserve(tenants) : undefined;
    const hold = atOnce ?? (await this.wait(tenants, signal));
    if (hold === undefined) return undefined;
    const arrivals = hold.slots.flatMap(({ arrival }) => arrival ?? []);
    if (arrivals.length === 0) return hold;
    try {
      if (await this.arrive(arrivals, deadline, signal)) return hold;
    } catch (error) {
      this.release(hold);
      throw error;
    }
    this.release(hold);
    return undefined;
  }

  release({ slots }: Hold): void {
    for (const slot of slots) {
      slot.holdCount--;
      this.touch(slot);
      this.settle(slot);
    }
    this.serveQueue();
  }

  /**
   * Brings one in by `bringIn` when there is room that nobody waits for; else it stays outside until it is asked for.
   * Rejects with what `bringIn` rejects with.
   */
  async admit(tenant: Tenant, bringIn: () => Promise<void>): Promise<void> {
    if (this.queue.length === 0 && this.makeRoom(tenant.memoryBytes, [])) await this.start(tenant, bringIn).arrival;
  }

  /** Puts one out as soon as nobody holds it; resolves when it is not on its way in. */
  async retire(tenant: Tenant): Promise<void> {
    const slot = this.slots.get(tenant);
    if (slot === undefined) return;
    slot.retired = true;
    this.settle(slot);
    this.serveQueue();
    // whoever asked for it hears of a failure
    await slot.arrival?.catch(() => {});
  }

  /** Resolves when all are there; false when the signal was aborted before. They go on coming for whoever asks next. */
  private arrive(arrivals: readonly Promise<void>[], deadline: number, signal?: AbortSignal): Promise<boolean> {
    const { clock, waitMs } = this.options;
    return new Promise<boolean>((resolve, reject) => {
      const leave = (): void => end(() => resolve(false));
      const cancelTimer = clock.after(Math.max(0, deadline - clock.now()), () => {
        const message = `Expected its adapters to be in memory within ${waitMs} ms, they were still being read. Send it again later.`;
        end(() => reject(new RuntimeError('TIMEOUT', message, { limit: 'GISTQL_REQUEST_TIMEOUT_MS' })));
      });
      const end = (settle: () => void): void => {
        cancelTimer();
        signal?.removeEventListener('abort', leave);
        settle();
      };
      signal?.addEventListener('abort', leave, { once: true });
      if (signal?.aborted) leave();
      Promise.all(arrivals).then(
        () => end(() => resolve(true)),
        (error: unknown) => end(() => reject(error)),
      );
    });
  }

  private wait(tenants: readonly Tenant[], signal: AbortSignal | undefined): Promise<Hold | undefined> {
    const { maxWaiting, waitMs, clock } = this.options;
    if (this.queue.length >= maxWaiting) {
      const message = `Expected at most ${maxWaiting} requests that wait for room for their adapters, one more came. Send it again in ${RETRY_MS} ms.`;
      throw new RuntimeError('OVERLOADED', message, { limit: 'GISTQL_MAX_QUEUE', retryAfterMs: RETRY_MS });
    }
    return new Promise((resolve, reject) => {
      const end = (): void => {
        cancelTimer();
        signal?.removeEventListener('abort', leave);
        const place = this.queue.indexOf(waiter);
        if (place >= 0) this.queue.splice(place, 1);
      };
      const leave = (): void => {
        end();
        resolve(undefined);
        this.serveQueue();
      };
      const cancelTimer = clock.after(waitMs, () => {
        end();
        const message = `Expected room for its adapters within ${waitMs} ms, all was in use. Send it again later, or raise GISTQL_ADAPTERS_MEMORY_MB.`;
        reject(new RuntimeError('TIMEOUT', message, { limit: 'GISTQL_REQUEST_TIMEOUT_MS' }));
        this.serveQueue();
      });
      const grant = (hold: Hold): void => {
        end();
        resolve(hold);
      };
      const waiter: Waiter = { tenants, grant };
      this.queue.push(waiter);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  private serveQueue(): void {
    for (let first = this.queue[0]; first !== undefined; first = this.queue[0]) {
      const hold = this.reserve(first.tenants);
      if (hold === undefined) return;
      first.grant(hold);
    }
  }

  /** Takes room for all or for none, and starts to bring in what is not there. */
  private reserve(tenants: readonly Tenant[]): Hold | undefined {
    const absent = tenants.filter((tenant) => !this.slots.has(tenant));
    if (!this.makeRoom(bytesOf(absent), tenants)) return undefined;
    const slots = tenants.map((tenant) => this.slots.get(tenant) ?? this.start(tenant, () => tenant.bringIn()));
    for (const slot of slots) {
      slot.holdCount++;
      this.touch(slot);
    }
    return { slots };
  }

  /** Puts out as many of the least recently used as it takes; none when all of them would not do. */
  private makeRoom(bytes: number, needed: readonly Tenant[]): boolean {
    const missing = this.used + bytes - this.options.budgetBytes;
    if (missing <= 0) return true;
    const idle: Slot[] = [];
    let freed = 0;
    for (const slot of this.slots.values()) {
      if (freed >= missing) break;
      if (!isIdle(slot) || needed.includes(slot.tenant)) continue;
      idle.push(slot);
      freed += slot.bytes;
    }
    if (freed < missing) return false;
    for (const slot of idle) this.putOut(slot);
    return true;
  }

  private start(tenant: Tenant, bringIn: () => Promise<void>): Slot {
    const slot: Slot = { tenant, bytes: tenant.memoryBytes, holdCount: 0, arrival: undefined, retired: false };
    this.slots.set(tenant, slot);
    this.used += slot.bytes;
    slot.arrival = bringIn().then(
      () => {
        slot.arrival = undefined;
        this.settle(slot);
        this.serveQueue();
      },
      (error: unknown) => {
        slot.arrival = undefined;
        this.forget(slot);
        this.serveQueue();
        throw error;
      },
    );
    // whoever holds it hears of a failure; it may have been let go
    slot.arrival.catch(() => {});
    return slot;
  }

  private settle(slot: Slot): void {
    if (slot.retired && isIdle(slot)) this.putOut(slot);
  }

  private putOut(slot: Slot): void {
    if (this.forget(slot)) slot.tenant.putOut();
  }

  private forget(slot: Slot): boolean {
    if (this.slots.get(slot.tenant) !== slot) return false;
    this.slots.delete(slot.tenant);
    this.used -= slot.bytes;
    return true;
  }

  private touch(slot: Slot): void {
    if (this.slots.get(slot.tenant) !== slot) return;
    this.slots.delete(slot.tenant);
    this.slots.set(slot.tenant, slot);
  }
}

function isIdle(slot: Slot): boolean {
  return slot.holdCount === 0 && slot.arrival === undefined;
}

function bytesOf(tenants: readonly Tenant[]): number {
  return tenants.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
}
