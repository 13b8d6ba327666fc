/**
 * Where the text of a growing sequence is settled. A character may be spread over tokens: byte-level vocabularies cut
 * anywhere between bytes, and byte-fallback tokens (`<0xE2>`) are read as one run that is text or is not.
 */
import { bytesOfPiece, endsInsideCharacter } from './byte-level.ts';
import { byteOfPiece } from './piece-decoder.ts';

export interface CharacterTracker {
  /** Takes the next token; returns whether no token after it can change the text up to here. */
  push(id: number): boolean;
}

/** Each token is whole characters. */
export class WholePieceTracker implements CharacterTracker {
  push(): boolean {
    return true;
  }
}

/** A run of byte-fallback tokens is settled when another token ends it: one bad byte makes the whole run unreadable. */
export class ByteFallbackTracker implements CharacterTracker {
  private settled = true;

  /** `pieceOf` gives undefined for an id that adds no text. */
  constructor(private readonly pieceOf: (id: number) => string | undefined) {}

  push(id: number): boolean {
    const piece = this.pieceOf(id);
    if (piece !== undefined) this.settled = byteOfPiece(piece) === undefined;
    return this.settled;
  }
}

/** Bytes are settled when they end with a whole character, or with what can never become one. */
export class ByteLevelTracker implements CharacterTracker {
  private lastBytes: readonly number[] = [];

  /** `pieceOf` gives undefined for an id that adds no text. */
  constructor(private readonly pieceOf: (id: number) => string | undefined) {}

  push(id: number): boolean {
    const piece = this.pieceOf(id);
    if (piece !== undefined) this.lastBytes = [...this.lastBytes, ...bytesOfPiece(piece).slice(-3)].slice(-3);
    return !endsInsideCharacter(this.lastBytes);
  }
}
