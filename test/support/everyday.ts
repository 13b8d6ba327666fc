/** The dialogues of examples/datasets/everyday. */
import { readFileSync } from 'node:fs';
import { repositoryPath } from './oracle.ts';

export interface EverydayDialogue {
  readonly fname: string;
  readonly dialogue: string;
  readonly headline: string;
  /** In the training split. */
  readonly summary?: string;
  /** In the test split. */
  readonly summary1?: string;
  readonly summary2?: string;
  readonly summary3?: string;
}

export function readEveryday(split: 'train' | 'test'): readonly EverydayDialogue[] {
  const text = readFileSync(repositoryPath(`examples/datasets/everyday/${split}.jsonl`), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as EverydayDialogue);
}
