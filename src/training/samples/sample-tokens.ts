/** One sample as tokens: what a server would read of its text, and the summary that is to be written. */
import { invariant } from '../../runtime/errors.ts';
import type { ModelConfig } from '../../runtime/models/model-config.ts';
import { fitDialogue } from '../../runtime/prompts/fit-dialogue.ts';
import { roomForSource, roomForTarget } from '../../runtime/prompts/prompt-room.ts';
import { fillFrame, type PromptFrame, spaced } from '../../runtime/prompts/templates.ts';
import type { Tokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import type { DatasetSample } from '../../storage/dataset-columns.ts';

export interface SampleReading {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly frame: PromptFrame;
  /** Of a whole source, instruction and end token included. */
  readonly maxSourceTokens: number;
  /** Of a summary, its end token included. */
  readonly maxTargetTokens: number;
}

interface ReadTokens {
  readonly ids: Int32Array;
  readonly cut: boolean;
}

export interface SampleTokens {
  readonly source: ReadTokens;
  readonly target: ReadTokens;
}

/** Of several references the first is written. Throws RuntimeError when the prompt leaves no room for the text. */
export async function readSampleTokens(sample: DatasetSample, reading: SampleReading): Promise<SampleTokens> {
  const { tokenizer, frame, config } = reading;
  const summary = sample.references[0] ?? '';
  const whole = fillFrame(frame, sample.text);
  const prompt = await tokenizer.encode(whole, frame);
  const written =
    config.family === 't5' ? await tokenizer.encode(summary) : await readContinued(reading, whole, prompt, summary);
  const target = endedTarget(written, reading);
  return { source: await fittedSource(sample.text, prompt, reading, target.ids.length), target };
}

/**
 * The tokens of a summary that follows its prompt, as they are when both are one text: a space lies between them, unless
 * the prompt ends in one. Where the seam is no end of a token, the summary is read alone.
 */
async function readContinued(
  { tokenizer, frame }: SampleReading,
  prompt: string,
  promptIds: readonly number[],
  summary: string,
): Promise<readonly number[]> {
  const continued = spaced(prompt, summary);
  const ids = await tokenizer.encode(prompt + continued, frame);
  if (promptIds.every((id, place) => ids[place] === id)) return ids.slice(promptIds.length);
  return tokenizer.encode(continued, { addSpecialTokens: false });
}

function endedTarget(written: readonly number[], { config, maxTargetTokens }: SampleReading): ReadTokens {
  const content = config.eosTokenIds.includes(written.at(-1) ?? -1) ? written.slice(0, -1) : written;
  const kept = content.slice(0, roomForTarget(config, maxTargetTokens) - 1);
  return { ids: Int32Array.of(...kept, endOf(config)), cut: kept.length < content.length };
}

/** The prompt of serving, its dialogue cut where it is too long: the instruction and the cue stay. */
async function fittedSource(
  text: string,
  prompt: readonly number[],
  { tokenizer, frame, config, maxSourceTokens }: SampleReading,
  targetLength: number,
): Promise<ReadTokens> {
  // a prompt of nothing but an empty dialogue: a model reads its end
  if (prompt.length === 0) return { ids: Int32Array.of(endOf(config)), cut: false };
  const maxInputTokens = roomForSource(config, maxSourceTokens, targetLength);
  if (prompt.length <= maxInputTokens) return { ids: Int32Array.from(prompt), cut: false };
  const fitted = await fitDialogue({ tokenizer, maxInputTokens }, frame, text, true);
  return { ids: Int32Array.from(await tokenizer.encode(fitted.text, frame)), cut: true };
}

function endOf({ eosTokenIds }: ModelConfig): number {
  const [end] = eosTokenIds;
  invariant(end !== undefined, 'a model has an end token');
  return end;
}
