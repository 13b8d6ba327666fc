/** One text through several variants of a model. */
import { Field, ID, InputType, ObjectType } from 'type-graphql';
import { AdapterChoiceInput } from './adapter.input.ts';
import { DecodingInput } from './generation.input.ts';
import { RougeScores } from './rouge.type.ts';
import { ShotInput, Summary } from './summary.type.ts';

@InputType({ description: 'One way to summarize a text; what is absent is as in `summarize`.' })
export class VariantInput {
  @Field(() => String, { description: 'Tells the variants of one call apart: 1 to 100 characters, each its own.' })
  readonly label!: string;

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => [AdapterChoiceInput], { nullable: true })
  readonly adapters?: readonly AdapterChoiceInput[] | null;

  @Field(() => ID, { nullable: true })
  readonly template?: string | null;

  @Field(() => [ShotInput], { nullable: true })
  readonly shots?: readonly ShotInput[] | null;

  @Field(() => DecodingInput, { nullable: true })
  readonly decoding?: DecodingInput | null;
}

@InputType()
export class CompareInput {
  @Field(() => String)
  readonly text!: string;

  @Field(() => String, {
    nullable: true,
    description: 'A summary to score against: a good one, of a person for instance.',
  })
  readonly reference?: string | null;

  @Field(() => [VariantInput], {
    description: 'One to 32. If one is refused, none runs; the error names its label.',
  })
  readonly variants!: readonly VariantInput[];
}

@ObjectType()
export class ComparedSummary {
  @Field(() => String)
  readonly label!: string;

  @Field(() => Summary)
  readonly summary!: Summary;

  @Field(() => RougeScores, {
    nullable: true,
    description: 'Its text against the reference, as `rouge` scores by default; null without a reference.',
  })
  readonly rouge!: RougeScores | null;
}

@ObjectType()
export class TextComparison {
  @Field(() => String)
  readonly text!: string;

  @Field(() => String, { nullable: true })
  readonly reference!: string | null;

  @Field(() => [ComparedSummary], { description: 'In the order of the variants.' })
  readonly summaries!: readonly ComparedSummary[];
}
