/**
 * From a PEFT folder to the factors that a model runs. It knows nothing of engines and graphs, and follows PEFT 0.21.2
 * (https://github.com/huggingface/peft) in what names, patterns and scales mean.
 */
import { createHash } from 'node:crypto';
import type { AdapterFacts } from '../../storage/adapter-facts.ts';
import { AdapterFolder } from '../../storage/adapter-folder.ts';
import type { SafetensorsFile } from '../../storage/safetensors.ts';
import { quoted } from '../../storage/storage-error.ts';
import { type LoraFactors, type LoraWeights, writeUnits } from '../lora/lora-weights.ts';
import { noteSharedMemory } from '../lora/shared-memory.ts';
import { HEAD_PATH } from '../models/linear-module.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { elementCount } from '../tensor.ts';
import { incompatibleAdapter, invalidAdapter, listed, withAdapterErrors } from './adapter-errors.ts';
import { type AdapterPlan, type PlannedFactors, planAdapter } from './adapter-plan.ts';
import { BaseWeights } from './base-weights.ts';
import { adaptedRowNorms } from './dora-gain.ts';
import { type LoraConfig, parseLoraConfig } from './lora-config.ts';
import { selectTargets, type TargetModule } from './target-modules.ts';

export interface LoadedAdapter {
  readonly facts: AdapterFacts;
  readonly weights: LoraWeights;
}

/** The model that an adapter is put on. */
export interface AdapterBase {
  readonly modelFolder: string;
  readonly config: ModelConfig;
  /** `dir:NAME` or `embedded:NAME`; without it, base_model_name_or_path is held against nothing. */
  readonly modelSource?: string;
}

export interface AdapterLimits {
  /** GISTQL_MAX_ADAPTER_RANK: most rows of an A. */
  readonly maxRank: number;
}

const FLOAT_BYTES = 4;
/** Names of a report that are longer are cut: nobody vouches for their length. */
const MAX_NAME_LENGTH = 300;

/** Reads an adapter's folder. Throws INVALID_ADAPTER or INCOMPATIBLE_ADAPTER; INVALID_MODEL where the base is broken. */
export function readAdapter(folder: string, base: AdapterBase, limits: AdapterLimits): Promise<LoadedAdapter> {
  return withAdapterErrors(async () => {
    const files = await AdapterFolder.open(folder);
    const baseWeights = new BaseWeights(base.modelFolder, base.config);
    try {
      const config = parseLoraConfig(files.config, base.config.family);
      const { modules, warnings } = selectTargets(config, base.config);
      const { vocabularySize, hiddenSize } = base.config;
      const { tensors } = files.weights;
      const headShape = [vocabularySize, hiddenSize];
      const plan = planAdapter({ config, modules, tensors, headShape, maxRank: limits.maxRank });
      const copyWarnings = await checkBaseCopies(files.weights, plan, baseWeights);
      const loaded = await new FactorReader(files.weights, plan, baseWeights).read();
      return {
        weights: loaded.weights,
        facts: {
          ...describe(config, loaded.weights),
          parameterCount: loaded.parameterCount,
          memoryBytes: loaded.memoryBytes,
          sizeBytes: files.weights.size,
          sha256: await files.weights.hash(),
          configSha256: createHash('sha256').update(JSON.stringify(files.config)).digest('hex'),
          report: {
            matchedTensors: plan.matchedTensors,
            unmatchedTensors: plan.unmatchedTensors.map(shortened),
            zeroTensors: loaded.zeroTensors,
            warnings: [
              ...config.warnings,
              ...warnings,
              ...plan.warnings,
              ...copyWarnings,
              ...baseWarnings(config, base),
            ],
          },
        },
      };
    } finally {
      await baseWeights.close();
      await files.close();
    }
  });
}

function describe(
  { method, rank, alpha, targets }: LoraConfig,
  { factors, head }: LoraWeights,
): Pick<AdapterFacts, 'method' | 'rank' | 'alpha' | 'targetModules' | 'modules'> {
  const targetModules =
    targets.type === 'names' ? targets.names : [targets.type === 'pattern' ? targets.pattern : targets.type];
  const modules = factors.map(({ module }) => module);
  return { method, rank, alpha, targetModules, modules: head === undefined ? modules : [...modules, HEAD_PATH] };
}

function shortened(name: string): string {
  return name.length > MAX_NAME_LENGTH ? `${name.slice(0, MAX_NAME_LENGTH)}…` : name;
}

