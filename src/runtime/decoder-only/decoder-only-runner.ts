/** Runs a decoder-only model's graph: prompts in chunks, then one token a row and step. */

import type { EmbeddingLayer } from '../engine/engine-client.ts';
import type { KvCache } from '../engine/kv-cache.ts';
import type { DecodedSteps, DecodingStart, Prefill, StepCaches } from '../engine/model-runner.ts';
import type { ScheduledRequest } from '../engine/scheduled-request.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { invariant } from '../errors.ts';
import type { SectionName } from '../graph/attention.ts';
import { floatCache } from '../graph/cached-tensors.ts';
import { AdapterCombination } from '../lora/adapter-combination.ts';
import { BatchRunner, type BatchRunnerParts, inputTokens, queriesOf } from '../models/batch-runner.ts';
import type { DecoderOnlyConfig } from '../models/model-config.ts';
import type { SessionOutputs } from '../session.ts';
import { floatTensor, longTensor, type TensorValue } from '../tensor.ts';
import { appended, CHUNK_TOKENS, emptyPast, type PromptChunk, PromptPrefill } from './prompt-prefill.ts';
import { rotaryFeeds } from './rotary.ts';

const MASKED = Number.NEGATIVE_INFINITY;

export interface DecoderOnlyRunnerParts extends BatchRunnerParts {
  /** [contextLength, d]; where positions are learned. */
  readonly positionEmbeddings: Float32Array | undefined;
}

export class DecoderOnlyRunner extends BatchRunner {
  private readonly positionEmbeddings: Float32Array | undefined;

  constructor(
    private readonly config: DecoderOnlyConfig,
    parts: DecoderOnlyRunnerParts,
  ) {
    super(config, parts, { layerCount: config.layerCount, heads: config, source: floatCache('source', config) });
    this.positionEmbeddings = parts.positionEmbeddings;
  }

  startOf(promptTokenIds: readonly number[]): DecodingStart {
    const tokenId = promptTokenIds.at(-1);
    invariant(tokenId !== undefined, 'a prompt has a token');
    return { tokenId, history: promptTokenIds };
  }

  prefill(tokenIds: readonly number[], adapters: AdapterCombination): Prefill {
    return new PromptPrefill(this.config, tokenIds, adapters, async (chunk) => {
      return (await this.runChunk(chunk, ['new_cache'])).floats('new_cache');
    });
  }

  async decode(plan: StepPlan, caches: StepCaches): Promise<DecodedSteps> {
    const requests = [...plan.singles, ...plan.groups];
    const positions = requests.flatMap(({ request, paths }) =>
      Array.from({ length: paths.rowCount }, (_, row) => request.promptTokenIds.length - 1 + paths.path(row).length),
    );
    const feeds = this.rowFeeds(inputTokens(plan), positions);
    feedSection(feeds, 'singles', plan.singles, caches.singles, { queries: 1, shared: 1 });
    const queries = queriesOf(plan.groups.map(({ paths }) => paths.rowCount));
    feedSection(feeds, 'groups', plan.groups, caches.groups, { queries, shared: this.sharedHeads });
    return this.runStep(plan, feeds);
  }

  async embed(
    tokenIds: readonly number[],
    layer: EmbeddingLayer,
    between: () => Promise<void> = async () => {},
  ): Promise<Float32Array> {
    if (layer === 'input') return this.table.rows(tokenIds);
    const { hiddenSize } = this.config;
    const states = new Float32Array(tokenIds.length * hiddenSize);
    let past = emptyPast(this.config);
    while (past.length < tokenIds.length) {
      if (past.length > 0) await between();
      const chunk = tokenIds.slice(past.length, past.length + CHUNK_TOKENS);
      const adapters = AdapterCombination.none;
      const outputs = await this.runChunk({ tokenIds: chunk, past, adapters }, ['new_cache', 'states']);
      states.set(outputs.floats('states'), past.length * hiddenSize);
      past = appended(this.config, past, outputs.floats('new_cache'), chunk.length);
    }
    return states;
  }

  /** Heads of queries to a head of keys. */
  private get sharedHeads(): number {
    return this.config.headCount / this.config.keyValueHeadCount;
  }

