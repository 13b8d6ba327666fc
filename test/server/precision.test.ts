/** The embedded model in 8 bits beside float32: under an id of its own, smaller, and just as sure of its answers. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  EmbedDocument,
  GenerateDocument,
  type GenerationFieldsFragment,
  LoadAdapterDocument,
  LoadModelDocument,
  ModelsDocument,
  SummarizeDocument,
} from '../generated/operations.ts';
import { lastFirst } from '../support/cleanup.ts';
import { firstDialogue, secondDialogue } from '../support/dialogues.ts';
import { startTestServer, type TestServer } from '../support/start-server.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

describe('INT8', () => {
  let server: TestServer;
  const cleanup = lastFirst({ after });

  before(async () => {
    const adapters = await temporaryFolder(cleanup);
    const model = await writeTinyModel(cleanup, { gated: true });
    await writeTinyAdapter(adapters, 'lora', { model: { gated: true }, spread: 1.5 });
    await writeTinyAdapter(adapters, 'zero', { model: { gated: true }, zeroB: true });
    await writeTinyAdapter(adapters, 'head', { model: { gated: true }, head: true });
    server = await startTestServer(cleanup, { GISTQL_MODELS_DIR: model.parent, GISTQL_ADAPTERS_DIR: adapters });
    await server.data(LoadModelDocument, { input: { id: 'int8', source: 'embedded:gist-mini', precision: 'INT8' } });
    await server.data(LoadModelDocument, { input: { id: 'tiny', source: `dir:${model.name}`, precision: 'INT8' } });
  });

  const summarize = async (model: string, text: string, decoding: object = {}) =>
    (await server.data(SummarizeDocument, { input: { model, text, decoding } })).summarize;

  test('is told, and takes three tenths of the memory at most, although the tied table is there twice', async () => {
    const { models } = await server.data(ModelsDocument, {});
    const [float32, int8] = models;
    assert.deepEqual([float32?.precision, int8?.precision], ['FP32', 'INT8']);
    assert.ok((int8?.memoryBytes ?? 0) <= 0.3 * (float32?.memoryBytes ?? 0));
  });

  test('equal requests give equal tokens: alone, and with others of every kind', async () => {
    const kinds = [{}, { numBeams: 4 }, { doSample: true, seed: 4 }, { numBeams: 3, numReturnSequences: 2 }];
    const alone: GenerationFieldsFragment['sequences'][] = [];
    for (const decoding of kinds) alone.push((await summarize('int8', firstDialogue, decoding)).generation.sequences);
    const together = await Promise.all([
      ...kinds.map((decoding) => summarize('int8', firstDialogue, decoding)),
      summarize('int8', secondDialogue),
      summarize('int8', secondDialogue, { numBeams: 2 }),
    ]);
    for (const [index, sequences] of alone.entries()) {
      assert.deepEqual(together[index]?.generation.sequences, sequences);
    }
  });

  test('equal requests give equal tokens when the model is loaded anew', async () => {
    await server.data(LoadModelDocument, { input: { id: 'again', source: 'embedded:gist-mini', precision: 'INT8' } });
    for (const decoding of [{}, { numBeams: 4 }, { doSample: true, seed: 4 }]) {
      const [first, second] = [
        await summarize('int8', firstDialogue, decoding),
        await summarize('again', firstDialogue, decoding),
      ];
      assert.deepEqual(second.generation.sequences, first.generation.sequences);
    }
  });

  test('says nearly what float32 says', async () => {
    const vectors = async (model: string) =>
      (await server.data(EmbedDocument, { input: { model, texts: [firstDialogue], pooling: 'MEAN', normalize: true } }))
        .embed[0]?.vectors[0] ?? [];
    const [float32, int8] = [await vectors('gist-mini'), await vectors('int8')];
    const cosine = float32.reduce((sum, value, index) => sum + value * (int8[index] ?? 0), 0);
    assert.ok(cosine > 0.999, String(cosine));
    const [first] = (await summarize('gist-mini', firstDialogue)).generation.sequences;
    const [second] = (await summarize('int8', firstDialogue)).generation.sequences;
    const [logprob, other] = [first?.tokens[0], second?.tokens[0]];
    assert.equal(logprob?.id, other?.id);
    assert.ok(Math.abs((logprob?.logprob ?? 0) - (other?.logprob ?? 9)) < 0.2);
  });

  test('adapters add to it: factors, nothing at all, a head of their own', async () => {
    for (const id of ['lora', 'zero', 'head']) {
      await server.data(LoadAdapterDocument, { input: { id, model: 'tiny', source: `dir:${id}` } });
    }
    const generate = async (adapters: { id: string; weight?: number }[]) => {
      const input = { model: 'tiny', prompt: 't5 t17 t40', adapters, decoding: { maxNewTokens: 12, minNewTokens: 12 } };
      return (await server.data(GenerateDocument, { input })).generate.sequences;
    };
    const plain = await generate([]);
    assert.deepEqual(await generate([{ id: 'zero' }]), plain);
    const own = await generate([{ id: 'lora' }]);
    assert.notDeepEqual(own, plain);
    assert.notDeepEqual(await generate([{ id: 'head', weight: 0.5 }]), plain);
    const [mixed, other] = await Promise.all([generate([{ id: 'lora' }]), generate([])]);
    assert.deepEqual([mixed, other], [own, plain]);
  });
});
