/** When a sequence ends. */
import { invariant } from '../errors.ts';

/** stop: an end token or a stop string. length: the token limit. cancelled: the caller left. */
export type FinishReason = 'stop' | 'length' | 'cancelled';

export interface StoppingOptions {
  readonly eosTokenIds: readonly number[];
  readonly maxNewTokens: number;
  readonly stop: readonly string[];
  /**
   * The end of the text of new tokens, as decoding all of them ends: what the last one added or changed, and at least
   * `length` characters before it. Absent: there are no stop strings.
   */
  readonly endOfText?: (newTokenIds: readonly number[], length: number) => string;
}

export class StoppingCriteria {
  private readonly eos: ReadonlySet<number>;
  private readonly longestStop: number;

  constructor(private readonly options: StoppingOptions) {
    this.eos = new Set(options.eosTokenIds);
    this.longestStop = Math.max(0, ...options.stop.map((text) => text.length));
    invariant(options.stop.length === 0 || options.endOfText !== undefined, 'stop strings are looked for in a text');
  }

  /**
   * Why a sequence of these new tokens, whose last one was just chosen, ends; undefined when it goes on. A stop string
   * counts when it is in the decoded text, character for character: at the beginning of a text, where SentencePiece
   * drops the first space, " Hello" is not in "Hello". (transformers looks at pieces there, and would stop.)
   */
  finishReason(newTokenIds: readonly number[]): FinishReason | undefined {
    const last = newTokenIds.at(-1);
    if (last !== undefined && this.eos.has(last)) return 'stop';
    if (this.hasStop(newTokenIds)) return 'stop';
    return newTokenIds.length >= this.options.maxNewTokens ? 'length' : undefined;
  }

  /** Whether the last token completes a stop string, which may begin tokens earlier. */
  private hasStop(ids: readonly number[]): boolean {
    const { stop, endOfText } = this.options;
    if (stop.length === 0 || endOfText === undefined) return false;
    const text = endOfText(ids, this.longestStop);
    return stop.some((word) => text.includes(word));
  }
}
