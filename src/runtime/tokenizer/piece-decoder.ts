/**
 * The `decoder` of a tokenizer.json in JavaScript, as the library (tokenizers 0.23) applies it: a list of pieces goes
 * through its steps, each of which changes pieces or joins them. Texts that are answered are decoded by the library;
 * this is for where text is wanted at once, or in a thread that has no tokenizer. `Replace` with a regular expression
 * and `CTC` are left out: no model that is served has them.
 */
import { bytesOfPiece } from './byte-level.ts';

/** One step of a decoder, with the names of tokenizer.json. */
export interface DecoderConfig {
  readonly type?: string;
  readonly decoders?: readonly DecoderConfig[];
  readonly replacement?: string;
  readonly prepend_scheme?: string;
  readonly add_prefix_space?: boolean;
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
  readonly start?: number;
  readonly stop?: number;
  readonly prefix?: string;
  readonly suffix?: string;
  readonly cleanup?: boolean;
}

type Pieces = readonly string[];

const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/;
/** SentencePiece's mark of a space. */
const METASPACE = '▁';
const REPLACEMENT = '\uFFFD';

const lossyUtf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const strictUtf8 = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** The byte of a byte-fallback token such as `<0x0A>`; undefined for any other piece. */
export function byteOfPiece(piece: string): number | undefined {
  const [, digits] = BYTE_PIECE.exec(piece) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

/** The steps of a decoder in order; none when there is no decoder. */
export function decoderSteps(config: DecoderConfig | null | undefined): readonly DecoderConfig[] {
  if (!config) return [];
  return config.type === 'Sequence' ? (config.decoders ?? []).flatMap(decoderSteps) : [config];
}

/** The first piece loses its marks of a space: encoding put one before the text. */
function withoutMetaspaces(pieces: Pieces, { replacement = METASPACE, ...step }: DecoderConfig): Pieces {
  const atStart = step.prepend_scheme === 'never' || step.add_prefix_space === false ? ' ' : '';
  return pieces.map((piece, index) => piece.replaceAll(replacement, index === 0 ? atStart : ' '));
}

/** A run of bytes that is no UTF-8 is unreadable as a whole. */
function textOfRun(bytes: readonly number[]): string {
  try {
    return strictUtf8.decode(Uint8Array.from(bytes));
  } catch {
    return REPLACEMENT.repeat(bytes.length);
  }
}

function joinByteRuns(pieces: Pieces): Pieces {
  const joined: string[] = [];
  let run: number[] = [];
  const endRun = (): void => {
    if (run.length > 0) joined.push(textOfRun(run));
    run = [];
  };
  for (const piece of pieces) {
    const byte = byteOfPiece(piece);
    if (byte !== undefined) {
      run.push(byte);
      continue;
    }
    endRun();
    joined.push(piece);
  }
  endRun();
  return joined;
}

/** WordPiece's cleanup: punctuation and the ends of English contractions follow without a space. */
function withoutSpaceBefore(text: string): string {
  return text
    .replace(/ ([.?!,]|n't|'m|'s|'ve|'re)/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(' do not', " don't");
}

function joinWordPieces(pieces: Pieces, { prefix = '##', cleanup = true }: DecoderConfig): Pieces {
  return pieces.map((piece, index) => {
    const continued = piece.startsWith(prefix) ? piece.slice(prefix.length) : ` ${piece}`;
    const text = index === 0 ? piece : continued;
    return cleanup ? withoutSpaceBefore(text) : text;
  });
}

function strip(piece: string, { content = ' ', start = 0, stop = 0 }: DecoderConfig): string {
  let text = piece;
  for (let count = 0; count < start && text.startsWith(content); count++) text = text.slice(content.length);
  for (let count = 0; count < stop && text.endsWith(content); count++) text = text.slice(0, -content.length);
  return text;
}

function applyStep(pieces: Pieces, step: DecoderConfig): Pieces {
  switch (step.type) {
    case 'Metaspace':
      return withoutMetaspaces(pieces, step);
    case 'Replace': {
      const { pattern, content = '' } = step;
      if (pattern?.String === undefined) return pieces;
      const { String: wanted } = pattern;
      return pieces.map((piece) => piece.replaceAll(wanted, () => content));
    }
    case 'ByteLevel':
      return [lossyUtf8.decode(Uint8Array.from(pieces.flatMap((piece) => [...bytesOfPiece(piece)])))];
    case 'ByteFallback':
      return joinByteRuns(pieces);
    case 'WordPiece':
      return joinWordPieces(pieces, step);
    case 'BPEDecoder': {
      // the end of the last word is no space
      const last = pieces.length - 1;
      const suffix = step.suffix ?? '</w>';
      return pieces.map((piece, index) => piece.replaceAll(suffix, index === last ? '' : ' '));
    }
    case 'Fuse':
      return [pieces.join('')];
    case 'Strip':
      return pieces.map((piece) => strip(piece, step));
    default:
      return pieces;
  }
}

/** The text of the pieces of a whole sequence. */
export function decodePieces(pieces: Pieces, steps: readonly DecoderConfig[]): string {
  // without a decoder the library puts spaces between the pieces
  return steps.length === 0 ? pieces.join(' ') : steps.reduce(applyStep, pieces).join('');
}

/** A piece that any other may stand beside, without an effect on it. */
const NEIGHBOUR = 'a';

/** The text that pieces add behind others. */
export function decodeBehind(pieces: Pieces, steps: readonly DecoderConfig[]): string {
  return decodePieces([NEIGHBOUR, ...pieces], steps).slice(NEIGHBOUR.length);
}

/** The text of a piece in the middle of a sequence; bytes that are no character of their own are U+FFFD. */
export function decodePiece(piece: string, steps: readonly DecoderConfig[]): string {
  const after = decodeBehind([NEIGHBOUR], steps).length;
  const text = decodeBehind([piece, NEIGHBOUR], steps);
  return text.slice(0, text.length - after);
}
