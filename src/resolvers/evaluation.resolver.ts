import { Arg, Args, Ctx, FieldResolver, ID, Mutation, Query, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../context.ts';
import type { EvaluationEvent as RunEvent } from '../evaluation/runs/evaluations.ts';
import { Dataset } from '../schema/dataset.type.ts';
import { EvaluationEventsArgs, RescoreEvaluationInput, StartEvaluationInput } from '../schema/evaluation.input.ts';
import {
  Evaluation,
  EvaluationConnection,
  EvaluationSampleConnection,
  PairedComparison,
  VariantSummary,
} from '../schema/evaluation.type.ts';
import { EvaluationEvent } from '../schema/evaluation-event.type.ts';
import { PageArgs } from '../schema/page.type.ts';
import { abortable } from './abortable.ts';
import {
  datasetOf,
  readCursor,
  toConnection,
  toEvaluation,
  toEvaluationEvent,
  toSample,
  toVariantSummaries,
} from './evaluation-shape.ts';
import { toVariant } from './shape.ts';

const FIRST = 20;

interface EventsSource {
  readonly args: EvaluationEventsArgs;
  readonly context: Context;
}

async function* follow(
  { services }: Context,
  { id, after }: EvaluationEventsArgs,
  signal: AbortSignal,
): AsyncGenerator<RunEvent, void, void> {
  yield* (await services.evaluations.open()).events(id, after ?? null, signal);
}

@Resolver(() => Evaluation)
export class EvaluationResolver {
  @Query(() => Evaluation, { nullable: true })
  async evaluation(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<Evaluation | null> {
    const evaluation = await (await services.evaluations.open()).get(id);
    return evaluation === undefined ? null : toEvaluation(evaluation);
  }

  @Query(() => EvaluationConnection, { description: 'Newest first.' })
  async evaluations(
    @Args(() => PageArgs) { first, after }: PageArgs,
    @Ctx() { services }: Context,
  ): Promise<EvaluationConnection> {
    const page = await (await services.evaluations.open()).list(first ?? FIRST, readCursor(after));
    return toConnection(page, (one) => ({ cursor: `${one.ordinal}`, node: toEvaluation(one) }));
  }

  @Mutation(() => Evaluation, {
    description: 'Queues a run; it goes on by itself after a restart. What can be refused is refused before.',
  })
  async startEvaluation(
    @Arg('input', () => StartEvaluationInput) input: StartEvaluationInput,
    @Ctx() { services }: Context,
  ): Promise<Evaluation> {
    const { dataset, split, limit, sampleSeed, references, useStemmer, signPatterns, variants, idempotencyKey } = input;
    const request = {
      dataset,
      split: split ?? 'test',
      limit: limit ?? null,
      sampleSeed: sampleSeed ?? null,
      references: references ?? null,
      useStemmer: useStemmer ?? true,
      ...(signPatterns === null || signPatterns === undefined ? {} : { signPatterns }),
      variants: variants.map(toVariant),
    };
    return toEvaluation(await (await services.evaluations.open()).start(request, idempotencyKey ?? null));
  }

  @Mutation(() => Evaluation, {
    description: 'Queues a run that scores the texts of another one with other settings, without generating again.',
  })
  async rescoreEvaluation(
    @Arg('input', () => RescoreEvaluationInput) input: RescoreEvaluationInput,
    @Ctx() { services }: Context,
  ): Promise<Evaluation> {
    const { id, references, useStemmer, signPatterns, idempotencyKey } = input;
    const request = {
      id,
      references: references ?? null,
      useStemmer: useStemmer ?? true,
      ...(signPatterns === null || signPatterns === undefined ? {} : { signPatterns }),
    };
    return toEvaluation(await (await services.evaluations.open()).rescore(request, idempotencyKey ?? null));
  }

  @Mutation(() => Evaluation, { description: 'Ends it within one sample; what was scored stays.' })
  async cancelEvaluation(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<Evaluation> {
    return toEvaluation(await (await services.evaluations.open()).cancel(id));
  }

  @Subscription(() => EvaluationEvent, {
    description:
      'Every sample once, in the order of scoring, and now and then the scores so far. Where it ends without EvaluationFinished the server is stopping: subscribe again with the last cursor.',
    subscribe: ({ args, context }: EventsSource) =>
      abortable(context.signal, (signal) => follow(context, args, signal)),
  })
  evaluationEvents(
    @Root() event: RunEvent,
    @Args(() => EvaluationEventsArgs) _args: EvaluationEventsArgs,
    @Ctx() { services }: Context,
  ): EvaluationEvent {
    return toEvaluationEvent(event, services);
  }

  @FieldResolver(() => Dataset)
  dataset(@Root() { stored }: Evaluation, @Ctx() { services }: Context): Promise<Dataset> {
    return datasetOf(stored, services);
  }

  @FieldResolver(() => [VariantSummary])
  async variants(@Root() { stored }: Evaluation, @Ctx() { services }: Context): Promise<readonly VariantSummary[]> {
    return toVariantSummaries(stored, await (await services.evaluations.open()).summary(stored), services);
  }

  @FieldResolver(() => [PairedComparison], { description: 'By candidate, then by metric.' })
  async comparisons(
    @Root() { stored }: Evaluation,
    @Ctx() { services }: Context,
  ): Promise<readonly PairedComparison[]> {
    return (await (await services.evaluations.open()).summary(stored)).comparisons;
  }

  @FieldResolver(() => EvaluationSampleConnection)
  async samples(
    @Root() { stored }: Evaluation,
    @Args(() => PageArgs) { first, after }: PageArgs,
    @Ctx() { services }: Context,
  ): Promise<EvaluationSampleConnection> {
    const page = await (await services.evaluations.open()).samples(stored, first ?? FIRST, readCursor(after));
    return toConnection(page, (sample) => ({ cursor: `${sample.index}`, node: toSample(sample) }));
  }
}
