/** Reads whole safetensors files. */
import { SafetensorsFile } from '../../src/storage/safetensors.ts';

/** All tensors, by name. */
export async function readTensors(path: string): Promise<Map<string, Float32Array>> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, Float32Array>();
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
    return tensors;
  } finally {
    await file.close();
  }
}
