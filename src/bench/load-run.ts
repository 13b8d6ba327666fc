/** The sending itself: each sender sends its next request when it has the reply to its last one. */
import { checkReply } from './check-reply.ts';
import { LoadAccount } from './load-account.ts';
import type { LoadClient } from './load-client.ts';
import { type RequestMix, ROUND_LENGTH } from './load-mix.ts';

/** What was counted while exactly the asked number of requests was in flight. */
export interface LoadWindow {
  readonly durationMs: number;
  /** Answered, refused as expected, or cancelled. */
  readonly requestCount: number;
  /** Of answered requests. */
  readonly newTokens: number;
}

export interface LoadRunOptions {
  readonly mix: RequestMix;
  readonly client: Pick<LoadClient, 'send'>;
  /** Requests are sent for so long, and until every kind has been. */
  readonly durationMs: number;
  readonly inFlight: number;
  /** Ends the sending at once. */
  readonly signal: AbortSignal;
}

export class LoadRun {
  readonly account = new LoadAccount();
  private readonly startMs = performance.now();
  private dealtCount = 0;
  private isTimeUp = false;
  private readonly closeWindow: () => void;
  /** Resolves when nothing more is sent; replies may still be missing. */
  readonly window: Promise<LoadWindow>;

  constructor(private readonly options: LoadRunOptions) {
    let close: (window: LoadWindow) => void = () => {};
    this.window = new Promise((resolve) => {
      close = resolve;
    });
    this.closeWindow = () => close(this.soFar());
  }

  /** Resolves when every request that was sent has its reply. */
  async send(): Promise<void> {
    const { durationMs, inFlight, signal } = this.options;
    const timer = setTimeout(() => {
      this.isTimeUp = true;
      if (this.isOver()) this.closeWindow();
    }, durationMs);
    signal.addEventListener('abort', this.closeWindow);
    await Promise.all(Array.from({ length: inFlight }, (_, slot) => this.sendFrom(slot)));
    signal.removeEventListener('abort', this.closeWindow);
    clearTimeout(timer);
  }

  /** The counts until now. */
  soFar(): LoadWindow {
    const { account } = this;
    return {
      durationMs: performance.now() - this.startMs,
      requestCount: account.count('answered') + account.count('refused') + account.count('cancelled'),
      newTokens: account.newTokens,
    };
  }

  private isOver(): boolean {
    return this.options.signal.aborted || (this.isTimeUp && this.dealtCount >= ROUND_LENGTH);
  }

  private async sendFrom(slot: number): Promise<void> {
    while (!this.isOver()) {
      const request = this.options.mix.next();
      this.dealtCount++;
      this.account.begin(request);
      const reply = await this.options.client.send(request, slot);
      this.account.end(request, reply, checkReply(request, reply));
    }
    this.closeWindow();
  }
}
