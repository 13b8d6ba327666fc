/** Summaries by prompt template, over any text generator. */
import { DEFAULT_MAX_NEW_TOKENS } from './decoding/parse-sampling-params.ts';
import type { DecodingOptions } from './decoding/sampling-params.ts';
import type { ModelDirectory, ServedModel } from './models/served-model.ts';
import { fitDialogue } from './prompts/fit-dialogue.ts';
import { roomForSource, roomForTarget } from './prompts/prompt-room.ts';
import { DEFAULT_TEMPLATE_ID, fillFrame, findTemplate, framePrompt, promptTemplates } from './prompts/templates.ts';
import type { Prompt, PromptRequest, PromptTemplate, Summarizer, Summary, SummaryRequest } from './summarization.ts';
import type {
  CallOptions,
  Prepared,
  TextGeneration,
  TextGenerationEvent,
  TextGenerator,
  TextRequest,
} from './text-generation.ts';

export class TemplateSummarizer implements Summarizer {
  readonly templates: readonly PromptTemplate[] = promptTemplates;

  constructor(
    private readonly models: ModelDirectory,
    private readonly generator: TextGenerator,
  ) {}

  async buildPrompt({ dialogue, templateId, shots, modelId }: PromptRequest): Promise<Prompt> {
    const model = this.models.get(modelId);
    const template = this.templateFor(model, templateId);
    const frame = framePrompt(template, shots ?? [], model.chat);
    const text = fillFrame(frame, dialogue);
    const tokenCount = await model.tokenizer.countTokens(text, frame);
    return { text, tokenCount, shotCount: shots?.length ?? 0, template };
  }

  async prepare(request: SummaryRequest): Promise<Prepared<Summary>> {
    const { textRequest, truncated } = await this.buildRequest(request);
    const prepared = await this.generator.prepare(textRequest);
    return {
      run: async (options) => toSummary(await prepared.run(options), truncated),
      discard: () => prepared.discard(),
    };
  }

  async summarize(request: SummaryRequest, options?: CallOptions): Promise<Summary> {
    return (await this.prepare(request)).run(options);
  }

  async *stream(request: SummaryRequest, options?: CallOptions): AsyncGenerator<TextGenerationEvent> {
    const { textRequest, truncated } = await this.buildRequest(request);
    for await (const event of this.generator.stream(textRequest, options)) {
      yield event.type === 'finished' ? { ...event, generation: { ...event.generation, truncated } } : event;
    }
  }

  private templateFor(model: ServedModel, templateId: string | null | undefined): PromptTemplate {
    return findTemplate(templateId ?? model.templateId ?? DEFAULT_TEMPLATE_ID);
  }

  private async buildRequest(request: SummaryRequest): Promise<{ textRequest: TextRequest; truncated: boolean }> {
    const { text, modelId, adapters, templateId, shots, decoding, onOverflow, logprobs } = request;
    const model = this.models.get(modelId);
    const frame = framePrompt(this.templateFor(model, templateId), shots ?? [], model.chat);
    const mayCut = onOverflow === 'truncate';
    const maxInputTokens = mayCut ? roomForPrompt(model, decoding ?? {}) : model.config.maxInputTokens;
    const reader = { tokenizer: model.tokenizer, maxInputTokens };
    const { text: prompt, truncated } = await fitDialogue(reader, frame, text, mayCut);
    const textRequest = {
      prompt,
      modelId: model.id,
      adapters: adapters ?? null,
      decoding: decoding ?? null,
      addSpecialTokens: frame.addSpecialTokens,
      onOverflow: 'error' as const,
    };
    return { textRequest: logprobs === undefined ? textRequest : { ...textRequest, logprobs }, truncated };
  }
}

/** Tokens that a prompt which may be cut is cut to: where it shares positions with the answer, it leaves it those asked for. */
function roomForPrompt({ config, generationDefaults }: ServedModel, decoding: DecodingOptions): number {
  const wanted = decoding.maxNewTokens ?? generationDefaults.maxNewTokens ?? DEFAULT_MAX_NEW_TOKENS;
  return roomForSource(config, config.maxInputTokens, roomForTarget(config, wanted));
}

function toSummary(generation: TextGeneration, truncated: boolean): Summary {
  const [first, ...others] = generation.sequences;
  return {
    id: generation.id,
    text: first?.text ?? '',
    alternatives: others.map(({ text }) => text),
    truncated,
    generation: { ...generation, truncated },
  };
}
