/** From variants as they are written to variants that can run: brings models, adapters and worked examples in. */
import type { Services } from '../context.ts';
import type { Variant } from '../evaluation/comparison.ts';
import type { AdapterChoice } from '../runtime/adapters/served-adapter.ts';
import type { LoadModelRequest, ServedModel } from '../runtime/models/served-model.ts';
import type { Shot } from '../runtime/summarization.ts';
import { isHubSource, parseHubSource } from '../storage/hub/hub-source.ts';
import { modelRequest } from './model-request.ts';
import type { AdapterSpec, VariantSpec } from './variant-spec.ts';

type LoaderServices = Pick<Services, 'models' | 'adapters' | 'datasets'>;

interface LoaderOptions {
  readonly services: LoaderServices;
  readonly defaultModel: LoadModelRequest;
  readonly onProgress: (line: string) => void;
}

const TRAINING_SPLIT = 'train';
const SOURCE = /^(?:dir|hub):/;
const LONGEST_ID = 128;

export class VariantLoader {
  /** Sources by ids of models, as they were asked for: a served model has the commit in its own. */
  private readonly modelSources = new Map<string, string>();
  /** Ids of the adapters that are there for the run alone. */
  private readonly adapterIds = new Set<string>();

  constructor(private readonly options: LoaderOptions) {}

  /** Loads each model once. */
  async loadModels(variants: readonly VariantSpec[]): Promise<void> {
    const { services, onProgress } = this.options;
    for (const variant of variants) {
      const request = this.modelOf(variant);
      const known = this.modelSources.get(request.id);
      if (known === request.source) continue;
      if (known !== undefined) {
        const message = `Expected models of different names, ${known} and ${request.source} came. Rename one folder.`;
        throw new Error(message);
      }
      onProgress(`Loads ${request.source}.`);
      await services.models.load(request);
      this.modelSources.set(request.id, request.source);
    }
  }

  /** Loads adapters and reads the worked examples. */
  async load(variants: readonly VariantSpec[], dataset: string, split: string): Promise<readonly Variant[]> {
    const { services } = this.options;
    const shots = await this.readShots(Math.max(...variants.map(({ shotCount }) => shotCount)), dataset, split);
    const loaded: Variant[] = [];
    for (const variant of variants) {
      const { label, adapters, template, shotCount, decoding } = variant;
      const model = services.models.get(this.modelOf(variant).id);
      loaded.push({
        label,
        modelId: model.id,
        adapters: adapters === undefined ? null : await this.loadAdapters(model, adapters),
        templateId: template ?? null,
        shots: shotCount === 0 ? null : shots.slice(0, shotCount),
        decoding,
      });
    }
    return loaded;
  }

  /** Takes the adapters of the run out of the registry. */
  async unloadAdapters(): Promise<void> {
    for (const id of this.adapterIds) await this.options.services.adapters.unload(id);
    this.adapterIds.clear();
  }

  private modelOf({ label, model }: VariantSpec): LoadModelRequest {
    return modelRequest(`Variant ${JSON.stringify(label)}: expected model`, model, this.options.defaultModel);
  }

  private async loadAdapters(model: ServedModel, specs: readonly AdapterSpec[]): Promise<readonly AdapterChoice[]> {
    const choices: AdapterChoice[] = [];
    for (const { name, weight } of specs) {
      const id = SOURCE.test(name) ? await this.loadAdapter(model, name) : name;
      choices.push({ id, weight });
    }
    return choices;
  }

  /** Under an id that a run which goes on in another process finds again. */
  private async loadAdapter(model: ServedModel, source: string): Promise<string> {
    const { services, onProgress } = this.options;
    const name = source.replace(SOURCE, '').replaceAll(/[^A-Za-z0-9._-]/g, '-');
    const id = `evaluation.${model.id}.${name}`.slice(0, LONGEST_ID);
    const known = services.adapters.find(id);
    if (known !== undefined && isSameRepo(known.source, source)) onProgress(`Uses adapter ${known.source}.`);
    else if (known?.source !== source) {
      onProgress(`Loads adapter ${source} for ${model.id}.`);
      await services.adapters.load({ id, modelId: model.id, source });
    }
    this.adapterIds.add(id);
    return id;
  }

  /** The first samples of the training split, with their first reference. */
  private async readShots(count: number, dataset: string, split: string): Promise<readonly Shot[]> {
    if (count === 0) return [];
    if (split === TRAINING_SPLIT) {
      const message = `Expected shots=0 on split ${TRAINING_SPLIT}: worked examples are taken from it, and would be known before they are asked for.`;
      throw new Error(message);
    }
    const choice = { dataset, split: TRAINING_SPLIT, limit: count, sampleSeed: null, references: [0] };
    const shots: Shot[] = [];
    for await (const { text, references } of (await this.options.services.datasets.open(choice)).samples()) {
      shots.push({ dialogue: text, summary: references[0] ?? '' });
    }
    if (shots.length === count) return shots;
    throw new Error(`Expected ${dataset} to have ${count} samples in split ${TRAINING_SPLIT}, it has ${shots.length}.`);
  }
}

/** The id of an adapter of the hub has its revision in it, its source the commit that this was at. */
function isSameRepo(known: string, asked: string): boolean {
  if (!isHubSource(known) || !isHubSource(asked)) return false;
  return parseHubSource(known).repo === parseHubSource(asked).repo;
}
