/** A run of variants over the samples of a dataset, and what its scores say. */
import { GraphQLDateTime } from 'graphql-scalars';
import { Field, Float, ID, Int, ObjectType } from 'type-graphql';
import type { StoredEvaluation } from '../storage/evaluation-rows.ts';
import { Adapter } from './adapter.type.ts';
import { RougeMetric, RunStatus, type ValueOf } from './enums.ts';
import { Model } from './model.type.ts';
import { PageInfo } from './page.type.ts';
import { RougeScores } from './rouge.type.ts';

@ObjectType()
export class Interval {
  @Field(() => Float)
  readonly low!: number;

  @Field(() => Float)
  readonly high!: number;

  @Field(() => Float)
  readonly confidence!: number;
}

@ObjectType()
export class MetricSummary {
  @Field(() => RougeMetric)
  readonly metric!: ValueOf<typeof RougeMetric>;

  @Field(() => Float, { description: 'Mean F-measure over the samples scored so far, 0..1: the headline.' })
  readonly mean!: number;

  @Field(() => Interval, { description: 'Seeded percentile bootstrap; valid for a look at the end.' })
  readonly interval!: Interval;

  @Field(() => Interval, {
    description: 'Valid at every look while the run goes on: a confidence sequence by betting.',
  })
  readonly anytimeInterval!: Interval;

  @Field(() => Float)
  readonly precision!: number;

  @Field(() => Float)
  readonly recall!: number;
}

@ObjectType()
export class VariantSummary {
  @Field(() => String)
  readonly label!: string;

  @Field(() => Model, { nullable: true, description: 'Null when it is no longer in service.' })
  readonly model!: Model | null;

  @Field(() => [Adapter], { description: 'Those that are still in service.' })
  readonly adapters!: readonly Adapter[];

  @Field(() => Int)
  readonly samplesScored!: number;

  @Field(() => [MetricSummary], { description: 'Empty before the first sample is scored.' })
  readonly metrics!: readonly MetricSummary[];

  @Field(() => Float)
  readonly meanSummaryTokens!: number;

  @Field(() => Float, { description: 'Of one request among those that ran beside it.' })
  readonly tokensPerSecond!: number;
}

@ObjectType({ description: 'Baseline against candidate on the same samples.' })
export class PairedComparison {
  @Field(() => RougeMetric)
  readonly metric!: ValueOf<typeof RougeMetric>;

  @Field(() => String)
  readonly baseline!: string;

  @Field(() => String)
  readonly candidate!: string;

  @Field(() => Float, { description: 'Candidate minus baseline.' })
  readonly meanDifference!: number;

  @Field(() => Interval, { description: 'Seeded percentile bootstrap; valid for a look at the end.' })
  readonly interval!: Interval;

  @Field(() => Interval, { description: 'Valid at every look while the run goes on.' })
  readonly anytimeInterval!: Interval;

  @Field(() => Float, { description: "Holm-adjusted over the run's comparisons; for a look at the end." })
  readonly pValue!: number;

  @Field(() => Float)
  readonly unadjustedPValue!: number;

  @Field(() => String)
  readonly test!: string;

  @Field(() => Int)
  readonly wins!: number;

  @Field(() => Int)
  readonly losses!: number;

  @Field(() => Int)
  readonly ties!: number;
}

@ObjectType()
export class EvaluationOutput {
  @Field(() => String)
  readonly label!: string;

  @Field(() => String)
  readonly summary!: string;

  @Field(() => RougeScores)
  readonly rouge!: RougeScores;

  @Field(() => Float, { description: 'From the moment when it was given rows of the batch.' })
  readonly latencyMs!: number;

  @Field(() => Boolean, {
    nullable: true,
    description: 'Whether the dialogue was cut to what the model takes; null in runs of before this was stored.',
  })
  readonly truncated!: boolean | null;

  @Field(() => Int)
  readonly completionTokens!: number;
}

@ObjectType()
export class EvaluationSample {
  @Field(() => Int, { description: "Its place among the run's samples, from 0." })
  readonly index!: number;

  @Field(() => ID)
  readonly sampleId!: string;

  @Field(() => String)
  readonly text!: string;

  @Field(() => [String])
  readonly references!: readonly string[];

  @Field(() => [EvaluationOutput], { description: 'In the order of the variants.' })
  readonly outputs!: readonly EvaluationOutput[];
}

@ObjectType()
export class EvaluationSampleEdge {
  @Field(() => String)
  readonly cursor!: string;

  @Field(() => EvaluationSample)
  readonly node!: EvaluationSample;
}

@ObjectType()
export class EvaluationSampleConnection {
  @Field(() => [EvaluationSampleEdge])
  readonly edges!: readonly EvaluationSampleEdge[];

  @Field(() => PageInfo)
  readonly pageInfo!: PageInfo;

  @Field(() => Int)
  readonly totalCount!: number;
}

@ObjectType()
export class Evaluation {
  /** What the fields that are looked up when they are selected need to know. */
  readonly stored!: StoredEvaluation;

  @Field(() => ID)
  readonly id!: string;

  @Field(() => RunStatus)
  readonly status!: ValueOf<typeof RunStatus>;

  @Field(() => String)
  readonly split!: string;

  @Field(() => Int)
  readonly samplesTotal!: number;

  @Field(() => Int)
  readonly samplesDone!: number;

  @Field(() => Float, {
    nullable: true,
    description: 'At the pace since it was started, or went on after a restart; null unless it runs.',
  })
  readonly etaSeconds!: number | null;

  @Field(() => String, {
    description: 'Every setting that moves a score, in one line: two runs with equal signatures are comparable.',
  })
  readonly signature!: string;

  @Field(() => ID, { nullable: true, description: 'The run whose texts were scored again.' })
  readonly rescoredFrom!: string | null;

  @Field(() => GraphQLDateTime)
  readonly createdAt!: Date;

  @Field(() => GraphQLDateTime, { nullable: true })
  readonly finishedAt!: Date | null;

  @Field(() => String, { nullable: true })
  readonly error!: string | null;
}

@ObjectType()
export class EvaluationEdge {
  @Field(() => String)
  readonly cursor!: string;

  @Field(() => Evaluation)
  readonly node!: Evaluation;
}

@ObjectType()
export class EvaluationConnection {
  @Field(() => [EvaluationEdge])
  readonly edges!: readonly EvaluationEdge[];

  @Field(() => PageInfo)
  readonly pageInfo!: PageInfo;

  @Field(() => Int)
  readonly totalCount!: number;
}