/** Compares last parts: the same model is `google/flan-t5-small` on the hub, and here `dir:flan-t5-small` or `hub:…@COMMIT`. */
function baseWarnings({ baseModelName }: LoraConfig, { modelSource }: AdapterBase): readonly string[] {
  if (baseModelName === undefined || modelSource === undefined) return [];
  const last = (name: string): string | undefined =>
    name
      .replace(/[@#].*$/s, '')
      .toLowerCase()
      .split(/[/\\:]/)
      .filter(Boolean)
      .at(-1);
  if (last(baseModelName) === last(modelSource)) return [];
  return [
    `adapter_config.json: base_model_name_or_path is ${quoted(baseModelName)}, the model served is ${quoted(modelSource)}.`,
  ];
}

/**
 * PEFT also saves embeddings that it takes for resized or adapted, and puts them over the model's when it loads them.
 * Most such copies are the model's own; one that is not would make another model.
 */
async function checkBaseCopies(
  file: SafetensorsFile,
  { unmatchedTensors }: AdapterPlan,
  base: BaseWeights,
): Promise<readonly string[]> {
  const copies: string[] = [];
  for (const name of unmatchedTensors) {
    const tensor = base.tensorReplacedBy(name);
    if (tensor === undefined) continue;
    const values = await file.read(name);
    if (!(await base.holds(tensor, values, file.tensors.get(name)?.dtype ?? ''))) {
      incompatibleAdapter(
        `adapter_model.safetensors: expected no base weights but the model's own, ${quoted(name)} came with other values: it would replace ${tensor} of the model.`,
      );
    }
    copies.push(quoted(name));
  }
  if (copies.length === 0) return [];
  return [`adapter_model.safetensors: copies of the model's own weights were left aside: ${listed(copies)}.`];
}

/** Fills one block of shared memory with everything that an adapter holds. */
class FactorReader {
  private readonly memory: SharedArrayBuffer;
  private offset = 0;
  private parameterCount = 0;
  private readonly zeroTensors: string[] = [];

  constructor(
    private readonly file: SafetensorsFile,
    private readonly plan: AdapterPlan,
    private readonly base: BaseWeights,
  ) {
    this.memory = new SharedArrayBuffer(floatCount(file, plan) * FLOAT_BYTES);
    noteSharedMemory(this.memory.byteLength);
  }

  async read(): Promise<{
    readonly weights: LoraWeights;
    readonly parameterCount: number;
    readonly memoryBytes: number;
    readonly zeroTensors: readonly string[];
  }> {
    const factors: LoraFactors[] = [];
    for (const planned of this.plan.factors) factors.push(await this.factors(planned));
    let head: Float32Array | undefined;
    if (this.plan.head !== undefined) {
      const values = await this.tensor(this.plan.head);
      head = this.take(values.length);
      head.set(values);
    }
    const { parameterCount, memory, zeroTensors } = this;
    return {
      weights: { factors, head },
      parameterCount,
      memoryBytes: memory.byteLength,
      zeroTensors: zeroTensors.sort(),
    };
  }

  private take(length: number): Float32Array<SharedArrayBuffer> {
    const array = new Float32Array(this.memory, this.offset, length);
    this.offset += array.byteLength;
    return array;
  }

  private async tensor(name: string): Promise<Float32Array> {
    const values = await this.file.read(name);
    this.parameterCount += values.length;
    if (values.every((value) => value === 0)) this.zeroTensors.push(name);
    return values;
  }

  private async factors({ module, a: aName, b: bName, magnitude }: PlannedFactors): Promise<LoraFactors> {
    const { path, rank, inSize, outSize, scale } = module;
    const fileA = await this.tensor(aName); // [rank, in]
    const fileB = await this.tensor(bName); // [out, rank]
    const gains = magnitude === undefined ? undefined : await this.gains(module, magnitude, fileA, fileB);
    const a = this.take(rank * inSize);
    writeUnits(a, fileA, rank);
    const b = this.take(rank * outSize);
    for (let out = 0; out < outSize; out++) {
      const share = scale * (gains?.[out] ?? 1);
      for (let factor = 0; factor < rank; factor++) {
        b[factor * outSize + out] = share * (fileB[out * rank + factor] as number);
      }
    }
    checkFinite(b, `${quoted(bName)} times ${scale}, the scale of adapter_config.json`);
    return { module: path, rank, a, b, gainChange: gains && this.gainChange(gains) };
  }

  private gainChange(gains: Float64Array): Float32Array {
    const change = this.take(gains.length);
    for (const [out, gain] of gains.entries()) change[out] = gain - 1;
    return change;
  }

  private async gains(module: TargetModule, name: string, a: Float32Array, b: Float32Array): Promise<Float64Array> {
    const magnitude = await this.tensor(name);
    const weight = await this.base.readMatrix(module.path);
    const norms = adaptedRowNorms({ ...module, weight, a, b });
    const gains = norms.map((norm, out) => (magnitude[out] as number) / norm);
    checkFinite(Float32Array.from(gains), `${quoted(name)} over the lengths of the rows that it scales`);
    return gains;
  }
}

function floatCount({ tensors }: SafetensorsFile, { matchedTensors }: AdapterPlan): number {
  return matchedTensors.reduce((total, name) => total + elementCount(tensors.get(name)?.shape ?? [0]), 0);
}

function checkFinite(values: Float32Array, what: string): void {
  const odd = values.find((value) => !Number.isFinite(value));
  if (odd === undefined) return;
  invalidAdapter(`adapter_model.safetensors: expected finite numbers as ${what}, ${odd} came.`);
}
