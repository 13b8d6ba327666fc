/** Tokens that an engine made and a reader has not taken yet. */
import type { TokensAppended } from './decoding/decoding-strategy.ts';

/** Holds at most one entry a sequence, however slow the reader is: what comes meanwhile is joined to it. */
export class TokenInbox {
  private readonly waiting = new Map<number, number[]>();
  private closed = false;
  private wake: () => void = () => {};

  add({ sequenceIndex, tokenIds }: TokensAppended): void {
    const ids = this.waiting.get(sequenceIndex);
    if (ids === undefined) this.waiting.set(sequenceIndex, [...tokenIds]);
    else for (const id of tokenIds) ids.push(id);
    this.wake();
  }

  /** No more will come. */
  close(): void {
    this.closed = true;
    this.wake();
  }

  /** What waits, as it comes; ends when the inbox is closed and empty. One reader at a time. */
  async *drain(): AsyncGenerator<TokensAppended> {
    while (true) {
      for (const [sequenceIndex, tokenIds] of this.waiting) {
        this.waiting.delete(sequenceIndex);
        yield { sequenceIndex, tokenIds };
      }
      if (this.waiting.size > 0) continue;
      if (this.closed) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}
