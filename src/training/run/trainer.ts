/** A training from its plan to what comes out, in the process that runs it. */
import { DatasetDirectory } from '../../runtime/datasets/dataset-directory.ts';
import type { DatasetSelection } from '../../runtime/datasets/dataset-selection.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import { findTemplate, framePrompt } from '../../runtime/prompts/templates.ts';
import { HuggingFaceTokenizer } from '../../runtime/tokenizer/hugging-face-tokenizer.ts';
import { usableMemory } from '../../runtime/usable-memory.ts';
import { digestModelFolder } from '../../storage/model-digest.ts';
import { TrainingGraph, type TrainingGraphOptions } from '../graph/training-graph.ts';
import { AdamW } from '../optimizer/adamw.ts';
import { WeightUpdater } from '../optimizer/weight-update.ts';
import { BatchPlan, type Step } from '../samples/batch-plan.ts';
import { TrainingSamples } from '../samples/training-samples.ts';
import { isRecomputed, lossChunks } from './activation-memory.ts';
import { type CheckpointState, Checkpoints } from './checkpoints.ts';
import { dropoutMasks } from './dropout.ts';
import { planFingerprint } from './fingerprint.ts';
import { openTrainedModel, type TrainedModel } from './trained-model.ts';
import type { TrainerPlaces, TrainingPlan, TrainingProgress } from './trainer-protocol.ts';
import { isWritten, writeOutput } from './training-output.ts';
import { Validation } from './validation.ts';

export interface TrainerHooks {
  /** Takes an event; resolves at once, or when fewer are waiting to be stored. */
  report(event: TrainingProgress): Promise<void>;
  /** Resolves when all that was reported is stored. */
  stored(): Promise<void>;
  /** Once aborted, the run leaves off after a step. */
  readonly stopping: AbortSignal;
}

const CHECKPOINT_MS = 30_000;
/** Steps take so many times as long as writing checkpoints, at least. */
const CHECKPOINT_SHARE = 10;

/**
 * Trains, or goes on from the last checkpoint, and writes the output folder. Returns `stopped` when it left off: its
 * checkpoint is written then. Throws RuntimeError when the plan cannot be carried out.
 */
export async function train(
  plan: TrainingPlan,
  places: TrainerPlaces,
  hooks: TrainerHooks,
): Promise<'finished' | 'stopped'> {
  const fingerprint = planFingerprint(plan);
  if (await isWritten(places.output, plan, fingerprint)) return 'finished';
  const model = await openTrainedModel(plan, places);
  const data = await readData(plan, places, model);
  const run = await TrainingRun.open({ plan, places, hooks, model, data });
  try {
    if (!(await run.steps())) return 'stopped';
    await run.takeBest();
  } finally {
    await run.close();
  }
  await writeOutput(places.output, model, plan, fingerprint);
  return 'finished';
}

interface TrainingData {
  readonly training: TrainingSamples;
  readonly validation: TrainingSamples | undefined;
  /** Of the files that the samples come from. */
  readonly digests: readonly string[];
}

async function readData(plan: TrainingPlan, places: TrainerPlaces, model: TrainedModel): Promise<TrainingData> {
  const { dataset, split, limit, validation, templateId, maxSourceTokens, maxTargetTokens } = plan.data;
  const directory = new DatasetDirectory(places.datasets);
  const open = (name: string, most: number | null): Promise<DatasetSelection> =>
    directory.open({ dataset, split: name, limit: most, sampleSeed: null, references: [0] });
  const reading = {
    config: model.config,
    tokenizer: await HuggingFaceTokenizer.parse(model.files.tokenizerJson, model.files.specialTokens),
    frame: framePrompt(findTemplate(templateId), [], model.files.chat),
    maxSourceTokens: Math.min(maxSourceTokens, places.maxInputTokens),
    maxTargetTokens,
  };
  const selection = await open(split, limit);
  const validationSelection = validation === null ? undefined : await open(validation.split, validation.limit);
  return {
    training: await TrainingSamples.read(selection, reading),
    validation: validationSelection && (await TrainingSamples.read(validationSelection, reading)),
    digests: [selection.sha256, validationSelection?.sha256 ?? ''],
  };
}

interface RunParts {
  readonly plan: TrainingPlan;
  readonly places: TrainerPlaces;
  readonly hooks: TrainerHooks;
  readonly model: TrainedModel;
  readonly data: TrainingData;
}

class TrainingRun {
  private savedAt = performance.now();
  /** How long the last checkpoint took. */
  private savingMs = 0;

  private constructor(
    private readonly parts: RunParts,
    private readonly graph: TrainingGraph,
    private readonly updater: WeightUpdater,
    private readonly validation: Validation | undefined,
    private readonly checkpoints: Checkpoints,
    private readonly batches: BatchPlan,
    private readonly stepsTotal: number,
    private state: CheckpointState,
  ) {}

  static async open(parts: RunParts): Promise<TrainingRun> {
    const { plan, places, model, data } = parts;
    const { optimization, evaluateEverySteps } = plan;
    const batches = new BatchPlan(data.training, optimization);
    const stepsTotal = optimization.maxSteps ?? Math.ceil(optimization.epochs * batches.stepsPerEpoch);
    const options = graphOptions(parts);
    const graph = await TrainingGraph.create(options);
    const adamw = new AdamW(model.trained, { ...optimization, threadCount: plan.threadCount });
    const updater = new WeightUpdater(graph, adamw, { ...optimization, stepsTotal });
    const validation =
      data.validation && (await Validation.create(data.validation, options, { evaluateEverySteps, stepsTotal }));
    const origin = [await digestModelFolder(model.files.folder), ...data.digests, planFingerprint(plan)].join(' ');
    const arrays = { trained: model.trained, shapes: model.shapes, moments: adamw.moments };
    const checkpoints = await Checkpoints.open(places.checkpoints, origin, arrays);
    const state = (await checkpoints.restore()) ?? { step: 0, validated: 0, best: undefined };
    const run = new TrainingRun(parts, graph, updater, validation, checkpoints, batches, stepsTotal, state);
    await run.reportPrepared();
    return run;
  }

