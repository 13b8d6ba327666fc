/** Prompts and summaries. */
import { Field, ID, InputType, Int, ObjectType } from 'type-graphql';
import { AdapterChoiceInput } from './adapter.input.ts';
import { OverflowPolicy, type ValueOf } from './enums.ts';
import { DecodingInput } from './generation.input.ts';
import { Generation } from './generation.type.ts';

@InputType()
export class ShotInput {
  @Field(() => String)
  readonly dialogue!: string;

  @Field(() => String)
  readonly summary!: string;
}

@ObjectType({
  description: 'A prompt template: {dialogue} and {summary} are its holes; the model reads up to {summary}.',
})
export class PromptTemplate {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String)
  readonly name!: string;

  @Field(() => String)
  readonly text!: string;
}

@ObjectType()
export class Prompt {
  @Field(() => String)
  readonly text!: string;

  @Field(() => Int)
  readonly tokenCount!: number;

  @Field(() => Int)
  readonly shotCount!: number;

  @Field(() => PromptTemplate)
  readonly template!: PromptTemplate;
}

@InputType()
export class BuildPromptInput {
  @Field(() => String)
  readonly dialogue!: string;

  @Field(() => ID, { nullable: true })
  readonly template?: string | null;

  @Field(() => [ShotInput], { nullable: true })
  readonly shots?: readonly ShotInput[] | null;

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;
}

@InputType()
export class SummarizeInput {
  @Field(() => String)
  readonly text!: string;

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => [AdapterChoiceInput], { nullable: true })
  readonly adapters?: readonly AdapterChoiceInput[] | null;

  @Field(() => ID, { nullable: true, description: "Default: the model's own (config), else `summarize-conversation`." })
  readonly template?: string | null;

  @Field(() => [ShotInput], { nullable: true, description: 'Zero, one or few worked examples put before the text.' })
  readonly shots?: readonly ShotInput[] | null;

  @Field(() => DecodingInput, { nullable: true })
  readonly decoding?: DecodingInput | null;

  @Field(() => OverflowPolicy, { nullable: true, defaultValue: OverflowPolicy.TRUNCATE })
  readonly onOverflow?: ValueOf<typeof OverflowPolicy> | null;
}

@ObjectType()
export class Summary {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => String)
  readonly text!: string;

  @Field(() => [String])
  readonly alternatives!: readonly string[];

  @Field(() => Boolean)
  readonly truncated!: boolean;

  @Field(() => Generation)
  readonly generation!: Generation;
}
