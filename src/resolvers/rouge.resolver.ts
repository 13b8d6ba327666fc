import { Arg, Query, Resolver } from 'type-graphql';
import { RougeScorer } from '../evaluation/rouge.ts';
import { RougeInput, RougeScores } from '../schema/rouge.type.ts';

@Resolver()
export class RougeResolver {
  /** One for all requests: it remembers stems, and gives each turn of the event loop to one of them. */
  constructor(private readonly scorer = new RougeScorer()) {}

  @Query(() => RougeScores)
  rouge(@Arg('input', () => RougeInput) { prediction, references, useStemmer }: RougeInput): Promise<RougeScores> {
    return this.scorer.scoreInTurns({ prediction, references, useStemmer: useStemmer ?? true });
  }
}
