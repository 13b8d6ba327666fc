/** What comes out of a training: where it goes, and how it comes into service. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { patiently, serveModel } from '../../jobs/served-models.ts';
import { RuntimeError } from '../../runtime/errors.ts';
import { quoted } from '../../storage/storage-error.ts';
import type { TrainingPlan } from '../run/trainer-protocol.ts';
import type { TrainingParts } from './training-parts.ts';

type OutputParts = Pick<TrainingParts, 'models' | 'adapters' | 'folders'>;
type Output = Pick<TrainingPlan, 'outputId'> & { readonly kind: 'adapter' | 'model' };

/** As of adapters and models. */
const OUTPUT_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export function outputFolder({ folders }: Pick<OutputParts, 'folders'>, { kind, outputId }: Output): string {
  return join(kind === 'adapter' ? folders.adapters : folders.models.models, outputId);
}

export function outputOf({ outputId, lora }: TrainingPlan): Output {
  return { outputId, kind: lora === null ? 'model' : 'adapter' };
}

/** Throws BAD_USER_INPUT for an id that cannot be one, CONFLICT for one that is in use. */
export async function checkOutput(parts: OutputParts, output: Output): Promise<void> {
  const { outputId, kind } = output;
  if (!OUTPUT_ID.test(outputId)) {
    const message = `Expected outputId to be 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first, ${quoted(outputId)} came. Choose another.`;
    throw new RuntimeError('BAD_USER_INPUT', message, { argument: 'outputId' });
  }
  const served = kind === 'adapter' ? parts.adapters.find(outputId) : parts.models.find(outputId);
  if (served !== undefined) throw outputTaken(outputId, `it is the id of ${kind} ${served.source}`);
  if (await isMade(parts, output)) {
    throw outputTaken(outputId, `a folder of that name is among the ${kind}s already`);
  }
}

/** Whether its folder is there. */
export async function isMade(parts: Pick<OutputParts, 'folders'>, output: Output): Promise<boolean> {
  return await lstat(outputFolder(parts, output)).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
      throw error;
    },
  );
}

export function outputTaken(outputId: string, reason: string): RuntimeError {
  const message = `Expected a new outputId, ${outputId} came: ${reason}. Choose another.`;
  return new RuntimeError('CONFLICT', message, { argument: 'outputId' });
}

/** Brings it into service; again is no harm. Undefined: the signal was aborted before it could. */
export async function registerOutput(
  parts: OutputParts & Pick<TrainingParts, 'clock'>,
  plan: TrainingPlan,
  signal: AbortSignal,
): Promise<'registered' | undefined> {
  const { models, adapters, clock } = parts;
  const { outputId, modelId, modelSource } = plan;
  const source = `dir:${outputId}`;
  if (plan.lora === null) {
    const served = await patiently(() => serveModel(models, { id: outputId, source }), { clock, signal });
    return served && 'registered';
  }
  const base = await patiently(() => serveModel(models, { id: modelId, source: modelSource }), { clock, signal });
  if (base === undefined) return undefined;
  const known = adapters.find(outputId);
  if (known?.source !== source || known.model !== base) await adapters.load({ id: outputId, modelId, source });
  return 'registered';
}
