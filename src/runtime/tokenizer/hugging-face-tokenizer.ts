/** The official `tokenizers` library behind our interface. Encoding and decoding run on its own threads. */
import { type Encoding, Tokenizer as NativeTokenizer } from 'tokenizers';
import { RuntimeError } from '../errors.ts';
import {
  ByteFallbackTracker,
  ByteLevelTracker,
  type CharacterTracker,
  WholePieceTracker,
} from './character-tracker.ts';
import { sliceCodePoints } from './code-points.ts';
import { type DecoderConfig, decodePiece, decoderSteps } from './piece-decoder.ts';
import { probeTokenizer } from './probe-tokenizer.ts';
import type { PieceVocabulary } from './text-tail.ts';
import type { BoundedEncoding, EncodedToken, EncodeOptions, Tokenizer } from './tokenizer.ts';

interface AddedToken {
  readonly id: number;
  readonly special: boolean;
}

/** What we read of a tokenizer.json ourselves. */
interface TokenizerFile {
  readonly added_tokens?: readonly AddedToken[];
  readonly decoder?: DecoderConfig | null;
}

/** Tokens that a model's other files make special, whatever its tokenizer.json says of them. */
export interface SpecialTokens {
  readonly texts: readonly string[];
  readonly ids: readonly number[];
}

const NONE: SpecialTokens = { texts: [], ids: [] };

/** A lone half of a surrogate pair is no text; the library takes UTF-8 only. */
const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

export class HuggingFaceTokenizer implements Tokenizer {
  private readonly pieces: readonly (string | undefined)[];
  private readonly special: ReadonlySet<number>;
  private readonly steps: readonly DecoderConfig[];

  private constructor(
    private readonly native: NativeTokenizer,
    { added_tokens: added = [], decoder }: TokenizerFile,
    named: SpecialTokens,
  ) {
    const pieces: string[] = [];
    for (const [piece, id] of Object.entries(native.getVocab(true))) pieces[id] = piece;
    this.pieces = pieces;
    const marked = added.filter(({ special }) => special).map(({ id }) => id);
    const texts = named.texts.flatMap((text) => native.tokenToId(text) ?? []);
    this.special = new Set([...marked, ...texts, ...named.ids]);
    this.steps = decoderSteps(decoder);
  }

  /** `text`: of a tokenizer.json. Throws RuntimeError INVALID_MODEL when it is none, or one that the library breaks over. */
  static async parse(text: string, named: SpecialTokens = NONE): Promise<HuggingFaceTokenizer> {
    try {
      const file = JSON.parse(text) as TokenizerFile;
      const fault = await probeTokenizer(text);
      if (fault !== undefined) throw new Error(fault);
      const native = NativeTokenizer.fromString(text);
      // a published tokenizer may cut or pad by itself; what is too long is decided elsewhere
      native.disableTruncation();
      native.disablePadding();
      return new HuggingFaceTokenizer(native, file, named);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `tokenizer.json: expected a Hugging Face tokenizer, it cannot be used: ${reason}. Take the file as it was published.`;
      throw new RuntimeError('INVALID_MODEL', message, {}, { cause });
    }
  }

  get vocabularySize(): number {
    return this.pieces.length;
  }

  async encode(text: string, options?: EncodeOptions): Promise<readonly number[]> {
    return (await this.run(text, options)).getIds();
  }

  async countTokens(text: string, options?: EncodeOptions): Promise<number> {
    return (await this.run(text, options)).getLength();
  }

  async encodeWithin(text: string, most: number, options: EncodeOptions = {}): Promise<BoundedEncoding> {
    const whole = await this.run(text, options);
    const tokenCount = whole.getLength();
    if (tokenCount <= most) return { ids: whole.getIds(), tokenCount, text, truncated: false };
    const [kept, added] = await Promise.all([this.run(text, { addSpecialTokens: false }), this.addedTokens(options)]);
    keepFirst(kept, Math.max(0, most - added.before.length - added.after.length));
    const end = kept.getOffsets().at(-1)?.[1] ?? 0;
    const ids = [...added.before, ...kept.getIds(), ...added.after];
    return { ids, tokenCount, text: sliceCodePoints(text, end), truncated: true };
  }

  async encodeWithOffsets(
    text: string,
    options: EncodeOptions & { readonly most?: number } = {},
  ): Promise<readonly EncodedToken[]> {
    const encoding = await this.run(text, options);
    // the arrays of a long text are made on this thread: only what is asked for
    if (options.most !== undefined && options.most < encoding.getLength()) keepFirst(encoding, options.most);
    const [ids, tokens, offsets] = [encoding.getIds(), encoding.getTokens(), encoding.getOffsets()];
    const inserted = encoding.getSpecialTokensMask();
    return ids.map((id, index) => {
      // a token that the post-processor put there has no place in the text
      const [start, end] = inserted[index] === 1 ? [] : (offsets[index] ?? []);
      return { id, text: tokens[index] ?? '', special: this.special.has(id), start, end };
    });
  }

  async decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): Promise<string> {
    const skip = options?.skipSpecialTokens ?? true;
    const shown = skip ? ids.filter((id) => !this.special.has(id)) : [...ids];
    return this.native.decode(shown, skip);
  }

  pieceText(id: number): string {
    const piece = this.visiblePiece(id);
    return piece === undefined ? '' : decodePiece(piece, this.steps);
  }

  trackCharacters(): CharacterTracker {
    const pieceOf = (id: number): string | undefined => this.visiblePiece(id);
    if (this.steps.some(({ type }) => type === 'ByteLevel')) return new ByteLevelTracker(pieceOf);
    if (this.steps.some(({ type }) => type === 'ByteFallback')) return new ByteFallbackTracker(pieceOf);
    return new WholePieceTracker();
  }

  /** What decoded texts are made of when special tokens are left out. */
  get vocabulary(): PieceVocabulary {
    return { pieces: Array.from(this.pieces, (_, id) => this.visiblePiece(id)), steps: this.steps };
  }

  /** The piece of an id that adds text: neither special nor unknown. */
  private visiblePiece(id: number): string | undefined {
    return this.special.has(id) ? undefined : this.pieces[id];
  }

  /** What the post-processor puts around a text: its own `postProcess` works on all that was cut off as well. */
  private async addedTokens(
    options: EncodeOptions,
  ): Promise<{ readonly before: readonly number[]; readonly after: readonly number[] }> {
    const encoding = await this.run('a', options);
    const [ids, inserted] = [encoding.getIds(), encoding.getSpecialTokensMask()];
    const first = inserted.indexOf(0);
    // a vocabulary that knows no "a" and no unknown token leaves nothing between the two
    if (first < 0) return { before: [], after: ids };
    return { before: ids.slice(0, first), after: ids.slice(inserted.lastIndexOf(0) + 1) };
  }

  private run(text: string, options?: EncodeOptions): Promise<Encoding> {
    const addSpecialTokens = options?.addSpecialTokens ?? true;
    return this.native.encode(text.replace(LONE_SURROGATE, '\uFFFD'), null, { addSpecialTokens });
  }
}

function keepFirst(encoding: Encoding, count: number): void {
  // the declared `TruncationDirection.Right` is refused, and without a direction 0.23.2 keeps the last tokens
  encoding.truncate(count, 0, 'right');
}
