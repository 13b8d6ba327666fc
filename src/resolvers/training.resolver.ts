import { Arg, Args, Ctx, ID, Int, Mutation, Query, Resolver, Root, Subscription } from 'type-graphql';
import type { Context } from '../context.ts';
import { StartTrainingInput, TrainingEventsArgs } from '../schema/training.input.ts';
import { Training, TrainingEvent } from '../schema/training.type.ts';
import type { TrainingEvent as RunEvent } from '../training/jobs/trainings.ts';
import { abortable } from './abortable.ts';
import { toTraining, toTrainingEvent, toTrainingRequest } from './training-shape.ts';

const FIRST = 20;

interface EventsSource {
  readonly args: TrainingEventsArgs;
  readonly context: Context;
}

async function* follow(
  { services }: Context,
  { id, after }: TrainingEventsArgs,
  signal: AbortSignal,
): AsyncGenerator<RunEvent, void, void> {
  yield* (await services.trainings.open()).events(id, after ?? null, signal);
}

@Resolver(() => Training)
export class TrainingResolver {
  @Query(() => Training, { nullable: true })
  async training(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<Training | null> {
    const training = await (await services.trainings.open()).get(id);
    return training === undefined ? null : toTraining(training, services);
  }

  @Query(() => [Training], { description: 'Newest first.' })
  async trainings(
    @Arg('first', () => Int, { nullable: true, defaultValue: FIRST, description: '1 to 500.' })
    first: number | null | undefined,
    @Ctx() { services }: Context,
  ): Promise<readonly Training[]> {
    const trainings = await (await services.trainings.open()).list(first ?? FIRST);
    return trainings.map((training) => toTraining(training, services));
  }

  @Mutation(() => Training, {
    description: 'Queues a run; it goes on by itself after a restart. What can be refused is refused before.',
  })
  async startTraining(
    @Arg('input', () => StartTrainingInput) input: StartTrainingInput,
    @Ctx() { services }: Context,
  ): Promise<Training> {
    const trainings = await services.trainings.open();
    const training = await trainings.start(toTrainingRequest(input), input.idempotencyKey ?? null);
    return toTraining(training, services);
  }

  @Mutation(() => Training, { description: 'Ends it after a step; its last checkpoint stays, to be resumed from.' })
  async cancelTraining(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<Training> {
    return toTraining(await (await services.trainings.open()).cancel(id), services);
  }

  @Mutation(() => Training, {
    description: 'Goes on with a run that failed or was cancelled, from its last checkpoint.',
  })
  async resumeTraining(@Arg('id', () => ID) id: string, @Ctx() { services }: Context): Promise<Training> {
    return toTraining(await (await services.trainings.open()).resume(id), services);
  }

  @Subscription(() => TrainingEvent, {
    description:
      'Every step and every look at the validation split once, in their order. Where it ends without TrainingFinished the server is stopping: subscribe again with the last cursor.',
    subscribe: ({ args, context }: EventsSource) =>
      abortable(context.signal, (signal) => follow(context, args, signal)),
  })
  trainingEvents(
    @Root() event: RunEvent,
    @Args(() => TrainingEventsArgs) _args: TrainingEventsArgs,
    @Ctx() { services }: Context,
  ): TrainingEvent {
    return toTrainingEvent(event, services);
  }
}
