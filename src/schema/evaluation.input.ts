/** What is asked of evaluation runs. */
import { ArgsType, Field, ID, InputType, Int } from 'type-graphql';
import { VariantInput } from './comparison.type.ts';

@InputType()
export class StartEvaluationInput {
  @Field(() => ID, {
    description:
      'A folder of datasets by its name, or `hub:OWNER/NAME[@REVISION]`: a repository of the Hugging Face hub.',
  })
  readonly dataset!: string;

  @Field(() => String, { nullable: true, defaultValue: 'test' })
  readonly split?: string | null;

  @Field(() => Int, { nullable: true, description: 'First N samples, or N drawn with sampleSeed.' })
  readonly limit?: number | null;

  @Field(() => Int, { nullable: true })
  readonly sampleSeed?: number | null;

  @Field(() => [VariantInput], {
    description: 'Every variant answers the same samples; the first is the baseline of the comparisons.',
  })
  readonly variants!: readonly VariantInput[];

  @Field(() => [Int], {
    nullable: true,
    description:
      'Reference sets against which it scores, by index from 0; the best is kept for each metric. Default: all.',
  })
  readonly references?: readonly number[] | null;

  @Field(() => Boolean, { nullable: true, defaultValue: true })
  readonly useStemmer?: boolean | null;

  @Field(() => Int, {
    nullable: true,
    description:
      'Of each randomization test, 1,000 to 10,000,000: its smallest p-value is 1 / (this + 1), before Holm. Default: 10,000 for each variant but the baseline, so that 0.0004 is in reach after Holm.',
  })
  readonly signPatterns?: number | null;

  @Field(() => String, {
    nullable: true,
    description: 'The same key gives the same run; with another request it is refused with CONFLICT.',
  })
  readonly idempotencyKey?: string | null;
}

@InputType()
export class RescoreEvaluationInput {
  @Field(() => ID, { description: 'A run that has succeeded; it stays as it is.' })
  readonly id!: string;

  @Field(() => [Int], {
    nullable: true,
    description: 'Of the reference sets that the run was scored against, by their index in the dataset. Default: all.',
  })
  readonly references?: readonly number[] | null;

  @Field(() => Boolean, { nullable: true, defaultValue: true })
  readonly useStemmer?: boolean | null;

  @Field(() => Int, {
    nullable: true,
    description:
      'Of each randomization test, 1,000 to 10,000,000: its smallest p-value is 1 / (this + 1), before Holm. Default: those of the other run.',
  })
  readonly signPatterns?: number | null;

  @Field(() => String, { nullable: true })
  readonly idempotencyKey?: string | null;
}

@ArgsType()
export class EvaluationEventsArgs {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String, {
    nullable: true,
    description: 'Cursor of the last event that was seen. Default: from the first.',
  })
  readonly after?: string | null;
}
