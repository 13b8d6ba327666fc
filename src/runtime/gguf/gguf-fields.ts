/** The metadata of a GGUF file by key, each value checked to be what is asked for. */
import type { GgufFile } from '../../storage/gguf/gguf-file.ts';
import { quoted, StorageError } from '../../storage/storage-error.ts';

interface Bounds {
  readonly high: number;
  /** Default 1. */
  readonly low?: number;
}

export class GgufFields {
  constructor(private readonly file: Pick<GgufFile, 'name' | 'metadata'>) {}

  /** Throws StorageError, naming the file. */
  fail(problem: string): never {
    throw new StorageError('invalid', `${this.file.name}: ${problem}.`);
  }

  has(key: string): boolean {
    return this.file.metadata.has(key);
  }

  private mistyped(key: string, expected: string): never {
    return this.fail(`expected ${key} to be ${expected}, ${quoted(this.file.metadata.get(key))} came`);
  }

  /** A whole number; undefined where the key is absent. */
  optionalCount(key: string, { low = 1, high }: Bounds): number | undefined {
    const value = this.file.metadata.get(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
    return this.mistyped(key, `a whole number from ${low} to ${high}`);
  }

  count(key: string, bounds: Bounds): number {
    return this.optionalCount(key, bounds) ?? this.mistyped(key, 'a whole number');
  }

  /** A number above 0; undefined where the key is absent. Files hold float32: of what rounds to it, the shortest. */
  optionalPositive(key: string): number | undefined {
    const value = this.file.metadata.get(key);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && value > 0 && Number.isFinite(value)) return shortestDecimal(value);
    return this.mistyped(key, 'a number above 0');
  }

  positive(key: string): number {
    return this.optionalPositive(key) ?? this.mistyped(key, 'a number above 0');
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.file.metadata.get(key) ?? fallback;
    return typeof value === 'boolean' ? value : this.mistyped(key, 'a bool');
  }

  optionalText(key: string): string | undefined {
    const value = this.file.metadata.get(key);
    return value === undefined || typeof value === 'string' ? value : this.mistyped(key, 'a text');
  }

  /** A list of texts. */
  texts(key: string): readonly string[] {
    const value = this.file.metadata.get(key);
    return isTexts(value) ? value : this.mistyped(key, 'a list of texts');
  }

  /** A list of whole numbers; undefined where the key is absent. */
  optionalCounts(key: string): ArrayLike<number> | undefined {
    const value = this.file.metadata.get(key);
    if (value === undefined || value instanceof Int32Array || value instanceof Uint32Array) return value;
    return this.mistyped(key, 'a list of whole numbers of 32 bits');
  }
}

function isTexts(value: unknown): value is readonly string[] {
  // lists of the metadata are of one type
  return Array.isArray(value);
}

/** 0.00001 for the float32 9.999999747378752e-6: what the model's own files say. */
function shortestDecimal(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
