/** What a generation is asked with. */
import { Field, Float, ID, InputType, Int } from 'type-graphql';
import { AdapterChoiceInput } from './adapter.input.ts';
import { EarlyStopping, OverflowPolicy, type ValueOf } from './enums.ts';

@InputType()
export class DecodingInput {
  @Field(() => Int, { nullable: true, description: "Default: the model's generation_config, else 128." })
  readonly maxNewTokens?: number | null;

  @Field(() => Int, { nullable: true })
  readonly minNewTokens?: number | null;

  @Field(() => Boolean, { nullable: true, description: 'false: greedy, or beams when numBeams > 1.' })
  readonly doSample?: boolean | null;

  @Field(() => Float, { nullable: true })
  readonly temperature?: number | null;

  @Field(() => Int, { nullable: true })
  readonly topK?: number | null;

  @Field(() => Float, { nullable: true })
  readonly topP?: number | null;

  @Field(() => Float, { nullable: true })
  readonly minP?: number | null;

  @Field(() => Float, { nullable: true })
  readonly typicalP?: number | null;

  @Field(() => Int, { nullable: true })
  readonly numBeams?: number | null;

  @Field(() => Float, { nullable: true })
  readonly lengthPenalty?: number | null;

  @Field(() => EarlyStopping, { nullable: true })
  readonly earlyStopping?: ValueOf<typeof EarlyStopping> | null;

  @Field(() => Int, { nullable: true })
  readonly numReturnSequences?: number | null;

  @Field(() => Int, { nullable: true })
  readonly noRepeatNgramSize?: number | null;

  @Field(() => Float, { nullable: true })
  readonly repetitionPenalty?: number | null;

  @Field(() => Int, {
    nullable: true,
    description: 'Same seed, same request, same tokens: whatever else is in the batch, and after a restart.',
  })
  readonly seed?: number | null;

  @Field(() => [String], { nullable: true })
  readonly stop?: readonly string[] | null;

  @Field(() => [String], { nullable: true })
  readonly badWords?: readonly string[] | null;

  @Field(() => Int, {
    nullable: true,
    description:
      "How many alternatives to report at each position (0 to 20); 0 still reports the chosen token's own log-probability.",
  })
  readonly topLogprobs?: number | null;
}

@InputType()
export class GenerateInput {
  @Field(() => String)
  readonly prompt!: string;

  @Field(() => ID, { nullable: true })
  readonly model?: string | null;

  @Field(() => [AdapterChoiceInput], { nullable: true })
  readonly adapters?: readonly AdapterChoiceInput[] | null;

  @Field(() => DecodingInput, { nullable: true })
  readonly decoding?: DecodingInput | null;

  @Field(() => OverflowPolicy, { nullable: true, defaultValue: OverflowPolicy.ERROR })
  readonly onOverflow?: ValueOf<typeof OverflowPolicy> | null;
}
