/** What a generation answers. */
import { Field, Float, ID, Int, InterfaceType, ObjectType } from 'type-graphql';
import { Adapter } from './adapter.type.ts';
import { FinishReason, type ValueOf } from './enums.ts';
import { Model } from './model.type.ts';

@ObjectType()
export class TokenAlternative {
  @Field(() => Int)
  readonly id!: number;

  @Field(() => String)
  readonly text!: string;

  @Field(() => Float)
  readonly logprob!: number;
}

@ObjectType()
export class GeneratedToken {
  @Field(() => Int)
  readonly id!: number;

  @Field(() => String)
  readonly text!: string;

  @Field(() => Float)
  readonly logprob!: number;

  @Field(() => [TokenAlternative])
  readonly alternatives!: readonly TokenAlternative[];
}

@ObjectType()
export class GeneratedSequence {
  @Field(() => Int)
  readonly index!: number;

  @Field(() => String)
  readonly text!: string;

  @Field(() => [Int])
  readonly tokenIds!: readonly number[];

  @Field(() => Float, {
    description: "Beams: Hugging Face's length-penalised sequence score. Otherwise the sum of log-probabilities.",
  })
  readonly score!: number;

  @Field(() => FinishReason)
  readonly finishReason!: ValueOf<typeof FinishReason>;

  @Field(() => [GeneratedToken])
  readonly tokens!: readonly GeneratedToken[];
}

@ObjectType()
export class Usage {
  @Field(() => Int)
  readonly promptTokens!: number;

  @Field(() => Int)
  readonly completionTokens!: number;

  @Field(() => Int)
  readonly totalTokens!: number;
}

@ObjectType({
  description: "Milliseconds; the intervals are those of vLLM's metrics (queued, scheduled, first token, last token).",
})
export class Timing {
  @Field(() => Float)
  readonly queuedMs!: number;

  @Field(() => Float)
  readonly prefillMs!: number;

  @Field(() => Float)
  readonly decodeMs!: number;

  @Field(() => Float)
  readonly totalMs!: number;

  @Field(() => Float)
  readonly timeToFirstTokenMs!: number;

  @Field(() => Float)
  readonly tokensPerSecond!: number;
}

@ObjectType()
export class Generation {
  @Field(() => ID)
  readonly id!: string;

  @Field(() => Model)
  readonly model!: Model;

  @Field(() => [Adapter])
  readonly adapters!: readonly Adapter[];

  @Field(() => String)
  readonly prompt!: string;

  @Field(() => [Int])
  readonly promptTokenIds!: readonly number[];

  @Field(() => [GeneratedSequence])
  readonly sequences!: readonly GeneratedSequence[];

  @Field(() => Usage)
  readonly usage!: Usage;

  @Field(() => Timing)
  readonly timing!: Timing;

  @Field(() => Int, { nullable: true })
  readonly seed!: number | null;
}

@InterfaceType({ resolveType: (event: object) => ('generation' in event ? 'GenerationFinished' : 'TokensAppended') })
export abstract class GenerationEvent {
  @Field(() => ID)
  readonly generationId!: string;
}

@ObjectType({
  description:
    'Greedy and sampling: each delta as it is made. Beams: the prefix on which all live beams agree, as it grows. Joined, the deltas are the text.',
  implements: GenerationEvent,
})
export class TokensAppended extends GenerationEvent {
  @Field(() => Int)
  readonly sequenceIndex!: number;

  @Field(() => String)
  readonly text!: string;

  @Field(() => [Int])
  readonly tokenIds!: readonly number[];
}

@ObjectType({ implements: GenerationEvent })
export class GenerationFinished extends GenerationEvent {
  @Field(() => Generation)
  readonly generation!: Generation;
}
