/** Samples as tokens: prompts are those of serving, and summaries are read as what follows them. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../../src/runtime/models/parse-config.ts';
import { readChatFrame } from '../../../src/runtime/prompts/chat-template.ts';
import { findTemplate, framePrompt, type PromptFrame } from '../../../src/runtime/prompts/templates.ts';
import {
  readSampleTokens,
  type SampleReading,
  type SampleTokens,
} from '../../../src/training/samples/sample-tokens.ts';
import { openTokenizer } from '../../support/open-tokenizer.ts';
import { oracleTest } from '../../support/oracle.ts';
import { tinyGpt2, writeTinyDecoderOnly } from '../../support/tiny-decoder-only.ts';
import { tinyConfig, writeTinyModel } from '../../support/tiny-model.ts';

const TEXT = 'Ann: Hi!\nBob: Shall we meet at nine?\nAnn: Yes.';
const SUMMARY = 'Ann and Bob meet at nine.';
const GPT2_END = 50_256;
const CHAT = `{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

const summarize = framePrompt(findTemplate('summarize-conversation'), [], undefined);

function gpt2Config(contextLength: number) {
  return parseConfig({ ...tinyGpt2, vocab_size: 50_257, eos_token_id: GPT2_END, n_positions: contextLength });
}

type Options = Pick<SampleReading, 'config' | 'tokenizer'> & Partial<SampleReading>;

function read(options: Options, frame: PromptFrame, text = TEXT, summary = SUMMARY): Promise<SampleTokens> {
  const limits = { maxSourceTokens: 512, maxTargetTokens: 128 };
  return readSampleTokens({ id: 'one', index: 0, text, references: [summary] }, { ...limits, frame, ...options });
}

oracleTest('GPT-2: prompt and summary are the tokens of one text, and an end', 'tokenizers/gpt2', async (folder) => {
  const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'));
  const { source, target } = await read({ config: gpt2Config(1024), tokenizer }, summarize);
  const prompt = summarize.before + TEXT + summarize.after;
  assert.deepEqual([...source.ids], await tokenizer.encode(prompt));
  // the cue ends in a colon: a space follows it, which belongs to the summary's first token
  assert.deepEqual([...source.ids, ...target.ids], [...(await tokenizer.encode(`${prompt} ${SUMMARY}`)), GPT2_END]);
  assert.equal(await tokenizer.decode([...target.ids].slice(0, -1)), ` ${SUMMARY}`);
  assert.deepEqual([source.cut, target.cut], [false, false]);
});

oracleTest(
  'GPT-2: what does not fit the positions is cut, the frame stays whole',
  'tokenizers/gpt2',
  async (folder) => {
    const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'));
    const config = gpt2Config(32);
    const { source, target } = await read({ config, tokenizer }, summarize, TEXT, `${SUMMARY} ${SUMMARY} ${SUMMARY}`);
    assert.deepEqual([source.cut, target.cut], [true, true]);
    // a summary takes half of the positions at most
    assert.equal(target.ids.length, 16);
    assert.equal(target.ids.at(-1), GPT2_END);
    assert.equal(source.ids.length + target.ids.length, 32);
    const prompt = await tokenizer.decode([...source.ids]);
    assert.ok(prompt.startsWith(`${summarize.before}Ann:`) && prompt.endsWith(summarize.after), prompt);
    const long = await read({ config, tokenizer, maxTargetTokens: 6 }, summarize);
    assert.deepEqual([long.target.ids.length, long.source.ids.length], [6, 26]);
  },
);

oracleTest('an instruct model reads its chat, and answers at once', 'tokenizers/gpt2', async (folder) => {
  const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'));
  const frame = framePrompt(findTemplate('summarize-conversation'), [], await readChatFrame(CHAT, {}));
  const { source, target } = await read({ config: gpt2Config(1024), tokenizer }, frame);
  const prompt = await tokenizer.decode([...source.ids]);
  assert.ok(prompt.startsWith('<|im_start|>user\nSummarize') && prompt.endsWith('<|im_start|>assistant\n'), prompt);
  // no space behind a new line
  assert.equal(await tokenizer.decode([...target.ids].slice(0, -1)), SUMMARY);
});

test('a summary that would run into its prompt is read alone', async (t) => {
  const { folder } = await writeTinyDecoderOnly(t, tinyGpt2);
  const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'));
  const frame = framePrompt(findTemplate('plain'), [], undefined);
  const tiny = { config: parseConfig(tinyGpt2), tokenizer };
  const { source, target } = await read(tiny, frame, 't5 t17 t9', 't17 t5');
  assert.deepEqual(
    [[...source.ids], [...target.ids]],
    [
      [5, 17, 9],
      [17, 5, 1],
    ],
  );
  // nothing to read: a model reads its end
  const empty = await read(tiny, frame, '', 't5');
  assert.deepEqual([[...empty.source.ids], [...empty.target.ids]], [[1], [5, 1]]);
  // an end that a summary brings along is not doubled
  assert.deepEqual([...(await read(tiny, frame, 't5', 't6</s>')).target.ids], [6, 1]);
});

test("T5's sources and targets are apart", async (t) => {
  const { folder } = await writeTinyModel(t);
  const tokenizer = await openTokenizer(join(folder, 'tokenizer.json'));
  const options = { config: parseConfig(tinyConfig()), tokenizer, maxSourceTokens: 2, maxTargetTokens: 3 };
  const frame = framePrompt(findTemplate('plain'), [], undefined);
  const { source, target } = await read(options, frame, 't5 t17 t9', 't17 t5 t4 t3');
  assert.deepEqual(
    [source, target].map(({ ids, cut }) => [[...ids], cut]),
    [
      [[5, 17], true],
      [[17, 5, 1], true],
    ],
  );
});
