/** The tensors of a model's files by name, and whether they are those that its config asks for. */
import { isFloatType } from '../../storage/float-conversion.ts';
import { isGgufType } from '../../storage/gguf/tensor-types.ts';
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { elementCount } from '../tensor.ts';

export interface TensorCatalog {
  names(): readonly string[];
  info(name: string): TensorFacts | undefined;
}

interface TensorFacts {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** Where tensors come from: one file, shards, or memory. Values are float32 whatever the file holds. */
export interface TensorSource {
  has(name: string): boolean;
  read(name: string): Promise<Float32Array>;
}

export type TensorShapes = ReadonlyMap<string, readonly number[]>;

/** How many faults a message lists. */
const LISTED_FAULTS = 5;

function listed(faults: readonly string[]): string {
  const more = faults.length > LISTED_FAULTS ? `; and ${faults.length - LISTED_FAULTS} more` : '';
  return faults.slice(0, LISTED_FAULTS).join('; ') + more;
}

/** What is wrong with a tensor of this shape, if anything. */
function faultOf(name: string, shape: readonly number[], info: TensorFacts | undefined): string | undefined {
  if (info === undefined) return `${name} is missing, expected [${shape}]`;
  if (info.shape.join() !== shape.join()) return `${name} is [${info.shape}], expected [${shape}]`;
  return isFloatType(info.dtype) || isGgufType(info.dtype)
    ? undefined
    : `${name} is ${info.dtype}, expected F32, F16 or BF16`;
}

/**
 * Throws INVALID_MODEL listing what is missing or has another shape or type; returns warnings about what is not used,
 * but for names that `ignored` matches.
 */
export function checkTensors(shapes: TensorShapes, catalog: TensorCatalog, ignored?: RegExp): readonly string[] {
  const faults = [...shapes].flatMap(([name, shape]) => faultOf(name, shape, catalog.info(name)) ?? []);
  if (faults.length > 0) {
    throw new RuntimeError('INVALID_MODEL', `The weights do not fit config.json: ${listed(faults)}.`);
  }
  const unused = catalog.names().filter((name) => !shapes.has(name) && ignored?.test(name) !== true);
  return unused.length === 0 ? [] : [`Tensors that are not used: ${listed(unused.map(quoted))}.`];
}

export function countElements(shapes: TensorShapes): number {
  let total = 0;
  for (const shape of shapes.values()) total += elementCount(shape);
  return total;
}
