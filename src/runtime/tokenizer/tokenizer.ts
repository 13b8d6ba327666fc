/** Text to token ids and back, by the official `tokenizers` library from a model's tokenizer.json. */
import type { CharacterTracker } from './character-tracker.ts';

export interface EncodedToken {
  readonly id: number;
  /** The piece as the vocabulary spells it, such as `▁Hello`. */
  readonly text: string;
  readonly special: boolean;
  /**
   * Range [start, end) in the input, counted in Unicode code points as the Python library counts: a character outside
   * the basic plane is one, while JavaScript's own string indexes count it as two. Undefined for a token that stands
   * for no input, such as an end token that was added.
   */
  readonly start: number | undefined;
  readonly end: number | undefined;
}

/** A text as far as a model reads it. */
export interface BoundedEncoding {
  readonly ids: readonly number[];
  /** Tokens that the whole text has, special tokens included. */
  readonly tokenCount: number;
  /** The text up to the end of the last token that is kept; the whole text when nothing was cut. */
  readonly text: string;
  readonly truncated: boolean;
}

export interface EncodeOptions {
  /** Default true: the tokens that the model's post-processor adds, such as T5's end token. */
  readonly addSpecialTokens?: boolean;
}

export interface Tokenizer {
  readonly vocabularySize: number;
  encode(text: string, options?: EncodeOptions): Promise<readonly number[]>;
  /** Number of ids that `encode` gives. */
  countTokens(text: string, options?: EncodeOptions): Promise<number>;
  /**
   * As `encode`, but of at most `most` tokens: what does not fit is left out at the end of the text, as Hugging Face's
   * truncation does it. Tokens that the post-processor adds stay and are counted.
   */
  encodeWithin(text: string, most: number, options?: EncodeOptions): Promise<BoundedEncoding>;
  /** `most`, default all: how many tokens are given, from the first. */
  encodeWithOffsets(
    text: string,
    options?: EncodeOptions & { readonly most?: number },
  ): Promise<readonly EncodedToken[]>;
  /** Ids that are not in the vocabulary add nothing. `skipSpecialTokens`, default true. */
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): Promise<string>;
  /** The text each id adds in the middle of a sequence ("▁Hello" is " Hello"; special tokens add ""). */
  pieceText(id: number): string;
  /** Tells of one sequence's tokens, as they come, where its text can no longer change. */
  trackCharacters(): CharacterTracker;
}
