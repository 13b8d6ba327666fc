import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { VariantLoader } from '../../src/commands/variant-loader.ts';
import { parseVariantSpec } from '../../src/commands/variant-spec.ts';
import type { Services } from '../../src/context.ts';
import { defaultModelRequest } from '../../src/services.ts';
import { writeDataset } from '../support/dataset-files.ts';
import { tinyRows } from '../support/evaluation-server.ts';
import { filesOf, HubServer } from '../support/hub-server.ts';
import { openTestServices } from '../support/open-services.ts';
import { writeTinyAdapter } from '../support/tiny-adapter.ts';
import { temporaryFolder, writeTinyModel } from '../support/tiny-model.ts';

const trainRows = tinyRows(2);

interface Setting {
  readonly services: Services;
  readonly loader: VariantLoader;
  /** Of the model and of the adapter. */
  readonly folders: readonly [string, string];
}

async function setUp(t: TestContext, environment: Readonly<Record<string, string>> = {}): Promise<Setting> {
  const { parent, folder } = await writeTinyModel(t);
  const [adapters, datasets] = [await temporaryFolder(t), await temporaryFolder(t)];
  const adapter = await writeTinyAdapter(adapters, 'one', { seed: 1 });
  await writeDataset(datasets, 'tiny', { 'test.jsonl': tinyRows(3), 'train.jsonl': trainRows });
  const { config, services } = await openTestServices(t, {
    GISTQL_MODEL: 'dir:tiny',
    GISTQL_MODELS_DIR: parent,
    GISTQL_ADAPTERS_DIR: adapters,
    GISTQL_DATASETS_DIR: datasets,
    GISTQL_DATA_DIR: await temporaryFolder(t),
    ...environment,
  });
  const loader = new VariantLoader({ services, defaultModel: defaultModelRequest(config), onProgress: () => {} });
  return { services, loader, folders: [folder, adapter.folder] };
}

test('variants from the command line', async (t) => {
  const { services, loader } = await setUp(t);

  async function load(specs: readonly string[], split = 'test') {
    const variants = specs.map(parseVariantSpec);
    await loader.loadModels(variants);
    return await loader.load(variants, 'tiny', split);
  }

  await t.test('each model and adapter is loaded once, and adapters go when the run is over', async () => {
    const loaded = await load(['label=a', 'label=b,model=tiny,adapters=dir:one', 'label=c,adapters=dir:one:2']);
    const id = 'evaluation.tiny.one';
    assert.deepEqual(
      loaded.map(({ modelId, adapters }) => ({ modelId, adapters })),
      [
        { modelId: 'tiny', adapters: null },
        { modelId: 'tiny', adapters: [{ id, weight: 1 }] },
        { modelId: 'tiny', adapters: [{ id, weight: 2 }] },
      ],
    );
    assert.deepEqual(
      services.adapters.list().map((adapter) => adapter.id),
      [id],
    );
    await loader.unloadAdapters();
    assert.deepEqual(services.adapters.list(), []);
  });

  await t.test('adapters that are registered are named by their ids and stay', async () => {
    await services.adapters.load({ id: 'mine', modelId: 'tiny', source: 'dir:one' });
    const [variant] = await load(['adapters=mine:0.5']);
    assert.deepEqual(variant?.adapters, [{ id: 'mine', weight: 0.5 }]);
    await loader.unloadAdapters();
    assert.ok(services.adapters.find('mine'));
  });

  await t.test('worked examples are the first ones of the training split, with their first reference', async () => {
    const loaded = await load(['label=zero', 'label=one,shots=1', 'label=two,shots=2']);
    const shots = (trainRows as readonly { dialogue: string; summary1: string }[]).map((row) => ({
      dialogue: row.dialogue,
      summary: row.summary1,
    }));
    assert.deepEqual(
      loaded.map((variant) => variant.shots),
      [null, shots.slice(0, 1), shots],
    );
  });

  await t.test('what is not there, or would measure what was told before, is refused', async () => {
    await assert.rejects(
      load(['shots=1'], 'train'),
      /Expected shots=0 on split train: worked examples are taken from it/,
    );
    await assert.rejects(load(['shots=3']), /Expected tiny to have 3 samples in split train, it has 2\./);
    await assert.rejects(
      load(['model=large']),
      /expected model to be dir:NAME, embedded:NAME, hub:OWNER\/NAME or tiny, "large" came/,
    );
    await assert.rejects(load(['model=dir:nowhere']), /nowhere/);
    await assert.rejects(
      load(['model=embedded:tiny']),
      /Expected models of different names, dir:tiny and embedded:tiny/,
    );
    await assert.rejects(load(['adapters=dir:nowhere']), /nowhere/);
  });
});

test('models and adapters of the hub are loaded once, by the commit that their revision is at', async (t) => {
  const hub = await HubServer.start(t);
  const { services, loader, folders } = await setUp(t, { HF_HOME: await temporaryFolder(t), HF_ENDPOINT: hub.url });
  const [model, adapter] = await Promise.all(folders.map(filesOf));
  const commit = hub.add({ repo: 'owner/other', files: model ?? {}, revisions: ['main', 'v1'] });
  hub.add({ repo: 'owner/one', files: adapter ?? {}, revisions: ['v2'] });
  const spec = 'model=hub:owner/other@v1,adapters=hub:owner/one@v2:0.5';
  const variants = [`label=a,${spec}`, `label=b,${spec}`].map(parseVariantSpec);
  await loader.loadModels(variants);
  const loaded = await loader.load(variants, 'tiny', 'test');
  const id = 'evaluation.other.owner-one-v2';
  for (const { modelId, adapters } of loaded) {
    assert.deepEqual([modelId, adapters], ['other', [{ id, weight: 0.5 }]]);
  }
  assert.equal(services.models.find('other')?.source, `hub:owner/other@${commit}`);
  assert.equal(hub.asked(/GET \/api/).length, 2);
  const another = ['model=hub:owner/other@main'].map(parseVariantSpec);
  await assert.rejects(
    loader.loadModels(another),
    /different names, hub:owner\/other@v1 and hub:owner\/other@main came/,
  );
});
