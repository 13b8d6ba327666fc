/** Runs and samples of no meaning, each different, for tests of what keeps them. */
import type { NewSample, StoredOutput } from '../../src/storage/evaluation-rows.ts';
import type { EvaluationStore, NewEvaluation } from '../../src/storage/evaluation-store.ts';

export const noQueue = async (): Promise<void> => {};

export function newEvaluation(changes: Partial<NewEvaluation> = {}): NewEvaluation {
  return {
    asked: { dataset: 'everyday' },
    request: { dataset: 'everyday', variants: [{ label: 'base' }] },
    signature: 'everyday test rouge-1 stemmed',
    dataset: 'everyday',
    split: 'test',
    fingerprint: 'ab12',
    samplesTotal: 10,
    ...changes,
  };
}

function outputOf(label: string, seed: number): StoredOutput {
  const score = (number: number) => ({ precision: number / 7, recall: number / 3, fmeasure: number / 11 });
  return {
    label,
    summary: `A summary of ${seed} by ${label}.`,
    completionTokens: Math.ceil(seed) + 1,
    latencyMs: seed / 3,
    truncated: seed > 5,
    warnings: [],
    rouge: { rouge1: score(seed), rouge2: score(seed + 1), rougeL: score(seed + 2), rougeLsum: score(seed + 3) },
  };
}

export function newSample(index: number, changes: Partial<NewSample> = {}): NewSample {
  return {
    index,
    sampleId: `sample-${index}`,
    text: `Anna: number ${index}?\nBen: yes.`,
    references: [`Anna asks for ${index}.`, `Ben says yes to ${index}.`],
    outputs: [outputOf('base', index), outputOf('tuned', index + 0.1)],
    ...changes,
  };
}

/** Makes a run and begins it. */
export async function startRun(store: EvaluationStore, changes: Partial<NewEvaluation> = {}): Promise<string> {
  const { run: evaluation } = await store.create(newEvaluation(changes), noQueue);
  await store.begin(evaluation.id);
  return evaluation.id;
}
