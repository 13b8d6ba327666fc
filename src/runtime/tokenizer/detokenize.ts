import { RuntimeError } from '../errors.ts';
import type { ServedModel } from '../models/served-model.ts';

/** The text of ids that a client sent. Throws BAD_USER_INPUT for an id outside the model's vocabulary. */
export function detokenize(
  model: ServedModel,
  ids: readonly number[],
  options: { readonly skipSpecialTokens: boolean },
): Promise<string> {
  const { vocabularySize } = model.config;
  const bad = ids.find((id) => id < 0 || id >= vocabularySize);
  if (bad === undefined) return model.tokenizer.decode(ids, options);
  const message = `Expected ids from 0 to ${vocabularySize - 1}, ${bad} came.`;
  throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'ids' });
}
