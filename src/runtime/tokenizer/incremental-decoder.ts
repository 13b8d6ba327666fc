/**
 * Decodes a sequence as it grows. The deltas and the rest, joined, are what decoding all its ids at once gives. A step
 * decodes only the new tokens behind the last one before them: decoders look no further back, and at the beginning of
 * a text they do what they do nowhere else (SentencePiece drops its first space), so one token of context is needed.
 */
import type { CharacterTracker } from './character-tracker.ts';
import type { Tokenizer } from './tokenizer.ts';

export class IncrementalDecoder {
  private readonly characters: CharacterTracker;
  /** The last token that added text: empty at the beginning. */
  private context: readonly number[] = [];
  /** Tokens whose text may still change. */
  private pending: number[] = [];

  constructor(private readonly tokenizer: Tokenizer) {
    this.characters = tokenizer.trackCharacters();
  }

  /** Takes the next tokens and returns the text that is now settled, which may be empty. One call at a time. */
  push(tokenIds: readonly number[]): Promise<string> {
    let settledCount = 0;
    for (const id of tokenIds) {
      this.pending.push(id);
      if (this.characters.push(id)) settledCount = this.pending.length;
    }
    return this.take(settledCount);
  }

  /** Returns the text of what is still pending, when no token follows. */
  flush(): Promise<string> {
    return this.take(this.pending.length);
  }

  private async take(count: number): Promise<string> {
    const ids = this.pending.splice(0, count);
    const last = ids.findLast((id) => this.tokenizer.pieceText(id) !== '');
    // special tokens alone add no text
    if (last === undefined) return '';
    const { context } = this;
    this.context = [last];
    const [before, both] = await Promise.all([
      this.tokenizer.decode(context),
      this.tokenizer.decode([...context, ...ids]),
    ]);
    return both.slice(before.length);
  }
}
