/** A loaded model as the rest of the server sees it. */
import type { EngineClient } from '../engine/engine-client.ts';
import type { LoraTargets } from '../graph/lora.ts';
import type { ChatFrame } from '../prompts/chat-template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerationDefaults, ModelConfig } from './model-config.ts';

export type Precision = 'fp32' | 'int8' | 'fp16';
export type Device = 'cpu' | 'cuda';

export interface ServedModel {
  readonly id: string;
  /** `embedded:NAME`, `dir:NAME` or `hub:OWNER/NAME@COMMIT`. */
  readonly source: string;
  /** Real path of its files. */
  readonly folder: string;
  readonly config: ModelConfig;
  readonly generationDefaults: GenerationDefaults;
  /** What it wants around a user's message; undefined: nothing. */
  readonly chat: ChatFrame | undefined;
  /** Id of the prompt template that its own files ask for. */
  readonly templateId: string | undefined;
  readonly tokenizer: Tokenizer;
  readonly engine: EngineClient;
  /** Rows that may run at once: the most beams or sequences a request can ask for. */
  readonly maxRows: number;
  readonly precision: Precision;
  readonly device: Device;
  readonly parameterCount: number;
  /** Bytes of weights held in memory. */
  readonly memoryBytes: number;
  readonly loadedAt: Date;
}

/** Finds models by id; `ModelRegistry` is the real one. */
export interface ModelDirectory {
  readonly defaultId: string | undefined;
  list(): readonly ServedModel[];
  /** The model of that id; the default one when the id is absent. Throws RuntimeError NOT_FOUND naming the ids there are. */
  get(id?: string | null): ServedModel;
  find(id: string): ServedModel | undefined;
  /** Rejects with INVALID_MODEL, BAD_USER_INPUT (source), UNSUPPORTED_ARGUMENT (precision), NOT_FOUND (no such folder) or CONFLICT (id taken). */
  load(request: LoadModelRequest): Promise<ServedModel>;
  /** Waits for its running requests, then frees it. False when there is no such model. */
  unload(id: string): Promise<boolean>;
}

/** What a registry of models tells the adapters of them; `AdapterRegistry` is the real one. */
export interface ModelAdapters {
  /** The matrices that the adapters of a model change, as far as they are known before it is loaded. */
  targetsOf(modelId: string): LoraTargets;
  /** Before anyone can find the model. */
  modelLoaded(model: ServedModel): Promise<void>;
  /** When nobody can find it any more; what it runs goes on. */
  modelUnloaded(modelId: string): void;
}

export interface LoadModelRequest {
  readonly id: string;
  readonly source: string;
  readonly precision?: Precision;
  readonly makeDefault?: boolean;
}
