/** Tokenizers by the paths of their files. */
import { readFile } from 'node:fs/promises';
import { HuggingFaceTokenizer } from '../../src/runtime/tokenizer/hugging-face-tokenizer.ts';

export async function openTokenizer(path: string): Promise<HuggingFaceTokenizer> {
  return HuggingFaceTokenizer.parse(await readFile(path, 'utf8'));
}
