/** From what the runtime knows to GraphQL's nouns and back. What refers back is looked up when it is selected. */
import type { Services } from '../context.ts';
import type { TextComparison as RuntimeTextComparison, Variant } from '../evaluation/comparison.ts';
import type { AdapterChange as RuntimeAdapterChange, ServedAdapter } from '../runtime/adapters/served-adapter.ts';
import type { ServedModel } from '../runtime/models/served-model.ts';
import type { Summary as RuntimeSummary } from '../runtime/summarization.ts';
import type { TextGeneration, TextGenerationEvent } from '../runtime/text-generation.ts';
import type { Adapter, AdapterChanged } from '../schema/adapter.type.ts';
import type { TextComparison, VariantInput } from '../schema/comparison.type.ts';
import type { Generation, GenerationFinished, TokensAppended } from '../schema/generation.type.ts';
import type { Model } from '../schema/model.type.ts';
import type { Summary } from '../schema/summary.type.ts';

type Directories = Pick<Services, 'models' | 'adapters'>;

export function toModel(model: ServedModel, directories: Directories): Model {
  const { id, source, config, parameterCount, precision, device, memoryBytes, loadedAt } = model;
  const { models, adapters } = directories;
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
    isDefault: id === models.defaultId,
    status: model.engine.status,
    get activeAdapter() {
      const active = adapters.activeOf(id);
      return active === undefined ? null : toAdapter(active, directories);
    },
    get adapters() {
      return adapters.list(id).map((adapter) => toAdapter(adapter, directories));
    },
  };
}

export function toAdapter(adapter: ServedAdapter, directories: Directories): Adapter {
  const { id, name, source, status, loadedAt, requestCount, completionTokenCount, facts, model } = adapter;
  const { method, rank, alpha, targetModules, parameterCount, sizeBytes, sha256, report } = facts;
  return {
    id,
    name,
    source,
    status,
    loadedAt,
    requestCount,
    completionTokenCount,
    method,
    rank,
    alpha,
    targetModules,
    parameterCount,
    sizeBytes,
    sha256,
    report,
    parameterShare: parameterCount / model.parameterCount,
    get model() {
      return toModel(model, directories);
    },
  };
}

export function toAdapterChanged(
  { change, model, adapter }: RuntimeAdapterChange,
  directories: Directories,
): AdapterChanged {
  return { change, model: toModel(model, directories), adapter: toAdapter(adapter, directories) };
}

export function toGeneration(generation: TextGeneration, directories: Directories): Generation {
  return {
    ...generation,
    model: toModel(generation.model, directories),
    adapters: generation.adapters.map((adapter) => toAdapter(adapter, directories)),
  };
}

export function toSummary(summary: RuntimeSummary, directories: Directories): Summary {
  return { ...summary, generation: toGeneration(summary.generation, directories) };
}

export function toTextComparison(comparison: RuntimeTextComparison, directories: Directories): TextComparison {
  const summaries = comparison.summaries.map(({ summary, ...compared }) => ({
    ...compared,
    summary: toSummary(summary, directories),
  }));
  return { text: comparison.text, reference: comparison.references[0] ?? null, summaries };
}

export function toEvent(event: TextGenerationEvent, directories: Directories): TokensAppended | GenerationFinished {
  if (event.type === 'tokens') return event;
  return { generationId: event.generationId, generation: toGeneration(event.generation, directories) };
}

export function toVariant({ label, model, adapters, template, shots, decoding }: VariantInput): Variant {
  return {
    label,
    modelId: model ?? null,
    adapters: adapters ?? null,
    templateId: template ?? null,
    shots: shots ?? null,
    decoding: decoding ?? null,
  };
}
