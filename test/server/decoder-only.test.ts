/** A decoder-only model through the whole server: what its prompts, positions, vectors and adapters mean to a client. */
import assert from 'node:assert/strict';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  BuildPromptDocument,
  EmbedDocument,
  GenerateDocument,
  type GenerationFieldsFragment,
  LoadAdapterDocument,
  LoadModelDocument,
  ModelsDocument,
  SummarizeDocument,
  SummaryStreamDocument,
  TokenizeDocument,
} from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { repositoryPath } from '../support/oracle.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { tinyGpt2, tinyLlama, writeTinyDecoderOnly } from '../support/tiny-decoder-only.ts';
import { temporaryFolder } from '../support/tiny-model.ts';

const CHAT = "{{ 't3 ' + messages[0].content + ' t4' }}";
const CONTEXT = 64;
/** The tiny tokenizer knows no other words than these. */
const WORDS = Array.from({ length: 200 }, (_, index) => `t${5 + (index % 100)}`);

function words(count: number): string {
  return WORDS.slice(0, count).join(' ');
}

describe('decoder-only models', () => {
  let server: TestServer;
  const cleanup = lastFirst({ after });

  before(async () => {
    const models = await temporaryFolder(cleanup);
    const adapters = await temporaryFolder(cleanup);
    const llama = await writeTinyDecoderOnly(
      cleanup,
      { ...tinyLlama, max_position_embeddings: CONTEXT },
      { 'chat_template.jinja': CHAT },
    );
    const gpt2 = await writeTinyDecoderOnly(cleanup, { ...tinyGpt2, n_positions: CONTEXT });
    await cp(llama.folder, join(models, 'llama'), { recursive: true });
    await cp(gpt2.folder, join(models, 'gpt2'), { recursive: true });
    await mkdir(join(models, 'gguf'));
    await cp(repositoryPath('test/fixtures/gguf/tiny-qwen2/model.gguf'), join(models, 'gguf/model.gguf'));
    for (const [name, config, targets] of [
      ['llama-lora', tinyLlama, ['q_proj', 'down_proj']],
      ['gpt2-dora', tinyGpt2, ['c_attn']],
    ] as const) {
      await writeTinyAdapter(adapters, name, {
        targets,
        spread: 1.5,
        dora: name === 'gpt2-dora',
        model: { config },
        config: {
          task_type: 'CAUSAL_LM',
          fan_in_fan_out: name === 'gpt2-dora',
          base_model_name_or_path: name.split('-')[0],
        },
      });
    }
    server = await startTestServer(cleanup, { GISTQL_MODELS_DIR: models, GISTQL_ADAPTERS_DIR: adapters });
    for (const id of ['llama', 'gpt2', 'gguf']) {
      await server.data(LoadModelDocument, { input: { id, source: `dir:${id}` } });
    }
  });

  async function generate(input: object): Promise<GenerationFieldsFragment> {
    return (await server.data(GenerateDocument, { input: { model: 'llama', prompt: words(5), ...input } })).generate;
  }

  test('say what they are', async () => {
    const { models } = await server.data(ModelsDocument, {});
    const facts = models.map(({ id, family, architecture, maxInputTokens }) => [
      id,
      family,
      architecture,
      maxInputTokens,
    ]);
    assert.deepEqual(facts.slice(1), [
      ['llama', 'LLAMA', 'LlamaForCausalLM', CONTEXT - 1],
      ['gpt2', 'GPT2', 'GPT2LMHeadModel', CONTEXT - 1],
      ['gguf', 'LLAMA', 'Qwen2ForCausalLM', 127],
    ]);
  });

  test('an answer that reaches the last position ends with LENGTH; a prompt that leaves none is refused or cut', async () => {
    const unending = { maxNewTokens: 50, minNewTokens: 50 };
    const { sequences, usage } = await generate({ prompt: words(CONTEXT - 10), decoding: unending });
    assert.deepEqual([sequences[0]?.tokenIds.length, sequences[0]?.finishReason], [10, 'LENGTH']);
    assert.equal(usage.totalTokens, CONTEXT);
    const longest = await generate({ prompt: words(CONTEXT - 1), decoding: { maxNewTokens: 5 } });
    assert.equal(longest.sequences[0]?.tokenIds.length, 1);
    const { errors } = await server.ask(GenerateDocument, { input: { model: 'llama', prompt: words(CONTEXT) } });
    assert.equal(errors[0]?.extensions.code, 'INPUT_TOO_LONG');
    const cut = await generate({ prompt: words(CONTEXT + 20), onOverflow: 'TRUNCATE' });
    assert.equal(cut.promptTokenIds.length, CONTEXT - 1);
  });

  test('a dialogue is cut so that its summary has room', async () => {
    for (const model of ['llama', 'gpt2']) {
      const input = {
        model,
        text: words(150),
        template: 'plain',
        onOverflow: 'TRUNCATE' as const,
        decoding: { maxNewTokens: 20, minNewTokens: 20 },
      };
      const { summarize } = await server.data(SummarizeDocument, { input });
      assert.equal(summarize.truncated, true);
      const { usage, sequences } = summarize.generation;
      assert.deepEqual([usage.promptTokens, sequences[0]?.tokenIds.length], [CONTEXT - 20, 20], model);
    }
  });

  test('the chat template frames what summarize asks, and buildPrompt shows it', async () => {
    const input = { model: 'llama', dialogue: words(6), template: 'plain' };
    const { buildPrompt } = await server.data(BuildPromptDocument, { input });
    assert.equal(buildPrompt.text, `t3 ${words(6)} t4`);
    assert.equal(buildPrompt.tokenCount, 8);
    const asked = { model: 'llama', text: words(6), template: 'plain', decoding: { maxNewTokens: 8 } };
    const { summarize } = await server.data(SummarizeDocument, { input: asked });
    const same = await generate({ prompt: buildPrompt.text, decoding: { maxNewTokens: 8 } });
    assert.deepEqual(summarize.generation.promptTokenIds, same.promptTokenIds);
    assert.deepEqual(summarize.generation.sequences[0]?.tokenIds, same.sequences[0]?.tokenIds);
    const bare = { model: 'gpt2', dialogue: words(6), template: 'plain' };
    assert.equal((await server.data(BuildPromptDocument, { input: bare })).buildPrompt.text, words(6));
  });

  test('deltas of a stream join to the summary', async () => {
    const input = {
      model: 'gpt2',
      text: words(9),
      template: 'plain',
      decoding: { maxNewTokens: 12, minNewTokens: 12 },
    };
    const { summarize } = await server.data(SummarizeDocument, { input });
    const connection = server.connect();
    let text = '';
    for await (const { data } of connection.subscribe(SummaryStreamDocument, { input })) {
      const event = data?.summaryStream;
      if (event?.__typename === 'TokensAppended') text += event.text;
    }
    await connection.close();
    assert.equal(text, summarize.text);
  });

  test('vectors: rows of the table, final states, their mean', async () => {
    for (const model of ['llama', 'gpt2', 'gguf']) {
      const text = model === 'gguf' ? 'one two' : words(4);
      const ask = async (changes: object) =>
        (await server.data(EmbedDocument, { input: { model, texts: [text], ...changes } })).embed[0];
      const tokens = await ask({ pooling: 'NONE', layer: 'ENCODER' });
      assert.equal(tokens?.vectors.length, tokens?.tokenIds.length);
      const pooled = await ask({ pooling: 'MEAN', layer: 'ENCODER', normalize: true });
      const length = Math.hypot(...(pooled?.vectors[0] ?? []));
      assert.ok(Math.abs(length - 1) < 1e-5, model);
      const inputs = await ask({ pooling: 'NONE', layer: 'INPUT' });
      assert.notDeepEqual(inputs?.vectors, tokens?.vectors);
    }
  });

  test('byte BPE from a GGUF file gives ranges in characters', async () => {
    const text = 'Café 😀 ok';
    const { tokenize } = await server.data(TokenizeDocument, { input: { model: 'gguf', text } });
    const characters = [...text];
    const covered = new Set<number>();
    for (const { start, end } of tokenize.tokens) {
      assert.ok(start != null && end != null && start < end && end <= characters.length);
      for (let index = start; index < end; index++) covered.add(index);
    }
    assert.equal(covered.size, characters.length);
  });

  test('adapters of both families, swapped and mixed in a batch', async () => {
    const plain = { llama: await generate({}), gpt2: await generate({ model: 'gpt2' }) };
    for (const [id, model] of [
      ['llama-lora', 'llama'],
      ['gpt2-dora', 'gpt2'],
    ] as const) {
      const { loadAdapter } = await server.data(LoadAdapterDocument, { input: { id, model, source: `dir:${id}` } });
      assert.deepEqual(loadAdapter.report.warnings, []);
      const adapted = { model, adapters: [{ id }] };
      const [one, other, again] = await Promise.all([generate(adapted), generate({ model }), generate(adapted)]);
      assert.deepEqual(other.sequences, plain[model].sequences);
      assert.deepEqual(one.sequences, again.sequences);
      assert.notDeepEqual(one.sequences, other.sequences);
    }
  });
});
