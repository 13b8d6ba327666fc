/** Texts to vectors over an engine that gives each token its number. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EmbedOptions, embedTexts } from '../../src/runtime/embedding.ts';
import { directoryOf, ScriptedEngine } from '../support/scripted-engine.ts';

const PLAIN: EmbedOptions = { layer: 'encoder', pooling: 'none', normalize: false };
const DIMENSION = 2;

/** Token n of a text is [n, 1]. */
class CountingEngine extends ScriptedEngine {
  asked: readonly (readonly number[])[] = [];

  constructor() {
    super({ sequences: [] });
  }

  override async embed(tokenIds: readonly (readonly number[])[] = []): Promise<readonly Float32Array[]> {
    this.asked = tokenIds;
    return tokenIds.map((ids) => Float32Array.from(ids.flatMap((_, index) => [index, 1])));
  }
}

async function setUp(maxInputTokens: number) {
  const engine = new CountingEngine();
  const directory = await directoryOf(engine, { maxInputTokens });
  const model = directory.get();
  return { engine, model: { ...model, config: { ...model.config, hiddenSize: DIMENSION } } };
}

test('a vector a token, or their mean, or that at length 1', async () => {
  const { engine, model } = await setUp(100);
  const [plain] = await embedTexts(model, ['They meet.'], PLAIN);
  const count = engine.asked[0]?.length ?? 0;
  assert.deepEqual(plain?.tokenIds, await model.tokenizer.encode('They meet.'));
  assert.equal(plain.dimension, DIMENSION);
  assert.deepEqual(
    plain.vectors,
    Array.from({ length: count }, (_, index) => [index, 1]),
  );
  const [pooled] = await embedTexts(model, ['They meet.'], { ...PLAIN, pooling: 'mean' });
  assert.deepEqual(pooled?.vectors, [[(count - 1) / 2, 1]]);
  const [unit] = await embedTexts(model, ['They meet.'], { ...PLAIN, pooling: 'mean', normalize: true });
  const [vector = []] = unit?.vectors ?? [];
  assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-6);
});

test('a text that is too long is refused by its place, with both counts and nothing that embed does not have', async () => {
  const { engine, model } = await setUp(5);
  const long = 'They meet at the old cafe in the evening.';
  const { length } = await model.tokenizer.encode(long);
  await assert.rejects(embedTexts(model, ['Hi', long], PLAIN), {
    code: 'INPUT_TOO_LONG',
    details: { argument: 'texts' },
    message: `Expected texts of at most 5 tokens, ${length} came in texts[1]. Shorten it or split it.`,
  });
  assert.deepEqual(engine.asked, []);
});
