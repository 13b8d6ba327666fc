import { Arg, Ctx, Mutation, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../context.ts';
import type { SummaryRequest } from '../runtime/summarization.ts';
import type { TextGenerationEvent, TextRequest } from '../runtime/text-generation.ts';
import { GenerateInput } from '../schema/generation.input.ts';
import {
  Generation,
  GenerationEvent,
  type GenerationFinished,
  type TokensAppended,
} from '../schema/generation.type.ts';
import { SummarizeInput, Summary } from '../schema/summary.type.ts';
import { abortable } from './abortable.ts';
import { checkAdapters, toEvent, toGeneration, toSummary } from './shape.ts';

function toTextRequest({ prompt, model, decoding, adapters, onOverflow }: GenerateInput): TextRequest {
  checkAdapters(adapters);
  return { prompt, modelId: model ?? null, decoding: decoding ?? null, onOverflow: onOverflow ?? 'error' };
}

function toSummaryRequest(input: SummarizeInput): SummaryRequest {
  const { text, model, template, shots, decoding, adapters, onOverflow } = input;
  checkAdapters(adapters);
  return {
    text,
    modelId: model ?? null,
    templateId: template ?? null,
    shots: shots ?? null,
    decoding: decoding ?? null,
    onOverflow: onOverflow ?? 'truncate',
  };
}

interface StreamSource {
  readonly args: { readonly input: unknown };
  readonly context: Context;
}

@Resolver()
export class GenerationResolver {
  @Mutation(() => Generation)
  async generate(
    @Arg('input', () => GenerateInput) input: GenerateInput,
    @Ctx() context: Context,
  ): Promise<Generation> {
    const request = toTextRequest(input);
    const generation = await context.generations.load(() => context.services.generator.prepare(request));
    return toGeneration(generation, context.services.models.defaultId);
  }

  @Mutation(() => Summary)
  async summarize(
    @Arg('input', () => SummarizeInput) input: SummarizeInput,
    @Ctx() context: Context,
  ): Promise<Summary> {
    const request = toSummaryRequest(input);
    const summary = await context.generations.load(() => context.services.summarizer.prepare(request));
    return toSummary(summary, context.services.models.defaultId);
  }

  @Subscription(() => GenerationEvent, {
    subscribe: ({ args, context }: StreamSource) =>
      abortable(context.signal, (signal) =>
        context.services.generator.stream(toTextRequest(args.input as GenerateInput), { signal }),
      ),
  })
  generationStream(
    @Root() event: TextGenerationEvent,
    @Arg('input', () => GenerateInput) _input: GenerateInput,
    @Ctx() context: Context,
  ): TokensAppended | GenerationFinished {
    return toEvent(event, context.services.models.defaultId);
  }

  @Subscription(() => GenerationEvent, {
    subscribe: ({ args, context }: StreamSource) =>
      abortable(context.signal, (signal) =>
        context.services.summarizer.stream(toSummaryRequest(args.input as SummarizeInput), { signal }),
      ),
  })
  summaryStream(
    @Root() event: TextGenerationEvent,
    @Arg('input', () => SummarizeInput) _input: SummarizeInput,
    @Ctx() context: Context,
  ): TokensAppended | GenerationFinished {
    return toEvent(event, context.services.models.defaultId);
  }
}
