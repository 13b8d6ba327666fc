/**
 * Turns the tokens of one sequence into text as they come. Joined, the deltas are the final text: characters are held
 * back until they are whole, and what may be the beginning of a stop string until it is known not to be.
 */
import type { Tokenizer } from './tokenizer.ts';

/** The text before the first stop string in it; all of it when there is none. */
export function cutAtStop(text: string, stop: readonly string[]): string {
  const found = stop.map((word) => text.indexOf(word)).filter((index) => index >= 0);
  return found.length > 0 ? text.slice(0, Math.min(...found)) : text;
}

/** Length of the longest end of the text that a stop string begins with. */
function heldLength(text: string, stop: readonly string[]): number {
  let held = 0;
  for (const word of stop) {
    for (let length = Math.min(word.length - 1, text.length); length > held; length--) {
      if (text.endsWith(word.slice(0, length))) held = length;
    }
  }
  return held;
}

export class TextStreamer {
  private readonly ids: number[] = [];
  private emitted = '';

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly stop: readonly string[],
  ) {}

  /** Takes the next tokens; returns the text that is now certain, which may be empty. */
  async push(tokenIds: readonly number[]): Promise<string> {
    this.ids.push(...tokenIds);
    // the whole sequence is decoded again: decoders look back (spaces, bytes), and a summary is short
    const whole = cutAtStop(await this.tokenizer.decode(this.ids), this.stop).replace(/\uFFFD+$/, '');
    return this.emitUpTo(whole.slice(0, whole.length - heldLength(whole, this.stop)));
  }

  /** Returns what is missing of the final text. */
  finish(finalText: string): string {
    return this.emitUpTo(finalText);
  }

  private emitUpTo(text: string): string {
    if (!text.startsWith(this.emitted)) return '';
    const delta = text.slice(this.emitted.length);
    this.emitted = text;
    return delta;
  }
}
