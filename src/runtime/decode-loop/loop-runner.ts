/** What the runners of all families share whose runs of the decoder make several steps (build-decode-loop.ts). */

import { lengthBucket } from '../engine/kv-cache.ts';
import type { DecodedSteps, StepCaches } from '../engine/model-runner.ts';
import type { StepPlan } from '../engine/step-plan.ts';
import { AdaptingRunner, type AdaptingRunnerParts } from '../models/adapting-runner.ts';
import type { ModelConfig } from '../models/model-config.ts';
import { cacheFeeds, type LoopBatch, longestSource } from './cache-feeds.ts';
import { DecodedLoop } from './decoded-loop.ts';
import { type LoopFeeds, loopFeeds } from './loop-feeds.ts';
import { LoopHeads } from './loop-heads.ts';
import { loopRows } from './loop-rows.ts';

/**
 * What joins or is cancelled waits for the end of a run, which is short where it can be. Between two runs the cache of
 * every row goes over the bus: the more rows, the longer the runs.
 */
const STEPS_OF_A_ROW = 4;
const [LEAST_STEPS, MOST_STEPS] = [32, 128];
/** Bytes of whole rows of logits, and of new keys and values, that a run may report; fewer steps are made for them. */
const MOST_LOGIT_BYTES = 2 ** 26;
const MOST_CACHE_BYTES = 2 ** 31;

const REPORTS = ['tokens', 'parents', 'log_sum_exp', 'top_logits', 'top_ids', 'new_cache'];

export abstract class LoopRunner extends AdaptingRunner {
  /** Whether the graph makes something of sources that adapters change. */
  protected abstract readonly adaptsSources: boolean;
  private readonly heads: LoopHeads;

  constructor(
    private readonly config: ModelConfig,
    private readonly parts: AdaptingRunnerParts,
  ) {
    const heads = new LoopHeads(config, parts.memory.headBytes);
    super(config, { ...parts, others: [...parts.others, heads] });
    this.heads = heads;
  }

  mostSteps(rowCount: number): number {
    return Math.min(MOST_STEPS, Math.max(LEAST_STEPS, STEPS_OF_A_ROW * rowCount));
  }

  async decode(plan: StepPlan, caches: StepCaches): Promise<DecodedSteps> {
    const { vocabularySize, eosTokenIds } = this.config;
    const rows = loopRows(plan, (promptTokenIds) => this.startOf(promptTokenIds).history);
    const wholeCount = rows.filter(({ needs }) => needs.allLogits).length;
    const stepCount = this.affordable(plan.stepCount, rows.length, wholeCount);
    const longest = rows.reduce((most, { request, index }) => Math.max(most, request.paths.path(index).length), 0);
    const positions = lengthBucket(longest + stepCount);
    const batch = { plan, caches, rows, positions, sourceLength: longestSource(caches) };
    const requests = [...plan.singles, ...plan.groups];
    const adapters = rows.map(({ request }) => request.adapters);
    const feeds = {
      ...loopFeeds(rows, positions, { stepCount, vocabularySize, eosTokenIds }),
      ...cacheFeeds(batch, this.parts.cache),
      ...this.adapterFeeds(adapters, this.adaptsSources ? requests.map((request) => request.adapters) : undefined),
      ...this.heads.feeds(adapters),
      ...this.familyFeeds(batch, stepCount),
    };
    const names = [...REPORTS];
    if (wholeCount > 0) names.push('all_logits');
    if (rows.some(({ needs }) => needs.askedIds.length > 0)) names.push('asked_logits');
    const outputs = await this.parts.decoder.session.run(feeds, names);
    return new DecodedLoop(outputs, rows, vocabularySize);
  }

  /** Steps whose reports of so many rows, and of whole logits of `wholeCount` of them, fit. */
  private affordable(stepCount: number, rowCount: number, wholeCount: number): number {
    const { layerCount, heads } = this.parts.cache;
    const { headCount, headSize, keyValueHeadCount = headCount } = heads;
    const cacheBytes = rowCount * 2 * layerCount * keyValueHeadCount * headSize * Float32Array.BYTES_PER_ELEMENT;
    const logitBytes = wholeCount * this.config.vocabularySize * Float32Array.BYTES_PER_ELEMENT;
    const byLogits = logitBytes === 0 ? stepCount : Math.floor(MOST_LOGIT_BYTES / logitBytes);
    return Math.max(1, Math.min(stepCount, byLogits, Math.floor(MOST_CACHE_BYTES / cacheBytes)));
  }

  /** The inputs that are the family's own. */
  protected abstract familyFeeds(batch: LoopBatch, stepCount: number): LoopFeeds;
}
