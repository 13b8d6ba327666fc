/** How much of prompts is read between two runs of the decoder: by the server, and by what measures it. */
import type { Device } from '../models/served-model.ts';

/** Prompt tokens: about a tenth of a second of a small model on a processor. */
const PREFILL_TOKENS: Readonly<Record<Device, number>> = { cpu: 512, cuda: 16_384 };

/** Returns the prompt tokens that are read between two runs on a device. */
export function prefillTokensOn(device: Device): number {
  return PREFILL_TOKENS[device];
}
