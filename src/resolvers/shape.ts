/** From what the runtime knows to GraphQL's nouns. */

import { RuntimeError } from '../runtime/errors.ts';
import type { ServedModel } from '../runtime/models/served-model.ts';
import type { Summary as RuntimeSummary } from '../runtime/summarization.ts';
import type { TextGeneration, TextGenerationEvent } from '../runtime/text-generation.ts';
import type { AdapterChoiceInput } from '../schema/adapter.type.ts';
import type { Generation, GenerationFinished, TokensAppended } from '../schema/generation.type.ts';
import type { Model } from '../schema/model.type.ts';
import type { Summary } from '../schema/summary.type.ts';

export function toModel(model: ServedModel, defaultId: string | undefined): Model {
  const { id, source, config, parameterCount, precision, device, memoryBytes, loadedAt } = model;
  return {
    id,
    source,
    parameterCount,
    precision,
    device,
    memoryBytes,
    loadedAt,
    family: config.family,
    architecture: config.architecture,
    vocabularySize: config.vocabularySize,
    hiddenSize: config.hiddenSize,
    maxInputTokens: config.maxInputTokens,
    isDefault: id === defaultId,
    status: model.engine.status,
    activeAdapter: null,
    adapters: [],
  };
}

export function toGeneration(generation: TextGeneration, defaultId: string | undefined): Generation {
  return { ...generation, model: toModel(generation.model, defaultId), adapters: [] };
}

export function toSummary(summary: RuntimeSummary, defaultId: string | undefined): Summary {
  return { ...summary, generation: toGeneration(summary.generation, defaultId) };
}

export function toEvent(
  event: TextGenerationEvent,
  defaultId: string | undefined,
): TokensAppended | GenerationFinished {
  if (event.type === 'tokens') return event;
  return { generationId: event.generationId, generation: toGeneration(event.generation, defaultId) };
}

/** No adapter is in service: naming one is an error, an empty list is what there is anyway. */
export function checkAdapters(adapters: readonly AdapterChoiceInput[] | null | undefined): void {
  const [first] = adapters ?? [];
  if (first === undefined) return;
  const message = `Expected the id of a loaded adapter (none), ${JSON.stringify(first.id)} came.`;
  throw new RuntimeError('NOT_FOUND', message, { argument: 'adapters' });
}
