/** Prompts of templates and shots, and what is cut when they are too long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EngineTextGenerator } from '../../src/runtime/engine-text-generator.ts';
import type { RuntimeError } from '../../src/runtime/errors.ts';
import type { ServedModel } from '../../src/runtime/models/served-model.ts';
import type { Shot, SummaryRequest } from '../../src/runtime/summarization.ts';
import { TemplateSummarizer } from '../../src/runtime/template-summarizer.ts';
import type { TextGeneration } from '../../src/runtime/text-generation.ts';
import { dialogues, firstDialogue, secondDialogue } from '../support/dialogues.ts';
import { withoutAdapters } from '../support/scripted-adapters.ts';
import { directoryOf, gistMini, ScriptedEngine } from '../support/scripted-engine.ts';
import { seededNumbers } from '../support/seeded-numbers.ts';

const SEED = 5;
const shots: readonly Shot[] = [
  { dialogue: 'A: Hello.\nB: Hi.', summary: 'They greet each other.' },
  { dialogue: 'A: Bye.\nB: Bye.', summary: 'They say goodbye.' },
];

async function setUp(
  changes: { readonly maxInputTokens?: number } & Partial<ServedModel> = {},
): Promise<{ engine: ScriptedEngine; summarizer: TemplateSummarizer }> {
  const { tokenizer } = await gistMini();
  const sequences = await Promise.all(['They meet at six.', 'Six it is.'].map((text) => tokenizer.encode(text)));
  const engine = new ScriptedEngine({ sequences });
  const models = await directoryOf(engine, changes);
  return {
    engine,
    summarizer: new TemplateSummarizer(models, new EngineTextGenerator(models, await withoutAdapters(models))),
  };
}

function ask(text: string, changes: Partial<SummaryRequest> = {}): SummaryRequest {
  return { text, onOverflow: 'truncate', decoding: { numBeams: 2, numReturnSequences: 2 }, ...changes };
}

test('every template has a dialogue before its summary, and an id of its own', async () => {
  const { templates } = (await setUp()).summarizer;
  for (const { text } of templates) assert.match(text, /^[^{}]*\{dialogue\}[^{}]*\{summary\}[^{}]*$/);
  assert.equal(new Set(templates.map(({ id }) => id)).size, templates.length);
});

test("without shots the prompt is gist-mini's own", async () => {
  const { summarizer } = await setUp();
  const { text, shotCount, tokenCount, template } = await summarizer.buildPrompt({ dialogue: firstDialogue });
  const { tokenizer } = await gistMini();
  assert.equal(text, `Summarize the following conversation.\n\n${firstDialogue}\n\nSummary:`);
  assert.equal(template.id, 'summarize-conversation');
  assert.equal(shotCount, 0);
  assert.equal(tokenCount, (await tokenizer.encode(text)).length);
});

test('shots are whole templates, two empty lines apart, before the text', async () => {
  const { summarizer } = await setUp();
  const asked = { dialogue: 'A: Six?\nB: Six.', shots };
  assert.equal(
    (await summarizer.buildPrompt({ ...asked, templateId: 'what-was-going-on' })).text,
    [
      'Dialogue:\n\nA: Hello.\nB: Hi.\n\nWhat was going on?\nThey greet each other.',
      'Dialogue:\n\nA: Bye.\nB: Bye.\n\nWhat was going on?\nThey say goodbye.',
      'Dialogue:\n\nA: Six?\nB: Six.\n\nWhat was going on?\n',
    ].join('\n\n\n'),
  );
  const { text, shotCount } = await summarizer.buildPrompt(asked);
  assert.match(text, /\n\nSummary: They greet each other\.\n\n\nSummarize the following/);
  assert.match(text, /\n\nSummary:$/);
  assert.equal(shotCount, 2);
});

test('braces in a dialogue are text', async () => {
  const { summarizer } = await setUp();
  const dialogue = 'A: {summary} or {dialogue}? $& $1';
  const { text } = await summarizer.buildPrompt({ dialogue, shots: [{ dialogue, summary: dialogue }] });
  assert.equal(text.split(dialogue).length, 4);
});

test("the request's template outranks the model's, which outranks ours; an unknown one is refused with the known", async () => {
  const { summarizer } = await setUp({ templateId: 'plain' });
  assert.equal((await summarizer.buildPrompt({ dialogue: 'x' })).template.id, 'plain');
  const asked = { dialogue: 'x', templateId: 'what-was-going-on' };
  assert.equal((await summarizer.buildPrompt(asked)).template.id, 'what-was-going-on');
  await assert.rejects(summarizer.buildPrompt({ dialogue: 'x', templateId: 'haiku' }), (error: RuntimeError) => {
    assert.equal(error.code, 'NOT_FOUND');
    for (const { id } of summarizer.templates) assert.ok(error.message.includes(id));
    return true;
  });
});

test('a summary is the first text, untrimmed, and the others; its deltas join to it', async () => {
  const { engine, summarizer } = await setUp();
  const summary = await summarizer.summarize(ask(firstDialogue));
  assert.equal(summary.text, 'They meet at six.');
  assert.deepEqual(summary.alternatives, ['Six it is.']);
  assert.equal(summary.truncated, false);
  assert.equal(summary.id, summary.generation.id);
  assert.equal(engine.requests.length, 1);
  let joined = '';
  let generation: TextGeneration | undefined;
  for await (const event of summarizer.stream(ask(firstDialogue))) {
    if (event.type === 'finished') generation = event.generation;
    else if (event.sequenceIndex === 0) joined += event.text;
  }
  assert.equal(joined, summary.text);
  assert.equal(generation?.prompt, summary.generation.prompt);
});

/** One more token of the dialogue would be too many: what is left out begins with a token that does not fit. */
async function expectFullest(
  prompt: string,
  dialogue: string,
  before: string,
  after: string,
  most: number,
): Promise<void> {
  const { tokenizer } = await gistMini();
  assert.ok(prompt.startsWith(before) && prompt.endsWith(after));
  const kept = prompt.slice(before.length, prompt.length - after.length);
  assert.ok(kept.length > 0 && dialogue.startsWith(kept) && kept.length < dialogue.length);
  assert.ok((await tokenizer.countTokens(prompt)) <= most);
  const tokens = await tokenizer.encodeWithOffsets(dialogue, { addSpecialTokens: false });
  const characters = [...dialogue];
  const next = tokens.find(({ end }) => (end ?? 0) > [...kept].length);
  const longer = before + characters.slice(0, next?.end).join('') + after;
  assert.ok((await tokenizer.countTokens(longer)) > most, 'a token more would fit');
}

