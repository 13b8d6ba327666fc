/** Opens tokenizers that were made from the metadata of GGUF files. */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HuggingFaceTokenizer } from '../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import type { Cleanup } from './cleanup.ts';
import { writeGguf } from './gguf-bytes.ts';

export async function openTokenizer(t: Cleanup, tokenizerJson: string): Promise<HuggingFaceTokenizer> {
  const path = join(dirname(await writeGguf(t, undefined)), 'tokenizer.json');
  await writeFile(path, tokenizerJson);
  return HuggingFaceTokenizer.open(path);
}
