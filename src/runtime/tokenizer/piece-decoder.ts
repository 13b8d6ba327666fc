/**
 * The `decoder` of a tokenizer.json, read for what one piece adds in the middle of a text. Whole sequences are decoded
 * by the library; this is for where a single token's text is wanted at once, such as finding stop strings.
 */
import { bytesOfPiece } from './byte-level.ts';

/** One step of a decoder, with the names of tokenizer.json. */
export interface DecoderConfig {
  readonly type?: string;
  readonly decoders?: readonly DecoderConfig[];
  readonly replacement?: string;
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
  readonly prefix?: string;
  readonly suffix?: string;
  readonly cleanup?: boolean;
}

const BYTE_PIECE = /^<0x([0-9A-Fa-f]{2})>$/;
/** SentencePiece's mark of a space. */
const METASPACE = '▁';
const REPLACEMENT = '\uFFFD';

/** Whether it is a byte-fallback token such as `<0x0A>`. */
export function isBytePiece(piece: string): boolean {
  return BYTE_PIECE.test(piece);
}

/** The steps of a decoder in order; none when there is no decoder. */
export function decoderSteps(config: DecoderConfig | null | undefined): readonly DecoderConfig[] {
  if (!config) return [];
  return config.type === 'Sequence' ? (config.decoders ?? []).flatMap(decoderSteps) : [config];
}

function textOfByte(piece: string): string {
  const [, digits] = BYTE_PIECE.exec(piece) ?? [];
  if (digits === undefined) return piece;
  const byte = Number.parseInt(digits, 16);
  return byte < 0x80 ? String.fromCharCode(byte) : REPLACEMENT;
}

/** WordPiece's cleanup: punctuation and the ends of English contractions follow without a space. */
function withoutSpaceBefore(text: string): string {
  return text
    .replace(/ ([.?!,]|n't|'m|'s|'ve|'re)/g, '$1')
    .replaceAll(" ' ", "'")
    .replaceAll(' do not', " don't");
}

function applyStep(text: string, step: DecoderConfig): string {
  switch (step.type) {
    case 'Metaspace':
      return text.replaceAll(step.replacement ?? METASPACE, ' ');
    case 'Replace':
      return step.pattern?.String === undefined ? text : text.replaceAll(step.pattern.String, () => step.content ?? '');
    case 'ByteLevel':
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytesOfPiece(text));
    case 'ByteFallback':
      return textOfByte(text);
    case 'WordPiece': {
      const prefix = step.prefix ?? '##';
      const piece = text.startsWith(prefix) ? text.slice(prefix.length) : ` ${text}`;
      return (step.cleanup ?? true) ? withoutSpaceBefore(piece) : piece;
    }
    case 'BPEDecoder':
      return text.replaceAll(step.suffix ?? '</w>', ' ');
    default:
      // Fuse and Strip look at the whole text; others do not change a piece in its middle
      return text;
  }
}

/** The text of a piece in the middle of a sequence; bytes that are no character of their own are U+FFFD. */
export function decodePiece(piece: string, steps: readonly DecoderConfig[]): string {
  // without a decoder the library puts spaces between the pieces
  return steps.length === 0 ? ` ${piece}` : steps.reduce(applyStep, piece);
}
