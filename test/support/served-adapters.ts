/** A model with a scripted engine in a registry of adapters, and what tests ask of the two. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { AdapterRegistry } from '../../src/runtime/adapters/adapter-registry.ts';
import type { AdapterChange, AdapterChoice } from '../../src/runtime/adapters/served-adapter.ts';
import type { RuntimeError } from '../../src/runtime/errors.ts';
import type { ServedModel } from '../../src/runtime/models/served-model.ts';
import {
  marksOf,
  openAdapters,
  type ScriptedAdapters,
  type ScriptedOptions,
  scriptedModel,
} from './scripted-adapters.ts';
import { ScriptedEngine } from './scripted-engine.ts';

export interface ServedAdapters extends ScriptedAdapters {
  readonly model: ServedModel;
  /** Loads adapters `a1`, `a2`, … whose marks are their numbers, 10 bytes each. */
  load(...numbers: readonly number[]): Promise<void>;
  /** The marks that a request with these adapters is answered by. */
  ask(choices: readonly AdapterChoice[] | null): Promise<readonly number[] | undefined>;
}

export async function serveAdapters(t: TestContext, options: ScriptedOptions = {}): Promise<ServedAdapters> {
  const parts = await openAdapters(t, options);
  const { registry, reader } = parts;
  const model = await scriptedModel('first');
  await registry.modelLoaded(model);
  return {
    ...parts,
    model,
    load: async (...numbers) => {
      for (const number of numbers) {
        await reader.write(`folder-${number}`, { memoryBytes: 10, mark: number });
        await registry.load({ id: `a${number}`, modelId: 'first', source: `dir:folder-${number}` });
      }
    },
    ask: async (choices) => {
      const lease = registry.acquire(model, choices);
      try {
        return await lease.use(async (weighted) => marksOf(model, weighted));
      } finally {
        lease.release();
      }
    },
  };
}

/** The keys of the adapters that a model's engine has. */
export function inMemory({ engine }: ServedModel): readonly string[] {
  assert.ok(engine instanceof ScriptedEngine);
  return [...engine.adapters.keys()];
}

/** Notes what happens until the registry stops. */
export function listen(registry: AdapterRegistry): { readonly heard: string[]; readonly done: Promise<void> } {
  const heard: string[] = [];
  const feed = registry.changes(null, new AbortController().signal);
  const note = ({ change, adapter }: AdapterChange) => heard.push(`${change} ${adapter.id}`);
  const done = (async () => {
    for await (const change of feed) note(change);
  })();
  return { heard, done };
}

/** For `assert.rejects`: that the error names this argument. */
export function refusal(code: string, argument: string, message: RegExp) {
  return (error: RuntimeError) => {
    assert.equal(error.code, code, error.message);
    assert.equal(error.details.argument, argument);
    assert.match(error.message, message);
    return true;
  };
}
