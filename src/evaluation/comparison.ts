/**
 * One text summarized by several variants in one call, each scored against a reference where there is one. It holds
 * together what is asked: all variants are prepared before the first one runs, all are handed over in one tick (those
 * of one model meet in one batch, a variant whose adapters have to be brought into memory joins it late), and the
 * first that fails ends the others.
 */
import { setMaxListeners } from 'node:events';
import { DEFAULT_MAX_NEW_TOKENS } from '../runtime/decoding/parse-sampling-params.ts';
import { type ErrorDetails, RuntimeError } from '../runtime/errors.ts';
import type { ModelDirectory } from '../runtime/models/served-model.ts';
import type { Summarizer, Summary, SummaryRequest } from '../runtime/summarization.ts';
import type { CallOptions, Prepared } from '../runtime/text-generation.ts';
import type { RougeScorer, RougeScores } from './rouge/rouge.ts';

/** What differs between the summaries of one text. */
export interface Variant extends Omit<SummaryRequest, 'text' | 'onOverflow' | 'logprobs'> {
  readonly label: string;
}

export interface ComparisonRequest {
  readonly text: string;
  /** The best counts, for each metric; none: nothing is scored. */
  readonly references: readonly string[];
  /** Default: true. */
  readonly useStemmer?: boolean;
  readonly variants: readonly Variant[];
  /** As in SummaryRequest. */
  readonly logprobs?: boolean;
  /** What becomes of texts that are too long to be scored: an error, or 0 and a warning. Default: refuse. */
  readonly onTooLong?: 'refuse' | 'warn';
}

interface ComparedSummary {
  readonly label: string;
  readonly summary: Summary;
  /** Null without references, or when the caller left. */
  readonly rouge: RougeScores | null;
}

export interface TextComparison {
  readonly text: string;
  readonly references: readonly string[];
  /** In the order of the variants. */
  readonly summaries: readonly ComparedSummary[];
}

interface ComparisonParts {
  readonly summarizer: Summarizer;
  readonly models: ModelDirectory;
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
  try {
    if (request.onTooLong !== 'warn') await checkReference(parts, request);
  } catch (error) {
    discardAll(variants);
    throw error;
  }
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
      throw wrongLabel(
        `Expected each variant to have a label of its own, ${JSON.stringify(label)} came twice. Rename one of them.`,
        { variant: label },
      );
    }
    seen.add(label);
  }
}

function wrongLabel(message: string, details: ErrorDetails = {}): RuntimeError {
  return new RuntimeError('BAD_USER_INPUT', message, { argument: 'label', ...details });
}

/** Refuses a reference that is too long for the longest summary asked for, taking a new token for a word. */
async function checkReference(
  { models, rouge }: ComparisonParts,
  { references, variants }: ComparisonRequest,
): Promise<void> {
  await ofReference(() => rouge.checkReferences(references, mostNewTokens(models, variants), 1));
}

/** Tokens of the longest summary that variants may write. */
export function mostNewTokens(models: ModelDirectory, variants: readonly Variant[]): number {
  const counts = variants.map(
    ({ modelId, decoding }) =>
      decoding?.maxNewTokens ?? models.get(modelId).generationDefaults.maxNewTokens ?? DEFAULT_MAX_NEW_TOKENS,
  );
  return Math.max(...counts);
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
  request: ComparisonRequest,
  variants: readonly PreparedVariant[],
  options: CallOptions,
): Promise<TextComparison> {
  const { text, references } = request;
  const failing = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failing.signal]) : failing.signal;
  // every variant listens to it: that many are no leak
  setMaxListeners(0, signal);
  const settled = await Promise.allSettled(
    variants.map(async ({ label, prepared }): Promise<ComparedSummary> => {
      try {
        const summary = await prepared.run({ ...options, signal });
        const scored = references.length > 0 && !signal.aborted;
        return { label, summary, rouge: scored ? await score(scorer, summary.text, request) : null };
      } catch (error) {
        failing.abort(labelled(label, error));
        throw error;
      }
    }),
  );
  // the first that failed, by time
  failing.signal.throwIfAborted();
  return { text, references, summaries: settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])) };
}

function score(
  scorer: RougeScorer,
  prediction: string,
  { references, useStemmer = true, onTooLong }: ComparisonRequest,
): Promise<RougeScores> {
  const request = { prediction, references, useStemmer };
  return onTooLong === 'warn' ? scorer.scoreOrWarn(request) : ofReference(() => scorer.scoreInTurns(request));
}

/** What ROUGE refuses is the reference's fault, under the name that it has here. */
async function ofReference<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    throw new RuntimeError(error.code, error.message, { argument: 'reference' }, { cause: error });
  }
}

/** The same error, saying whose it is. What is no RuntimeError is a fault of ours, and nobody's in particular. */
function labelled(label: string, error: unknown): unknown {
  if (!(error instanceof RuntimeError)) return error;
  const message = `Variant ${JSON.stringify(label)}: ${error.message}`;
  return new RuntimeError(error.code, message, { ...error.details, variant: label }, { cause: error });
}
