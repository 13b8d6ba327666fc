/** The samples of a run that scores the texts of another one again: nothing is generated. */
import type { NewSample, StoredEvaluation, StoredOutput, StoredSample } from '../../storage/evaluation-rows.ts';
import type { EvaluationStore } from '../../storage/evaluation-store.ts';
import type { RougeScorer } from '../rouge/rouge.ts';
import type { EvaluationPlan } from './evaluation-plan.ts';
import type { SampleSink } from './run-generation.ts';

interface RescoringParts {
  readonly store: EvaluationStore;
  readonly rouge: RougeScorer;
}

/** Texts that are read at a time. */
const PAGE_SAMPLES = 50;

/** Scores the samples that the run does not have yet, until `signal`. `from`: the id of the other run. */
export async function rescoreAll(
  { store, rouge }: RescoringParts,
  evaluation: StoredEvaluation,
  from: string,
  { add, signal }: SampleSink,
): Promise<void> {
  const plan = evaluation.request as EvaluationPlan;
  const source = await store.get(from);
  const scored = (source?.request as EvaluationPlan | undefined)?.references ?? null;
  const places = referencePlaces(scored, plan.references);
  const done = await store.doneIndexes(evaluation.id);
  for (let after = -1; ; ) {
    const page = await store.samples(from, PAGE_SAMPLES, after);
    for (const sample of page) {
      if (signal.aborted) return;
      if (!done.has(sample.index)) await add(await rescored(rouge, sample, plan, places));
      after = sample.index;
    }
    if (page.length < PAGE_SAMPLES) return;
  }
}

async function rescored(
  rouge: RougeScorer,
  sample: StoredSample,
  { useStemmer }: EvaluationPlan,
  places: readonly number[] | undefined,
): Promise<NewSample> {
  const references = places?.map((place) => sample.references[place] ?? '') ?? sample.references;
  const outputs: StoredOutput[] = [];
  for (const output of sample.outputs) {
    const request = { prediction: output.summary, references, useStemmer };
    const { warnings, ...scores } = await rouge.scoreOrWarn(request);
    outputs.push({ ...output, rouge: scores, warnings });
  }
  return { ...sample, references, outputs };
}

/** Where the references `wanted` lie among those that a run was scored against; undefined: all of them are wanted. */
export function referencePlaces(
  scored: readonly number[] | null,
  wanted: readonly number[] | null,
): readonly number[] | undefined {
  return wanted === null ? undefined : wanted.map((index) => (scored === null ? index : scored.indexOf(index)));
}
