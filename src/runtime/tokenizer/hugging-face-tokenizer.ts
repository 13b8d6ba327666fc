/** The official `tokenizers` library behind our interface. Encoding and decoding run on its own threads. */
import { readFile } from 'node:fs/promises';
import { type Encoding, Tokenizer as NativeTokenizer } from 'tokenizers';
import { RuntimeError } from '../errors.ts';
import type { EncodedToken, Tokenizer } from './tokenizer.ts';

interface AddedToken {
  readonly id: number;
  readonly special: boolean;
}

/** SentencePiece's mark of a space. */
const METASPACE = /▁/g;
/** A lone half of a surrogate pair is no text; the library takes UTF-8 only. */
const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g;

export class HuggingFaceTokenizer implements Tokenizer {
  private readonly pieces: readonly (string | undefined)[];

  private constructor(
    private readonly native: NativeTokenizer,
    private readonly special: ReadonlySet<number>,
  ) {
    const pieces: string[] = [];
    for (const [piece, id] of Object.entries(native.getVocab(true))) pieces[id] = piece;
    this.pieces = pieces;
  }

  /** Opens a tokenizer.json. Throws RuntimeError INVALID_MODEL when it is none. */
  static async open(path: string): Promise<HuggingFaceTokenizer> {
    try {
      const text = await readFile(path, 'utf8');
      const { added_tokens: added = [] } = JSON.parse(text) as { added_tokens?: readonly AddedToken[] };
      const native = NativeTokenizer.fromString(text);
      // a published tokenizer may cut or pad by itself; what is too long is decided elsewhere
      native.disableTruncation();
      native.disablePadding();
      return new HuggingFaceTokenizer(native, new Set(added.filter(({ special }) => special).map(({ id }) => id)));
    } catch (cause) {
      throw new RuntimeError(
        'INVALID_MODEL',
        `tokenizer.json: expected a Hugging Face tokenizer: ${cause}.`,
        {},
        { cause },
      );
    }
  }

  get vocabularySize(): number {
    return this.pieces.length;
  }

  async encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Promise<readonly number[]> {
    return (await this.run(text, options)).getIds();
  }

  async encodeWithOffsets(
    text: string,
    options?: { readonly addSpecialTokens?: boolean },
  ): Promise<readonly EncodedToken[]> {
    const encoding = await this.run(text, options);
    const [ids, tokens, offsets] = [encoding.getIds(), encoding.getTokens(), encoding.getOffsets()];
    const inserted = encoding.getSpecialTokensMask();
    return ids.map((id, index) => {
      // a token that the post-processor put there has no place in the text
      const [start, end] = inserted[index] === 1 ? [] : (offsets[index] ?? []);
      return { id, text: tokens[index] ?? '', special: this.special.has(id), start, end };
    });
  }

  async decode(ids: readonly number[], options?: { readonly skipSpecialTokens?: boolean }): Promise<string> {
    return this.native.decode([...ids], options?.skipSpecialTokens ?? true);
  }

  pieceText(id: number): string {
    return this.special.has(id) ? '' : (this.pieces[id] ?? '').replace(METASPACE, ' ');
  }

  private run(text: string, options?: { readonly addSpecialTokens?: boolean }): Promise<Encoding> {
    const addSpecialTokens = options?.addSpecialTokens ?? true;
    return this.native.encode(text.replace(LONE_SURROGATE, '\uFFFD'), null, { addSpecialTokens });
  }
}
