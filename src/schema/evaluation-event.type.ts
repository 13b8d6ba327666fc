/** What a run tells while it goes on. */
import { Field, InterfaceType, ObjectType } from 'type-graphql';
import { Evaluation, EvaluationSample, PairedComparison, VariantSummary } from './evaluation.type.ts';

function typeOf(event: object): string {
  if ('sample' in event) return 'SampleScored';
  return 'variants' in event ? 'ScoresUpdated' : 'EvaluationFinished';
}

@InterfaceType({
  resolveType: typeOf,
  description:
    'Every event has a cursor; subscribing again with `after` replays what was missed, then goes on live, across a restart too.',
})
export abstract class EvaluationEvent {
  @Field(() => String)
  readonly cursor!: string;

  @Field(() => Evaluation)
  readonly evaluation!: Evaluation;
}

@ObjectType({ implements: EvaluationEvent })
export class SampleScored extends EvaluationEvent {
  @Field(() => EvaluationSample)
  readonly sample!: EvaluationSample;
}

@ObjectType({ implements: EvaluationEvent, description: 'At most two a second.' })
export class ScoresUpdated extends EvaluationEvent {
  @Field(() => [VariantSummary])
  readonly variants!: readonly VariantSummary[];

  @Field(() => [PairedComparison])
  readonly comparisons!: readonly PairedComparison[];
}

@ObjectType({ implements: EvaluationEvent, description: 'The last one: it has succeeded, failed or was cancelled.' })
export class EvaluationFinished extends EvaluationEvent {}
