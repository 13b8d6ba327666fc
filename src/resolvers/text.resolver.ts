import { Arg, Ctx, Query, Resolver } from 'type-graphql';
import type { Context } from '../context.ts';
import { embedTexts } from '../runtime/embedding.ts';
import { detokenize } from '../runtime/tokenizer/detokenize.ts';
import { BuildPromptInput, Prompt, PromptTemplate } from '../schema/summary.type.ts';
import { DetokenizeInput, Embedding, EmbedInput, Tokenization, TokenizeInput } from '../schema/token.type.ts';

/** Prompts, tokens and embeddings: what a model makes of text before it generates. */
@Resolver()
export class TextResolver {
  @Query(() => [PromptTemplate])
  promptTemplates(@Ctx() { services }: Context): readonly PromptTemplate[] {
    return services.summarizer.templates;
  }

  @Query(() => Prompt)
  buildPrompt(
    @Arg('input', () => BuildPromptInput) input: BuildPromptInput,
    @Ctx() { services }: Context,
  ): Promise<Prompt> {
    const { dialogue, template, shots, model } = input;
    const request = { dialogue, templateId: template ?? null, shots: shots ?? null, modelId: model ?? null };
    return services.summarizer.buildPrompt(request);
  }

  @Query(() => Tokenization)
  async tokenize(
    @Arg('input', () => TokenizeInput) input: TokenizeInput,
    @Ctx() { services }: Context,
  ): Promise<Tokenization> {
    const { tokenizer } = services.models.get(input.model);
    const tokens = await tokenizer.encodeWithOffsets(input.text, { addSpecialTokens: input.addSpecialTokens ?? true });
    return {
      tokens: tokens.map(({ start, end, ...token }) => ({ ...token, start: start ?? null, end: end ?? null })),
      ids: tokens.map(({ id }) => id),
      tokenCount: tokens.length,
    };
  }

  @Query(() => String)
  detokenize(
    @Arg('input', () => DetokenizeInput) input: DetokenizeInput,
    @Ctx() { services }: Context,
  ): Promise<string> {
    const model = services.models.get(input.model);
    return detokenize(model, input.ids, { skipSpecialTokens: input.skipSpecialTokens ?? true });
  }

  @Query(() => [Embedding])
  embed(
    @Arg('input', () => EmbedInput) input: EmbedInput,
    @Ctx() { services }: Context,
  ): Promise<readonly Embedding[]> {
    const { texts, model, layer, pooling, normalize } = input;
    return embedTexts(services.models.get(model), texts, {
      layer: layer ?? 'encoder',
      pooling: pooling ?? 'mean',
      normalize: normalize ?? false,
    });
  }
}
