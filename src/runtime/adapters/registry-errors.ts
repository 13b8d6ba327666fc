/** What the registry of adapters refuses, and in which words. */

import type { AdapterFacts } from '../../storage/adapter-facts.ts';
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';
import { listed } from '../peft/adapter-errors.ts';
import type { ServedAdapter } from './served-adapter.ts';

const ADAPTER_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const LONGEST_NAME = 200;

export function checkNames(id: string, name: string): void {
  if (!ADAPTER_ID.test(id)) {
    const message = `Expected id to be 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first, ${quoted(id)} came. Choose another.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'id' });
  }
  if (name.length > 0 && name.length <= LONGEST_NAME) return;
  const message = `Expected a name of 1 to ${LONGEST_NAME} characters, one of ${name.length} came. ${name === '' ? 'Leave it out to take the id' : 'Shorten it'}.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'name' });
}

export function idTaken(id: string, owner: string): RuntimeError {
  const message = `Expected a new id, ${id} is an adapter of model ${owner}. Unload it first or choose another.`;
  return new RuntimeError('CONFLICT', message, { argument: 'id' });
}

export function tooMany(most: number): RuntimeError {
  const message = `Expected at most ${most} adapters, one more came. Unload one that is not needed.`;
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'id', limit: 'GISTQL_MAX_ADAPTERS' });
}

export function unknownModel(id: string, known: readonly string[]): RuntimeError {
  const message = `Expected the id of a loaded model (${listed(known) || 'none'}), ${quoted(id)} came. Choose one of them, or load it first.`;
  return new RuntimeError('NOT_FOUND', message, { argument: 'model' });
}

export function modelGone(modelId: string): RuntimeError {
  const message = `Expected model ${modelId} to stay loaded, it was unloaded meanwhile. Load it again.`;
  return new RuntimeError('NOT_FOUND', message, { argument: 'model' });
}

export function unknownAdapter(
  modelId: string,
  known: readonly string[],
  came: { readonly id: string; readonly argument: string },
): RuntimeError {
  const message = `Expected the id of a loaded adapter of model ${modelId} (${listed(known) || 'none'}), ${quoted(came.id)} came. Choose one of them, or load it first.`;
  return new RuntimeError('NOT_FOUND', message, { argument: came.argument });
}

export function otherModel(modelId: string, { id, model }: ServedAdapter, argument: string): RuntimeError {
  const message = `Expected an adapter of model ${modelId}, ${id} came, which is one of ${model.id}. Ask that model, or load the adapter for this one under another id.`;
  return new RuntimeError('BAD_USER_INPUT', message, { argument });
}

export function chosenTwice(id: string): RuntimeError {
  const message = `Expected each adapter once, ${id} came twice. Add its weights up.`;
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'adapters' });
}

export function badWeight(id: string, most: number, came: number): RuntimeError {
  const message = `Expected a weight of ${id} from -${most} to ${most}, ${came} came. Choose a smaller one.`;
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'adapters' });
}

const ADVICE = {
  loading: 'Wait until it is loaded.',
  draining: 'Choose another.',
  failed: 'Mend its files.',
  ready: 'Send it again.',
} as const;

/** The refusal of an adapter whose status does not allow what was asked. */
export function notNow({ id, status }: ServedAdapter, argument: string): RuntimeError {
  const message = `Expected an adapter with status READY, ${id} is ${status.toUpperCase()}. ${ADVICE[status]}`;
  return new RuntimeError('CONFLICT', message, { argument });
}

/** Throws INVALID_ADAPTER when files are not those that were loaded. */
export function checkUnchanged({ id, facts: loaded }: ServedAdapter, facts: AdapterFacts): void {
  for (const fact of ['sha256', 'configSha256'] as const) {
    if (facts[fact] === loaded[fact]) continue;
    const message = `Expected the files of ${id} to be those that were loaded (${fact} ${loaded[fact]}), others came (${facts[fact]}). Put them back, or unload it and load it again.`;
    throw new RuntimeError('INVALID_ADAPTER', message);
  }
}

/** The error of a request whose adapter's files are at fault; undefined when something else is. */
export function asBrokenFiles(id: string, cause: unknown): RuntimeError | undefined {
  if (!(cause instanceof RuntimeError)) return undefined;
  if (cause.code === 'INVALID_ADAPTER' || cause.code === 'INCOMPATIBLE_ADAPTER') return cause;
  if (cause.code !== 'NOT_FOUND' && cause.code !== 'BAD_USER_INPUT') return undefined;
  // the source was fine when the adapter was loaded: no fault of the one who asks now
  return new RuntimeError(
    'INVALID_ADAPTER',
    `Expected the files of ${id} to be where they were. ${cause.message} Put them back, or unload the adapter.`,
    {},
    { cause },
  );
}
