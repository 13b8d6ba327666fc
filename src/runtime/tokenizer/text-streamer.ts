/**
 * Turns the tokens of one sequence into deltas as they come. Joined, their texts are the final text and their ids the
 * final ids: characters are held back until they are whole, and what may be the beginning of a stop string until it is
 * known not to be. Ids whose text is held back come with the next delta.
 */
import { IncrementalDecoder } from './incremental-decoder.ts';
import { findStop, heldLength } from './stop-strings.ts';
import type { Tokenizer } from './tokenizer.ts';

export interface TextDelta {
  readonly text: string;
  readonly tokenIds: readonly number[];
}

export class TextStreamer {
  private readonly decoder: IncrementalDecoder;
  /** Taken, but not in a delta yet. */
  private waitingIds: number[] = [];
  /** Decoded, but perhaps the beginning of a stop string. */
  private heldText = '';
  private stopped = false;
  private givenLength = 0;
  private givenCount = 0;

  constructor(
    tokenizer: Tokenizer,
    private readonly stop: readonly string[],
  ) {
    this.decoder = new IncrementalDecoder(tokenizer);
  }

  /** Takes the next tokens; undefined while no more text is certain. One call at a time. */
  async push(tokenIds: readonly number[]): Promise<TextDelta | undefined> {
    for (const id of tokenIds) this.waitingIds.push(id);
    if (this.stopped) return undefined;
    const text = this.release(await this.decoder.push(tokenIds));
    return text === '' ? undefined : this.give(text);
  }

  /** What is missing of the finished sequence; undefined when nothing is. */
  finish(finalText: string, finalIds: readonly number[]): TextDelta | undefined {
    this.waitingIds = finalIds.slice(this.givenCount);
    const text = finalText.slice(this.givenLength);
    return text === '' && this.waitingIds.length === 0 ? undefined : this.give(text);
  }

  private release(decoded: string): string {
    const text = this.heldText + decoded;
    const end = findStop(text, this.stop);
    this.stopped = end !== undefined;
    const certain = end ?? text.length - heldLength(text, this.stop);
    this.heldText = text.slice(certain);
    return text.slice(0, certain);
  }

  private give(text: string): TextDelta {
    const tokenIds = this.waitingIds;
    this.waitingIds = [];
    this.givenLength += text.length;
    this.givenCount += tokenIds.length;
    return { text, tokenIds };
  }
}