test(`a dialogue is cut at a token's end to what fits, for every template and with shots (seed ${SEED})`, async () => {
  const next = seededNumbers(SEED);
  const dialogue = Array.from({ length: 8 }, () => `${dialogues.join('\n')} 😀 naïve`).join('\n');
  const { templates } = (await setUp()).summarizer;
  for (const { id, text: templateText } of templates) {
    for (const used of [[], shots]) {
      const most = 120 + Math.floor(next() * 100);
      const { summarizer } = await setUp({ maxInputTokens: most });
      const { text } = await summarizer.buildPrompt({ dialogue: '', templateId: id, shots: used });
      const after = templateText.replace('{summary}', '').split('{dialogue}')[1] ?? '';
      const before = text.slice(0, text.length - after.length);
      const summary = await summarizer.summarize(ask(dialogue, { templateId: id, shots: used }));
      assert.equal(summary.truncated, true);
      assert.equal(summary.generation.truncated, true);
      await expectFullest(summary.generation.prompt, dialogue, before, after, most);
      assert.ok(summary.generation.usage.promptTokens <= most);
    }
  }
});

test('a dialogue of a million characters is cut', async () => {
  const { summarizer } = await setUp();
  const summary = await summarizer.summarize(ask(`${secondDialogue}\n`.repeat(5000)));
  assert.equal(summary.generation.usage.promptTokens, 512);
});

test('with onOverflow: ERROR a dialogue that is too long is refused', async () => {
  const { engine, summarizer } = await setUp({ maxInputTokens: 60 });
  const request = ask(secondDialogue.repeat(3), { onOverflow: 'error' });
  await assert.rejects(summarizer.summarize(request), { code: 'INPUT_TOO_LONG' });
  assert.equal(engine.requests.length, 0);
});

test('shots that leave no room for the dialogue are refused by name', async () => {
  const { engine, summarizer } = await setUp({ maxInputTokens: 60 });
  const many = Array.from({ length: 10 }, () => shots).flat();
  await assert.rejects(
    summarizer.summarize(ask(firstDialogue, { shots: many })),
    (error: RuntimeError) => error.code === 'INPUT_TOO_LONG' && error.details.argument === 'shots',
  );
  assert.equal(engine.requests.length, 0);
});
