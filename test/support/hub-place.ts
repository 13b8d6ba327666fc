/** A hub, a cache of one's own and a store between them. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../../src/storage/hub/hub-error.ts';
import type { HubClock, HubSettings } from '../../src/storage/hub/hub-settings.ts';
import { HubStore } from '../../src/storage/hub/hub-store.ts';
import type { FreeBytes } from '../../src/storage/hub/snapshot-fetch.ts';
import type { Cleanup } from './cleanup.ts';
import { HubServer } from './hub-server.ts';
import { temporaryFolder } from './tiny-model.ts';

/** A model as published, but for its bytes. */
export const modelFiles = {
  'README.md': '# a model',
  'config.json': '{"model_type":"t5"}',
  'generation_config.json': '{}',
  'tokenizer.json': '{"version":"1.0"}',
  'model.safetensors': Buffer.alloc(300_000, 'weights '),
  'pytorch_model.bin': Buffer.from('pickle'),
} as const;

/** Between two attempts no time passes; silence never ends. */
export class PatientClock implements HubClock {
  /** Milliseconds of every pause. */
  readonly pauses: number[] = [];

  after(delayMs: number, run: () => void): () => void {
    const isSilence = delayMs === 30_000;
    if (isSilence) return () => {};
    this.pauses.push(delayMs);
    const immediate = setImmediate(run);
    return () => clearImmediate(immediate);
  }
}

export interface HubPlace {
  readonly hub: HubServer;
  readonly clock: PatientClock;
  readonly cacheDir: string;
  /** Another store on the same cache. */
  open(
    settings?: Partial<HubSettings>,
    parts?: { readonly freeBytes?: FreeBytes; readonly clock?: HubClock },
  ): HubStore;
  /** Paths of all files and links in the cache, but for what was noted beside them. */
  kept(): Promise<readonly string[]>;
}

export async function makeHubPlace(t: Cleanup): Promise<HubPlace> {
  const hub = await HubServer.start(t);
  const home = await temporaryFolder(t);
  const clock = new PatientClock();
  const cacheDir = join(home, 'hub');
  const own = { cacheDir, endpoint: hub.url, token: undefined, tokenFile: join(home, 'token'), offline: false };
  return {
    hub,
    clock,
    cacheDir,
    open: (settings = {}, parts = {}) => new HubStore({ ...own, ...settings }, { clock, ...parts }),
    kept: async () => {
      const entries = await readdir(cacheDir, { recursive: true, withFileTypes: true }).catch(() => []);
      return entries
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(cacheDir.length + 1))
        .filter((path) => !path.includes('.gistql/'))
        .sort();
    },
  };
}

/** For assert.rejects and assert.throws. */
export function hubRefuses(reason: HubError['reason'], message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof HubError, `${error instanceof Error ? error.stack : error}`);
    assert.match(error.message, message);
    assert.equal(error.reason, reason);
    assert.match(error.message, /[Ee]xpected/);
    assert.ok(error.message.length < 700, `a message of ${error.message.length} characters`);
    return true;
  };
}
