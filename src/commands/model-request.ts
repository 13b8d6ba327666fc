/** Which model a command is asked for. */
import { modelIdOf } from '../runtime/models/model-source.ts';
import type { LoadModelRequest } from '../runtime/models/served-model.ts';

/** `expected`: how the message of the Error begins that is thrown for what names no model. */
export function modelRequest(
  expected: string,
  model: string | undefined,
  defaultModel: LoadModelRequest,
): LoadModelRequest {
  if (model === undefined || model === defaultModel.id) return defaultModel;
  const id = modelIdOf(model);
  if (id !== undefined) return { id, source: model };
  const places = `dir:NAME, embedded:NAME, hub:OWNER/NAME or ${defaultModel.id}`;
  throw new Error(`${expected} to be ${places}, ${JSON.stringify(model)} came.`);
}
