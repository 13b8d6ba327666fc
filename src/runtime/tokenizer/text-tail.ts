/**
 * The end of a growing sequence's text, exactly as decoding the whole sequence would end: for deciding at every token,
 * in the inference worker, whether a stop string is in the text.
 */
import { bytesOfPiece } from './byte-level.ts';
import { byteOfPiece, type DecoderConfig, decodeBehind, decodePiece, decodePieces } from './piece-decoder.ts';

/** What a sequence's text is made of. Plain data: it is sent to another thread. */
export interface PieceVocabulary {
  /** By id: the piece as the vocabulary spells it; undefined for an id that adds no text. */
  readonly pieces: readonly (string | undefined)[];
  readonly steps: readonly DecoderConfig[];
}

interface PieceFacts {
  readonly piece: string;
  /** Whether it can begin a window: no piece before it changes its text, nor it the text of those. */
  readonly startsAnew: boolean;
  /** UTF-16 units that it adds behind any text, at the least. */
  readonly leastLength: number;
}

/** Whether a byte goes on with a character that another one began. */
function continues(byte: number): boolean {
  return byte >= 0x80 && byte <= 0xbf;
}

export class TextTail {
  private readonly facts = new Map<number, PieceFacts | undefined>();
  private readonly inBytes: boolean;

  constructor(private readonly vocabulary: PieceVocabulary) {
    this.inBytes = vocabulary.steps.some(({ type }) => type === 'ByteLevel');
  }

  /**
   * The end of the text of `ids`: all that the last token added or changed, and at least `length` characters before
   * it; the whole text when that is shorter. Its cost does not grow with the sequence, but for runs of byte tokens.
   */
  of(ids: readonly number[], length: number): string {
    const { steps } = this.vocabulary;
    // from the last to the first
    const pieces: string[] = [];
    let isChangedPart = true;
    let lengthBefore = 0;
    let canBegin = false;
    for (let index = ids.length - 1; index >= 0; index--) {
      const facts = this.factsOf(ids[index] as number);
      if (facts === undefined) continue;
      if (canBegin) return decodeBehind(pieces.reverse(), steps);
      pieces.push(facts.piece);
      if (!isChangedPart) lengthBefore += facts.leastLength;
      // a token may change the end of the one before it: `</w>` becomes a space, bytes become a character
      else if (facts.startsAnew && pieces.length > 1) isChangedPart = false;
      canBegin = !isChangedPart && facts.startsAnew && lengthBefore >= length;
    }
    return decodePieces(pieces.reverse(), steps);
  }

  private factsOf(id: number): PieceFacts | undefined {
    if (!this.facts.has(id)) this.facts.set(id, this.readFacts(this.vocabulary.pieces[id]));
    return this.facts.get(id);
  }

  private readFacts(piece: string | undefined): PieceFacts | undefined {
    if (piece === undefined) return undefined;
    if (this.inBytes) {
      const bytes = bytesOfPiece(piece);
      const [first] = bytes;
      const startsAnew = first !== undefined && !continues(first);
      return { piece, startsAnew, leastLength: bytes.filter((byte) => !continues(byte)).length };
    }
    const byte = byteOfPiece(piece);
    if (byte !== undefined) return { piece, startsAnew: false, leastLength: continues(byte) ? 0 : 1 };
    return { piece, startsAnew: true, leastLength: decodePiece(piece, this.vocabulary.steps).length };
  }
}