  /** Returns whether all steps are done; false: it was told to leave off. */
  async steps(): Promise<boolean> {
    const { hooks } = this.parts;
    for (;;) {
      if (hooks.stopping.aborted) {
        await this.save();
        return false;
      }
      if (this.validation?.isDue(this.state.step) && this.state.validated < this.state.step) {
        await this.validate(this.validation);
      } else if (this.state.step < this.stepsTotal) {
        await this.step();
      } else {
        await hooks.stored();
        return true;
      }
      if (this.isCheckpointDue()) await this.save();
    }
  }

  /** Puts the weights that were best on the validation samples into the arrays. */
  async takeBest(): Promise<void> {
    const { best } = this.state;
    if (best !== undefined && best.step < this.stepsTotal) await this.checkpoints.restoreBest();
  }

  async close(): Promise<void> {
    await this.graph.dispose();
    await this.updater.dispose();
    await this.validation?.close();
  }

  private async step(): Promise<void> {
    const { hooks, data } = this.parts;
    const { step } = this.state;
    const chosen = this.batches.step(step);
    const start = performance.now();
    const examples = chosen.map((samples) => data.training.examples(samples));
    const { loss, gradientNorm, learningRate } = await this.updater.step(examples, step, this.masksOf(step));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) throw this.notFinite(chosen, loss, gradientNorm);
    this.state = { ...this.state, step: step + 1 };
    const tokens = chosen.reduce((sum, samples) => sum + data.training.tokens(samples), 0);
    await hooks.report({
      type: 'step',
      step: step + 1,
      epoch: (step + 1) / this.batches.stepsPerEpoch,
      loss,
      learningRate,
      gradientNorm,
      tokensPerSecond: (tokens * 1000) / Math.max(performance.now() - start, Number.EPSILON),
    });
  }

  private masksOf(step: number) {
    const { plan, model } = this.parts;
    const { lora, optimization } = plan;
    if (lora === null || lora.dropout === 0) return undefined;
    const { seed, gradientAccumulation } = optimization;
    return (index: number) =>
      dropoutMasks(model.adapted, { seed, dropout: lora.dropout, batch: step * gradientAccumulation + index });
  }

  private async validate(validation: Validation): Promise<void> {
    const { step, best } = this.state;
    const loss = await validation.loss(this.parts.hooks.stopping);
    if (loss === undefined) return;
    await this.parts.hooks.report({ type: 'validation', step, validationLoss: loss });
    const isBest = best === undefined || loss < best.loss;
    if (isBest) await this.checkpoints.saveBest({ step, loss });
    this.state = { step, validated: step, best: isBest ? { step, loss } : best };
  }

  private isCheckpointDue(): boolean {
    const { checkpointMs = CHECKPOINT_MS } = this.parts.places;
    return performance.now() - this.savedAt >= Math.max(checkpointMs, CHECKPOINT_SHARE * this.savingMs);
  }

  /** Events first: after a restart none of a step before the checkpoint comes again. */
  private async save(): Promise<void> {
    await this.parts.hooks.stored();
    const start = performance.now();
    await this.checkpoints.save(this.state);
    this.savedAt = performance.now();
    this.savingMs = this.savedAt - start;
  }

  private async reportPrepared(): Promise<void> {
    const { hooks, model, data, plan } = this.parts;
    const { maxSourceTokens, maxTargetTokens } = plan.data;
    const cut = (count: number, what: string, most: number): readonly string[] =>
      count === 0 ? [] : [`${count} of ${data.training.count} ${what} are cut to ${most} tokens.`];
    await hooks.report({
      type: 'prepared',
      stepsTotal: this.stepsTotal,
      trainableParameters: model.trainableParameters,
      totalParameters: model.totalParameters,
      step: this.state.step,
      warnings: [
        ...cut(data.training.cutSources, 'texts', maxSourceTokens),
        ...cut(data.training.cutTargets, 'summaries', maxTargetTokens),
      ],
    });
  }

  private notFinite(chosen: Step, loss: number, gradientNorm: number): RuntimeError {
    const { training } = this.parts.data;
    const ids = chosen.flatMap((samples) => Array.from(samples, (sample) => training.id(sample)));
    const came = Number.isFinite(loss) ? `a gradient of norm ${gradientNorm}` : `a loss of ${loss}`;
    const message = `Expected a finite loss and gradient, step ${this.state.step + 1} gave ${came} on samples ${ids.join(', ')}. Choose a lower learning rate or clip gradients (maxGradNorm), or mend these samples.`;
    return new RuntimeError('BAD_USER_INPUT', message, { argument: 'learningRate' });
  }
}

function graphOptions({ plan, model, data }: RunParts): TrainingGraphOptions {
  const { config, tensors, method } = model;
  const { training, validation } = data;
  const all = validation === undefined ? [training] : [training, validation];
  const largest = {
    count: plan.optimization.batchSize,
    inputLength: Math.max(...all.map(({ longestInput }) => longestInput)),
    targetLength: Math.max(...all.map(({ longestTarget }) => longestTarget)),
  };
  return {
    config,
    tensors,
    method,
    threadCount: plan.threadCount,
    labelSmoothing: plan.optimization.labelSmoothing,
    lossChunks: lossChunks(config, largest),
    // of the machine, not of what is free just now: recomputed values may differ in their last bits
    recompute: isRecomputed(config, largest, usableMemory()),
  };
}
