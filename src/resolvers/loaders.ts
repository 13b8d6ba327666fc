/** Hands all generations of a tick over together: the aliases of one document then meet in one batch. */
import DataLoader from 'dataloader';
import type { Summarizer, Summary, SummaryRequest } from '../runtime/summarization.ts';
import type { TextGeneration, TextGenerator, TextRequest } from '../runtime/text-generation.ts';

export interface Loaders {
  readonly generations: DataLoader<TextRequest, TextGeneration>;
  readonly summaries: DataLoader<SummaryRequest, Summary>;
}

interface LoaderServices {
  readonly generator: TextGenerator;
  readonly summarizer: Summarizer;
}

/** New for each request. Nothing is cached: two equal aliases are two generations. */
export function createLoaders({ generator, summarizer }: LoaderServices, signal: AbortSignal): Loaders {
  const each = <Asked, Answer>(answer: (asked: Asked) => Promise<Answer>): DataLoader<Asked, Answer> =>
    new DataLoader((all) => Promise.all(all.map((asked) => answer(asked).catch((error: unknown) => toError(error)))), {
      cache: false,
    });
  return {
    generations: each((request) => generator.generate(request, { signal })),
    summaries: each((request) => summarizer.summarize(request, { signal })),
  };
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
