/**
 * One text summarized by several variants in one call, each scored against a reference where there is one. It holds
 * together what is asked: all variants are prepared before the first one runs, all are handed over in one tick (those
 * of one model meet in one batch, a variant whose adapters have to be brought into memory joins it late), and the
 * first that fails ends the others.
 */
import { setMaxListeners } from 'node:events';
import { RuntimeError } from '../runtime/errors.ts';
import type { Summarizer, Summary, SummaryRequest } from '../runtime/summarization.ts';
import type { CallOptions, Prepared } from '../runtime/text-generation.ts';
import type { RougeScorer, RougeScores } from './rouge.ts';

/** What differs between the summaries of one text. */
export interface Variant extends Omit<SummaryRequest, 'text' | 'onOverflow' | 'logprobs'> {
  readonly label: string;
}

export interface ComparisonRequest {
  readonly text: string;
  /** Null: nothing is scored. */
  readonly reference: string | null;
  readonly variants: readonly Variant[];
  /** As in SummaryRequest. */
  readonly logprobs?: boolean;
}

interface ComparedSummary {
  readonly label: string;
  readonly summary: Summary;
  /** Null without a reference, or when the caller left. */
  readonly rouge: RougeScores | null;
}

export interface TextComparison {
  readonly text: string;
  readonly reference: string | null;
  /** In the order of the variants. */
  readonly summaries: readonly ComparedSummary[];
}

interface ComparisonParts {
  readonly summarizer: Summarizer;
  readonly rouge: RougeScorer;
}

interface PreparedVariant {
  readonly label: string;
  readonly prepared: Prepared<Summary>;
}

/** As many rows as run at once by default. */
const MAX_VARIANTS = 32;
const MAX_LABEL_LENGTH = 100;

/** Refuses with the error of the first variant that is refused, naming it; then nothing is kept. */
export async function prepareComparison(
  parts: ComparisonParts,
  request: ComparisonRequest,
): Promise<Prepared<TextComparison>> {
  checkVariants(request.variants);
  const variants = await prepareAll(parts.summarizer, request);
  return {
    run: (options = {}) => runAll(parts.rouge, request, variants, options),
    discard: () => discardAll(variants),
  };
}

function checkVariants(variants: readonly Variant[]): void {
  if (variants.length === 0 || variants.length > MAX_VARIANTS) {
    const message = `Expected 1 to ${MAX_VARIANTS} variants, ${variants.length || 'none'} came. Give at least one, or compare in several calls.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'variants' });
  }
  const seen = new Set<string>();
  for (const { label } of variants) {
    if (label.trim() === '' || label.length > MAX_LABEL_LENGTH) {
      const came = label.trim() === '' ? 'a blank one' : `one of ${label.length}`;
      throw wrongLabel(
        `Expected each label to have 1 to ${MAX_LABEL_LENGTH} characters, ${came} came. Name each variant.`,
      );
    }
    if (seen.has(label)) {
      throw wrongLabel(`Expected each variant to have a label of its own, ${JSON.stringify(label)} came twice.`);
    }
    seen.add(label);
  }
}

function wrongLabel(message: string): RuntimeError {
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'label' });
}

async function prepareAll(
  summarizer: Summarizer,
  { text, variants, logprobs }: ComparisonRequest,
): Promise<readonly PreparedVariant[]> {
  const common = { text, onOverflow: 'truncate' as const, ...(logprobs === undefined ? {} : { logprobs }) };
  const settled = await Promise.allSettled(
    variants.map(async ({ label, ...variant }): Promise<PreparedVariant> => {
      try {
        return { label, prepared: await summarizer.prepare({ ...variant, ...common }) };
      } catch (error) {
        throw labelled(label, error);
      }
    }),
  );
  const prepared = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const refused = settled.find((one) => one.status === 'rejected');
  if (refused === undefined) return prepared;
  discardAll(prepared);
  throw refused.reason;
}

function discardAll(variants: readonly PreparedVariant[]): void {
  for (const { prepared } of variants) prepared.discard();
}

/** Resolves or rejects when nothing of it runs any more. */
async function runAll(
  scorer: RougeScorer,
  { text, reference }: ComparisonRequest,
  variants: readonly PreparedVariant[],
  options: CallOptions,
): Promise<TextComparison> {
  const failing = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failing.signal]) : failing.signal;
  // every variant listens to it: that many are no leak
  setMaxListeners(0, signal);
  const settled = await Promise.allSettled(
    variants.map(async ({ label, prepared }): Promise<ComparedSummary> => {
      try {
        const summary = await prepared.run({ signal });
        const scored = reference !== null && !signal.aborted;
        return { label, summary, rouge: scored ? await score(scorer, summary.text, reference) : null };
      } catch (error) {
        failing.abort(labelled(label, error));
        throw error;
      }
    }),
  );
  // the first that failed, by time
  failing.signal.throwIfAborted();
  return { text, reference, summaries: settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])) };
}

async function score(scorer: RougeScorer, prediction: string, reference: string): Promise<RougeScores> {
  try {
    return await scorer.scoreInTurns({ prediction, references: [reference] });
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    throw new RuntimeError(error.code, error.message, { argument: 'reference' }, { cause: error });
  }
}

/** The same error, saying whose it is. What is no RuntimeError is a fault of ours, and nobody's in particular. */
function labelled(label: string, error: unknown): unknown {
  if (!(error instanceof RuntimeError)) return error;
  const message = `Variant ${JSON.stringify(label)}: ${error.message}`;
  return new RuntimeError(error.code, message, error.details, { cause: error });
}