  /** Runs a piece of a prompt as one group whose queries are its tokens. */
  private runChunk({ tokenIds, past, adapters }: PromptChunk, outputNames: readonly string[]): Promise<SessionOutputs> {
    const count = tokenIds.length;
    const queries = queriesOf([count]);
    const feeds = this.rowFeeds(
      tokenIds,
      tokenIds.map((_, index) => past.length + index),
    );
    this.feedNothing(feeds, 'singles', 0);
    this.feedNothing(feeds, 'groups', 1);
    feeds['singles.mask'] = floatTensor(new Float32Array(0), [0, 1, 1, 1]);
    const { keyValueHeadCount, headSize } = this.config;
    const dims = [1, keyValueHeadCount, past.length, headSize];
    for (const [part, { name }] of floatCache('source', this.config).entries()) {
      for (const [layer, data] of (past.parts[part] ?? []).entries()) feeds[`groups.${name}.${layer}`] = { data, dims };
    }
    const width = past.length + queries;
    const rows = this.sharedHeads * queries;
    const mask = new Float32Array(rows * width);
    for (let row = 0; row < rows; row++) {
      // a token sees those before it and itself
      const seen = past.length + (row % queries) + 1;
      mask.fill(MASKED, row * width + seen, (row + 1) * width);
    }
    feeds['groups.mask'] = floatTensor(mask, [1, 1, rows, width]);
    const all = { groups: [count], adapters: tokenIds.map(() => adapters) };
    return this.runRows(feeds, all, outputNames);
  }

  /** What every run is fed of its rows. */
  private rowFeeds(tokenIds: readonly number[], positions: readonly number[]): Record<string, TensorValue> {
    const { config } = this;
    const { hiddenSize, contextLength } = config;
    invariant(tokenIds.length === positions.length, 'every row has an input token');
    invariant(Math.max(...positions) < contextLength, 'positions are those of the model');
    const embedded = this.table.rows(tokenIds);
    if (this.positionEmbeddings !== undefined) addRows(embedded, this.positionEmbeddings, positions, hiddenSize);
    const feeds: Record<string, TensorValue> = {
      token_embeddings: floatTensor(embedded, [tokenIds.length, hiddenSize]),
    };
    if (config.family === 'llama') {
      Object.assign(feeds, rotaryFeeds(config, positions));
      feeds.rotary_places = longTensor([...positions.keys()], [positions.length, 1]);
    }
    return feeds;
  }

  /** The cache of a section in which nothing is cached. */
  private feedNothing(feeds: Record<string, TensorValue>, name: SectionName, count: number): void {
    const { keyValueHeadCount, headSize, layerCount } = this.config;
    const nothing = floatTensor(new Float32Array(0), [count, keyValueHeadCount, 0, headSize]);
    for (let layer = 0; layer < layerCount; layer++) {
      for (const kind of ['self_keys', 'self_values', 'source_keys', 'source_values']) {
        feeds[`${name}.${kind}.${layer}`] = nothing;
      }
    }
  }
}

/** Fills a section's mask [g, 1, shared·q, source + positions + q] and cache views. */
function feedSection(
  feeds: Record<string, TensorValue>,
  name: SectionName,
  requests: readonly ScheduledRequest[],
  cache: KvCache,
  { queries, shared }: { readonly queries: number; readonly shared: number },
): void {
  const { positions, sourceLength } = cache;
  const width = sourceLength + positions + queries;
  const rows = shared * queries;
  const mask = new Float32Array(requests.length * rows * width).fill(MASKED);
  for (const [group, request] of requests.entries()) {
    for (let row = 0; row < rows; row++) {
      const query = row % queries;
      const start = (group * rows + row) * width;
      mask.fill(0, start, start + request.sourceLength);
      // a query that pads the group sees the prompt and itself: its result is not read, but it must not be NaN
      mask[start + sourceLength + positions + query] = 0;
      if (query >= request.paths.rowCount) continue;
      for (const entry of request.paths.path(query)) mask[start + sourceLength + entry] = 0;
    }
  }
  feeds[`${name}.mask`] = floatTensor(mask, [requests.length, 1, rows, width]);
  cache.feed(feeds, name, requests.length);
}

function addRows(target: Float32Array, table: Float32Array, positions: readonly number[], size: number): void {
  for (const [row, position] of positions.entries()) {
    for (let index = 0; index < size; index++) {
      const place = row * size + index;
      target[place] = (target[place] as number) + (table[position * size + index] as number);
    }
  }
}
