/** What signals mean to a command: SIGINT cancels its work, SIGTERM leaves it as it is. */

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

export class Interruption {
  private readonly cancellation = new AbortController();
  private readonly departure = new AbortController();

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.hear);
  }

  /** Aborted by SIGINT. */
  get cancelling(): AbortSignal {
    return this.cancellation.signal;
  }

  /** Aborted by SIGTERM. */
  get leaving(): AbortSignal {
    return this.departure.signal;
  }

  /** Signals mean to the process again what they mean to others. */
  end(): void {
    for (const signal of SIGNALS) process.off(signal, this.hear);
  }

  private readonly hear = (signal: (typeof SIGNALS)[number]): void => {
    // a second signal ends the process as if nobody listened
    this.end();
    (signal === 'SIGINT' ? this.cancellation : this.departure).abort();
  };
}
