/** Work that is under way, by what it is about, for those that must not begin before it has ended. */
export class PendingWork {
  private readonly pending = new Map<string, Set<Promise<unknown>>>();

  /** Begins `work` at once. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const running = work();
    const all = this.pending.get(key) ?? new Set();
    this.pending.set(key, all.add(running));
    try {
      return await running;
    } finally {
      all.delete(running);
      if (all.size === 0 && this.pending.get(key) === all) this.pending.delete(key);
    }
  }

  /** Resolves when nothing about `key` is under way, however it ended. */
  async settled(key: string): Promise<void> {
    for (let all = this.pending.get(key); all !== undefined; all = this.pending.get(key)) {
      await Promise.allSettled(all);
    }
  }
}
