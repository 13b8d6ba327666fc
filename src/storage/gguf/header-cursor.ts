/** Reads the little-endian fields of a GGUF header one after the other, the file a piece at a time. */
import { type BoundedFile, decodeText } from '../bounded-file.ts';
import { StorageError } from '../storage-error.ts';

/** Bytes of one read, between which the event loop runs other work: a header has hundreds of thousands of short texts. */
const PIECE_BYTES = 2 ** 15;

export class HeaderCursor {
  private piece = Buffer.alloc(0);
  /** Of the piece in the file. */
  private pieceStart = 0;
  /** Of the next field in the piece. */
  private at = 0;

  constructor(
    private readonly file: BoundedFile,
    /** No field lies behind it. */
    private readonly end: number,
  ) {}

  fail(problem: string): never {
    throw new StorageError('invalid', `${this.file.name}: ${problem}.`);
  }

  /** Position in the file. */
  get position(): number {
    return this.pieceStart + this.at;
  }

  get bytesLeft(): number {
    return this.end - this.position;
  }

  /** Makes the next bytes ready; throws StorageError when the file does not have them. */
  async need(bytes: number): Promise<void> {
    if (bytes > this.bytesLeft) {
      const problem = `expected ${bytes} more bytes of header at byte ${this.position}, ${this.bytesLeft} are there`;
      this.fail(`${problem}: the file is truncated or its header is too long`);
    }
    if (this.has(bytes)) return;
    const position = this.position;
    this.piece = Buffer.alloc(Math.min(Math.max(bytes, PIECE_BYTES), this.end - position));
    this.pieceStart = position;
    this.at = 0;
    await this.file.readInto(this.piece, position);
  }

  /** Whether the next bytes are ready: asking costs less than awaiting. */
  has(bytes: number): boolean {
    return this.piece.length - this.at >= bytes;
  }

  /** Takes the next bytes, which must be ready. They are of the piece, not a copy. */
  take(bytes: number): Buffer {
    this.at += bytes;
    return this.piece.subarray(this.at - bytes, this.at);
  }

  async uint32(): Promise<number> {
    if (!this.has(4)) await this.need(4);
    return this.take(4).readUInt32LE(0);
  }

  async uint64(): Promise<bigint> {
    if (!this.has(8)) await this.need(8);
    return this.take(8).readBigUInt64LE(0);
  }

  /** Reads a text behind its length; `what` names it in messages. */
  async text(what: string, maxBytes: number): Promise<string> {
    const length = await this.uint64();
    if (length > maxBytes) this.fail(`${what}: expected at most ${maxBytes} bytes of text, it claims ${length}`);
    const bytes = Number(length);
    if (!this.has(bytes)) await this.need(bytes);
    return decodeText(this.take(bytes), `${this.file.name}: ${what}`);
  }
}
