/**
 * A model that people have: SmolLM2-135M-Instruct answers what transformers answers in float32 (test/fixtures/smollm2.py;
 * cases that float64 answers alike), through its own tokenizer and chat template. Its folder is large: where it lies, the
 * environment says.
 */
import assert from 'node:assert/strict';
import { basename, dirname } from 'node:path';
import { test } from 'node:test';
import { readModelFiles } from '../../../src/runtime/models/model-files.ts';
import { findTemplate, framePrompt } from '../../../src/runtime/prompts/templates.ts';
import { HuggingFaceTokenizer } from '../../../src/runtime/tokenizer/hugging-face-tokenizer.ts';
import { EngineHarness, loadRunner } from '../../support/engine-harness.ts';
import { readJsonFile, repositoryPath } from '../../support/oracle.ts';

interface Case {
  readonly text: string;
  readonly promptIds: readonly number[];
  readonly answers: Readonly<Record<string, readonly (readonly number[])[]>>;
}

const OPTIONS = {
  greedy: {},
  beams4: { numBeams: 4 },
  beams4ngram3: { numBeams: 4, noRepeatNgramSize: 3 },
  beams5return3: { numBeams: 5, numReturnSequences: 3 },
} as const;

const folder = process.env.GISTQL_TEST_SMOLLM2 ?? '';
const skip = folder === '' ? 'needs GISTQL_TEST_SMOLLM2, the folder of SmolLM2-135M-Instruct' : false;

test('the seed question and two dialogues, all in one batch', { skip }, async (t) => {
  const cases = readJsonFile<readonly Case[]>(repositoryPath('test/fixtures/smollm2.json'));
  const { runner } = await loadRunner(dirname(folder), basename(folder));
  t.after(() => runner.dispose());
  const asked = cases.flatMap(({ text, promptIds, answers }) =>
    Object.keys(answers).map((kind) => ({
      id: `${text} ${kind}`,
      promptTokenIds: promptIds,
      options: { maxNewTokens: 40, ...OPTIONS[kind as keyof typeof OPTIONS] },
    })),
  );
  assert.ok(asked.length >= 10);
  const harness = await EngineHarness.runAll(runner, asked);
  for (const { text, answers } of cases) {
    for (const [kind, sequences] of Object.entries(answers)) {
      assert.deepEqual(harness.tokenIds(`${text} ${kind}`), sequences, `${text} ${kind}`);
    }
  }
});

test('its prompts are those of apply_chat_template', { skip }, async () => {
  const [question, ...dialogues] = readJsonFile<readonly Case[]>(repositoryPath('test/fixtures/smollm2.json'));
  const directories = { embedded: dirname(folder), models: dirname(folder) };
  const { chat, tokenizerJson } = await readModelFiles(`dir:${basename(folder)}`, directories);
  assert.ok(chat !== undefined && question !== undefined);
  const tokenizer = await HuggingFaceTokenizer.parse(tokenizerJson);
  assert.deepEqual(await tokenizer.encode(question.text), question.promptIds);
  const frame = framePrompt(findTemplate('summarize-conversation'), [], chat);
  for (const { text, promptIds } of dialogues) {
    assert.deepEqual(await tokenizer.encode(frame.before + text + frame.after, frame), promptIds);
  }
});
