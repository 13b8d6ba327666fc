/** A fine-tuning, and what it tells while it goes on. */
import { GraphQLDateTime } from 'graphql-scalars';
import { Field, Float, ID, Int, InterfaceType, ObjectType } from 'type-graphql';
import { Adapter } from './adapter.type.ts';
import { RunStatus, TuningMethod, type ValueOf } from './enums.ts';
import { Model } from './model.type.ts';

@ObjectType()
export class Training {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => RunStatus)
  readonly status!: ValueOf<typeof RunStatus>;

  @Field(() => Model, {
    description: 'The model that is trained; one that is no longer in service is told as it was then, status UNLOADED.',
  })
  readonly model!: Model;

  @Field(() => TuningMethod)
  readonly method!: ValueOf<typeof TuningMethod>;

  @Field(() => ID)
  readonly outputId!: string;

  @Field(() => Adapter, { nullable: true, description: 'What came out of LORA, while it is in service.' })
  readonly adapter!: Adapter | null;

  @Field(() => Model, { nullable: true, description: 'What came out of FULL, while it is in service.' })
  readonly outputModel!: Model | null;

  @Field(() => Int)
  readonly step!: number;

  @Field(() => Int)
  readonly stepsTotal!: number;

  @Field(() => Float)
  readonly epoch!: number;

  @Field(() => Float, { nullable: true, description: "Of the last step: mean over its summaries' tokens." })
  readonly loss!: number | null;

  @Field(() => Float, { nullable: true, description: 'At the last look at the validation split.' })
  readonly validationLoss!: number | null;

  @Field(() => Float, { nullable: true, description: 'The least so far: its weights are what comes out.' })
  readonly bestValidationLoss!: number | null;

  @Field(() => Float, { description: 'Of the last step; 0 before the first.' })
  readonly learningRate!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'Of the last step: tokens of texts and summaries, without padding.',
  })
  readonly tokensPerSecond!: number | null;

  @Field(() => Float, { nullable: true })
  readonly etaSeconds!: number | null;

  @Field(() => Float)
  readonly trainableParameters!: number;

  @Field(() => Float, { description: 'Share of all parameters, those of the adapter included, 0..1.' })
  readonly trainableShare!: number;

  @Field(() => [String], { description: 'What the run does not do as it might be expected: texts that are cut.' })
  readonly warnings!: readonly string[];

  @Field(() => GraphQLDateTime)
  readonly createdAt!: Date;

  @Field(() => GraphQLDateTime, { nullable: true })
  readonly finishedAt!: Date | null;

  @Field(() => String, { nullable: true })
  readonly error!: string | null;
}

function typeOf(event: object): string {
  if ('validationLoss' in event) return 'TrainingValidation';
  return 'loss' in event ? 'TrainingStep' : 'TrainingFinished';
}

@InterfaceType({
  resolveType: typeOf,
  description:
    'Every event has a cursor; subscribing again with `after` replays what was missed, then goes on live, across a restart too.',
})
export abstract class TrainingEvent {
  @Field(() => String)
  readonly cursor!: string;

  @Field(() => Training)
  readonly training!: Training;
}

@ObjectType({ implements: TrainingEvent })
export class TrainingStep extends TrainingEvent {
  @Field(() => Int, { description: 'From 1 on.' })
  readonly step!: number;

  @Field(() => Float)
  readonly loss!: number;

  @Field(() => Float)
  readonly learningRate!: number;

  @Field(() => Float, { description: 'Before clipping.' })
  readonly gradientNorm!: number;

  @Field(() => Float)
  readonly tokensPerSecond!: number;
}

@ObjectType({ implements: TrainingEvent })
export class TrainingValidation extends TrainingEvent {
  @Field(() => Int)
  readonly step!: number;

  @Field(() => Float)
  readonly validationLoss!: number;
}

@ObjectType({ implements: TrainingEvent, description: 'The last one: it has succeeded, failed or was cancelled.' })
export class TrainingFinished extends TrainingEvent {}
