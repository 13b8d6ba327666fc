/** ROUGE scores. */
import { Field, Float, InputType, ObjectType } from 'type-graphql';

@ObjectType()
export class RougeScore {
  @Field(() => Float)
  readonly precision!: number;

  @Field(() => Float)
  readonly recall!: number;

  @Field(() => Float)
  readonly fmeasure!: number;
}

@ObjectType({
  description: 'Equal to the Python package rouge-score; of several references the best by F-measure, for each metric.',
})
export class RougeScores {
  @Field(() => RougeScore)
  readonly rouge1!: RougeScore;

  @Field(() => RougeScore)
  readonly rouge2!: RougeScore;

  @Field(() => RougeScore)
  readonly rougeL!: RougeScore;

  @Field(() => RougeScore, { description: 'Takes each line for a sentence.' })
  readonly rougeLsum!: RougeScore;

  @Field(() => [String], {
    description: 'Names the texts without Latin letters or digits, which score 0; empty for most.',
  })
  readonly warnings!: readonly string[];
}

@InputType()
export class RougeInput {
  @Field(() => String)
  readonly prediction!: string;

  @Field(() => [String], { description: 'One to a thousand.' })
  readonly references!: readonly string[];

  @Field(() => Boolean, { nullable: true, defaultValue: true })
  readonly useStemmer?: boolean | null;
}
