/** The typed values of a GGUF header's metadata. Nested arrays, which the format knows and no writer makes, are refused. */
import { quoted } from '../storage-error.ts';
import type { HeaderCursor } from './header-cursor.ts';

/** Names and positions of gguf_type, gguf.h. */
const VALUE_TYPES = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint32',
  'int32',
  'float32',
  'bool',
  'string',
  'array',
  'uint64',
  'int64',
  'float64',
] as const;
type ValueType = (typeof VALUE_TYPES)[number];
type NumberType = Exclude<ValueType, 'bool' | 'string' | 'array'>;

const NUMBER_ARRAYS = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
  float64: Float64Array,
} as const satisfies Record<NumberType, unknown>;

/** Numbers stand in the array of their own type: a hostile count cannot make them larger than they are in the file. */
type NumberArray = InstanceType<(typeof NUMBER_ARRAYS)[NumberType]>;

/** Whole numbers beyond 2^53 stay bigint; of an array of bools come the bytes. */
export type GgufValue = number | bigint | boolean | string | readonly string[] | NumberArray;

const MAX_TEXT_BYTES = 2 ** 24;
const MAX_NUMBERS = 2 ** 24;
/** The largest published vocabularies have a quarter of a million tokens and half a million merges. */
const MAX_TEXTS = 2 ** 21;
/** A text begins with its length. */
const LEAST_TEXT_BYTES = 8;

export class MetadataReader {
  constructor(
    private readonly cursor: HeaderCursor,
    private readonly key: string,
  ) {}

  private bad(problem: string): never {
    return this.cursor.fail(`${quoted(this.key)}: ${problem}`);
  }

  /** Reads a type and the value behind it. */
  async value(): Promise<GgufValue> {
    const type = await this.type();
    if (type === 'array') return this.array();
    if (type === 'string') return this.text();
    if (type === 'bool') return this.flag();
    const [number] = await this.numbers(type, 1);
    const small = typeof number === 'bigint' && Number.isSafeInteger(Number(number));
    return small ? Number(number) : (number as number | bigint);
  }

  private async type(): Promise<ValueType> {
    const id = await this.cursor.uint32();
    return VALUE_TYPES[id] ?? this.bad(`expected a type of value from 0 to ${VALUE_TYPES.length - 1}, ${id} came`);
  }

  private text(): Promise<string> {
    return this.cursor.text(quoted(this.key), MAX_TEXT_BYTES);
  }

  private async flag(): Promise<boolean> {
    const [byte] = await this.numbers('uint8', 1);
    if (byte === 0 || byte === 1) return byte === 1;
    return this.bad(`expected a bool of 0 or 1, ${quoted(byte)} came`);
  }

  private async array(): Promise<readonly string[] | NumberArray> {
    const type = await this.type();
    if (type === 'array') return this.bad('expected an array of texts or numbers, an array of arrays came');
    const claimed = await this.cursor.uint64();
    const bound = type === 'string' ? MAX_TEXTS : MAX_NUMBERS;
    const itemBytes =
      type === 'string' ? LEAST_TEXT_BYTES : NUMBER_ARRAYS[type === 'bool' ? 'uint8' : type].BYTES_PER_ELEMENT;
    const most = Math.min(bound, Math.floor(this.cursor.bytesLeft / itemBytes));
    if (claimed > most) return this.bad(`expected an array of at most ${most} values, it claims ${claimed}`);
    const count = Number(claimed);
    return type === 'string' ? this.texts(count) : this.numbers(type === 'bool' ? 'uint8' : type, count);
  }

  private async texts(count: number): Promise<readonly string[]> {
    const texts: string[] = [];
    while (texts.length < count) texts.push(await this.text());
    return texts;
  }

  private async numbers(type: NumberType, count: number): Promise<NumberArray> {
    const numbers = new NUMBER_ARRAYS[type](count);
    await this.cursor.need(numbers.byteLength);
    // a copy: the bytes in the file need not be aligned
    new Uint8Array(numbers.buffer).set(this.cursor.take(numbers.byteLength));
    return numbers;
  }
}
