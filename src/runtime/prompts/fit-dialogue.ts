/** Puts a dialogue into its prompt, cut at its end to what the model takes. The instruction, shots and cue stay whole. */
import { inputTooLong } from '../engine-text-generator.ts';
import { RuntimeError } from '../errors.ts';
import { sliceCodePoints } from '../tokenizer/code-points.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { fillFrame, type PromptFrame } from './templates.ts';

/** What prompts are fitted to. */
interface PromptReader {
  readonly tokenizer: Tokenizer;
  readonly maxInputTokens: number;
}

export interface FittedPrompt {
  readonly text: string;
  /** Of `text`, special tokens included. */
  readonly tokenCount: number;
  readonly truncated: boolean;
}

/** Guesses from token counts; what is then still open is halved. */
const GUESSES = 8;

/** Throws RuntimeError INPUT_TOO_LONG when there is no room for any of the dialogue, or for all of it when it may not be cut. */
export async function fitDialogue(
  model: PromptReader,
  frame: PromptFrame,
  dialogue: string,
  mayCut: boolean,
): Promise<FittedPrompt> {
  const most = model.maxInputTokens;
  const text = fillFrame(frame, dialogue);
  const tokenCount = await model.tokenizer.countTokens(text, frame);
  if (tokenCount <= most) return { text, tokenCount, truncated: false };
  if (!mayCut) throw inputTooLong(tokenCount, most);
  return { ...(await cutDialogue(model, frame, dialogue)), truncated: true };
}

/** The longest prompt that fits, of those whose dialogue ends with one of its tokens. */
async function cutDialogue(
  model: PromptReader,
  frame: PromptFrame,
  dialogue: string,
): Promise<{ readonly text: string; readonly tokenCount: number }> {
  const { tokenizer, maxInputTokens: most } = model;
  const ends = await tokenEnds(model, dialogue, most);
  // more tokens than the model takes certainly do not fit
  let tooMany = ends.length;
  let best: { readonly text: string; readonly tokenCount: number; readonly kept: number } | undefined;
  let guess = most - (await tokenizer.countTokens(fillFrame(frame, ''), frame));
  for (let round = 0; tooMany - (best?.kept ?? 0) > 1; round++) {
    const low = best?.kept ?? 0;
    const middle = round < GUESSES ? guess : (low + tooMany) >> 1;
    const kept = Math.min(Math.max(middle, low + 1), tooMany - 1);
    const text = fillFrame(frame, sliceCodePoints(dialogue, ends[kept - 1] ?? 0));
    const tokenCount = await tokenizer.countTokens(text, frame);
    // tokens at the seams may merge or split: the next guess is off by what this one was
    guess = kept + most - tokenCount;
    if (tokenCount <= most) best = { text, tokenCount, kept };
    else tooMany = kept;
  }
  if (best !== undefined) return best;
  const frameCount = await tokenizer.countTokens(fillFrame(frame, ''), frame);
  const message = `Expected the instruction and its shots to leave room for the text in ${most} input tokens, they alone take ${frameCount}. Use fewer or shorter shots.`;
  throw new RuntimeError('INPUT_TOO_LONG', message, { argument: 'shots' });
}

/** Where the dialogue's tokens end, in code points; one more than `most` of them when there are as many. */
async function tokenEnds(model: PromptReader, dialogue: string, most: number): Promise<readonly number[]> {
  const tokens = await model.tokenizer.encodeWithOffsets(dialogue, { addSpecialTokens: false, most: most + 1 });
  return tokens.map(({ end }) => end ?? 0);
}
