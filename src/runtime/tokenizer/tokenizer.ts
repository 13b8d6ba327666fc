/** Text to token ids and back, by the official `tokenizers` library from a model's tokenizer.json. */

export interface EncodedToken {
  readonly id: number;
  /** The piece as the vocabulary spells it, such as `▁Hello`. */
  readonly text: string;
  readonly special: boolean;
  /** Range [start, end) in the input, counted in Unicode code points; undefined for a token that stands for no input. */
  readonly start: number | undefined;
  readonly end: number | undefined;
}

export interface Tokenizer {
  readonly vocabularySize: number;
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Promise<readonly number[]>;
  encodeWithOffsets(text: string, options?: { readonly addSpecialTokens?: boolean }): Promise<readonly EncodedToken[]>;
  decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): Promise<string>;
  /** The text each id adds in the middle of a sequence ("▁Hello" is " Hello"; special tokens add ""), for stop strings. */
  pieceText(id: number): string;
}
