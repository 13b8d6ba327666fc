/** What a registry of adapters knows of a model. */
import type { ServedModel } from '../models/served-model.ts';
import type { AdapterBase } from '../peft/read-adapter.ts';
import type { AdapterEntry } from './adapter-entry.ts';
import type { ChosenAdapter } from './adapter-lease.ts';

export interface ModelSide {
  readonly model: ServedModel;
  /** What its requests have. */
  active: AdapterEntry | undefined;
  /** The activation asked for last, which may still be on its way to the disk. */
  lastAsked: object;
}

/** What a request has that names no adapters. */
export function activeChoice({ active }: ModelSide): readonly ChosenAdapter[] {
  return active === undefined ? [] : [{ entry: active, weight: 1 }];
}

/** The model as readers of adapters take it. */
export function baseOf({ folder, config, source }: ServedModel): AdapterBase {
  return { modelFolder: folder, config, modelSource: source };
}
