/** Counts what the server is answering, so that a stop can wait for it. */
export class InFlight {
  private count = 0;
  private readonly waiting: (() => void)[] = [];

  /** Counts one more; the returned function, called once, counts it off. */
  begin(): () => void {
    this.count++;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.count--;
      if (this.count === 0) for (const resolve of this.waiting.splice(0)) resolve();
    };
  }

  /** Resolves when nothing is left. */
  idle(): Promise<void> {
    return this.count === 0 ? Promise.resolve() : new Promise((resolve) => this.waiting.push(resolve));
  }
}
