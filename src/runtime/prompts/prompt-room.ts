/** How a model's positions are shared between a prompt and its answer, in serving and in training alike. */
import type { ModelConfig } from '../models/model-config.ts';

/** Most tokens of an answer: where it shares positions with its prompt, half of them; an answer about nothing is none. */
export function roomForTarget(config: ModelConfig, maxTargetTokens: number): number {
  return config.family === 't5' ? maxTargetTokens : Math.min(maxTargetTokens, config.contextLength >> 1);
}

/** Most tokens of a source or prompt whose answer has `targetLength`. */
export function roomForSource(config: ModelConfig, maxSourceTokens: number, targetLength: number): number {
  const most = Math.min(config.maxInputTokens, maxSourceTokens);
  return config.family === 't5' ? most : Math.min(most, config.contextLength - targetLength);
}
