/** GPT-2's way to write bytes as characters that can be printed: every byte has one, most have their own. */

const PRINTABLE = [
  [0x21, 0x7e],
  [0xa1, 0xac],
  [0xae, 0xff],
] as const;

const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  // the bytes that cannot be printed take the characters from 256 on, in order
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = PRINTABLE.some(([first, last]) => byte >= first && byte <= last);
    map.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return map;
})();

/** The bytes that a piece of a byte-level vocabulary stands for; those of its own text when it is not written so. */
export function bytesOfPiece(piece: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of piece) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) return new TextEncoder().encode(piece);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function lengthOfCharacter(firstByte: number): number {
  if (firstByte >= 0xf0 && firstByte <= 0xf4) return 4;
  if (firstByte >= 0xe0 && firstByte <= 0xef) return 3;
  return firstByte >= 0xc2 && firstByte <= 0xdf ? 2 : 1;
}

/** Whether the next byte may still belong to the last character. Three bytes are enough to know. */
export function endsInsideCharacter(bytes: ArrayLike<number>): boolean {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    const continues = byte >= 0x80 && byte <= 0xbf;
    if (!continues) return lengthOfCharacter(byte) > back;
  }
  return false;
}
