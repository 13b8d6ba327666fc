import type { GraphQLResolveInfo } from 'graphql';
import { Arg, Ctx, Info, Mutation, Resolver, Root, Subscription } from 'type-graphql';
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
import { asksFor, LOGPROB_FIELDS } from './asks-for.ts';
import { toEvent, toGeneration, toSummary } from './shape.ts';

function toTextRequest(input: GenerateInput, info: GraphQLResolveInfo): TextRequest {
  const { prompt, model, decoding, adapters, onOverflow } = input;
  return {
    prompt,
    modelId: model ?? null,
    adapters: adapters ?? null,
    decoding: decoding ?? null,
    onOverflow: onOverflow ?? 'error',
    logprobs: asksFor(info, LOGPROB_FIELDS),
  };
}

function toSummaryRequest(input: SummarizeInput, info: GraphQLResolveInfo): SummaryRequest {
  const { text, model, template, shots, decoding, adapters, onOverflow } = input;
  return {
    text,
    modelId: model ?? null,
    adapters: adapters ?? null,
    templateId: template ?? null,
    shots: shots ?? null,
    decoding: decoding ?? null,
    onOverflow: onOverflow ?? 'truncate',
    logprobs: asksFor(info, LOGPROB_FIELDS),
  };
}

interface StreamSource {
  readonly args: { readonly input: unknown };
  readonly context: Context;
  readonly info: GraphQLResolveInfo;
}

@Resolver()
export class GenerationResolver {
  @Mutation(() => Generation)
  async generate(
    @Arg('input', () => GenerateInput) input: GenerateInput,
    @Ctx() context: Context,
    @Info() info: GraphQLResolveInfo,
  ): Promise<Generation> {
    const request = toTextRequest(input, info);
    const generation = await context.generations.load(() => context.services.generator.prepare(request));
    return toGeneration(generation, context.services);
  }

  @Mutation(() => Summary)
  async summarize(
    @Arg('input', () => SummarizeInput) input: SummarizeInput,
    @Ctx() context: Context,
    @Info() info: GraphQLResolveInfo,
  ): Promise<Summary> {
    const request = toSummaryRequest(input, info);
    const summary = await context.generations.load(() => context.services.summarizer.prepare(request));
    return toSummary(summary, context.services);
  }

  @Subscription(() => GenerationEvent, {
    subscribe: ({ args, context, info }: StreamSource) =>
      abortable(context.signal, (signal) =>
        context.services.generator.stream(toTextRequest(args.input as GenerateInput, info), { signal }),
      ),
  })
  generationStream(
    @Root() event: TextGenerationEvent,
    @Arg('input', () => GenerateInput) _input: GenerateInput,
    @Ctx() context: Context,
  ): TokensAppended | GenerationFinished {
    return toEvent(event, context.services);
  }

  @Subscription(() => GenerationEvent, {
    subscribe: ({ args, context, info }: StreamSource) =>
      abortable(context.signal, (signal) =>
        context.services.summarizer.stream(toSummaryRequest(args.input as SummarizeInput, info), { signal }),
      ),
  })
  summaryStream(
    @Root() event: TextGenerationEvent,
    @Arg('input', () => SummarizeInput) _input: SummarizeInput,
    @Ctx() context: Context,
  ): TokensAppended | GenerationFinished {
    return toEvent(event, context.services);
  }
}
