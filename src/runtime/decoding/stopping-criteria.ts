/** When a sequence ends. */

/** stop: an end token or a stop string. length: the token limit. cancelled: the caller left. */
export type FinishReason = 'stop' | 'length' | 'cancelled';

export interface StoppingOptions {
  readonly eosTokenIds: readonly number[];
  readonly maxNewTokens: number;
  readonly stop: readonly string[];
  /** The text that an id adds to a sequence. */
  readonly pieceText: (id: number) => string;
}

export class StoppingCriteria {
  private readonly eos: ReadonlySet<number>;
  private readonly longestStop: number;

  constructor(private readonly options: StoppingOptions) {
    this.eos = new Set(options.eosTokenIds);
    this.longestStop = Math.max(0, ...options.stop.map((text) => text.length));
  }

  /** Why a sequence of these new tokens, whose last one was just chosen, ends; undefined when it goes on. */
  finishReason(newTokenIds: readonly number[]): FinishReason | undefined {
    const last = newTokenIds.at(-1);
    if (last !== undefined && this.eos.has(last)) return 'stop';
    if (this.options.stop.length > 0 && this.endsWithStop(newTokenIds)) return 'stop';
    return newTokenIds.length >= this.options.maxNewTokens ? 'length' : undefined;
  }

  /** Whether the last token completes a stop string, which may begin tokens earlier. */
  private endsWithStop(ids: readonly number[]): boolean {
    let text = '';
    let lastPiece = '';
    for (let index = ids.length - 1; index >= 0; index--) {
      const piece = this.options.pieceText(ids[index] as number);
      if (index === ids.length - 1) lastPiece = piece;
      text = piece + text;
      if (text.length >= this.longestStop + lastPiece.length) break;
    }
    return this.options.stop.some((stop) => text.includes(stop));
  }
}
