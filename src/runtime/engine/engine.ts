/**
 * Continuous batching: between any two steps of the model, requests join and leave the running batch. One call of
 * `step` retires who left, admits who waits, reads a piece of their prompts, runs a decode step of all rows (or several,
 * where a run of the model makes several) and hands each request's scores to its strategy. It knows token ids; text,
 * transport and policy are elsewhere.
 */
import type { DecodingStrategy, NextRow, RowNeeds, RowScores, TokensAppended } from '../decoding/decoding-strategy.ts';
import type { SamplingParams } from '../decoding/sampling-params.ts';
import { RuntimeError } from '../errors.ts';
import type { SectionName } from '../graph/attention.ts';
import { BatchSection, slotOf } from './batch-section.ts';
import type { GenerationOutput, GenerationRequest } from './generation-request.ts';
import type { DecodedSteps, ModelRunner, Numbers, Preparation } from './model-runner.ts';
import { type RunLimits, stepsOfRun } from './run-length.ts';
import { ScheduledRequest } from './scheduled-request.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';
import { planStep, type StepPlan, type StepTrace, traceOf } from './step-plan.ts';

export interface EngineEvents {
  /** Tokens that became certain in a step, of requests that asked to stream. */
  readonly onTokens: (requestId: string, tokens: readonly TokensAppended[]) => void;
  readonly onFinished: (requestId: string, output: GenerationOutput) => void;
  /** Something broke inside a step; the request is gone. */
  readonly onFailed: (requestId: string, error: unknown) => void;
  /** Called before each run of the decoder; absent: no traces are made. */
  readonly onStep?: (trace: StepTrace) => void;
}

export interface EngineOptions extends SchedulerOptions {
  /** `history` as in StrategyContext. */
  readonly createStrategy: (params: SamplingParams, history: readonly number[]) => DecodingStrategy;
  /** Bytes that keys and values may take: who does not fit beside those that run waits for them. Default: no limit. */
  readonly cacheBytes?: number;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

/** A few seconds' reading of a small model: longer than most batches take to gather. */
const MOST_GATHERING_STEPS = 8;
/** Pieces of interactive prompts for one of a background prompt: with more, it would wait for ever on a busy server. */
const MOST_PIECES_BEFORE = 16;

export class Engine {
  private readonly scheduler: Scheduler;
  private readonly sections: Record<SectionName, BatchSection>;
  /** Requests that have rows and whose prompts are being read, first come, first served. */
  private readonly prefilling = new Set<ScheduledRequest>();
  private stepNumber = 0;
  /** Steps that read prompts and decoded nothing, one after the other. */
  private gatheredSteps = 0;
  /** Interactive pieces that were read while a background one waited. */
  private piecesBefore = 0;
  /** What keeps requests from being run that are admitted all the same. */
  private readonly unprepared = new WeakMap<ScheduledRequest, unknown>();

  constructor(
    private readonly runner: ModelRunner,
    private readonly options: EngineOptions,
    private readonly events: EngineEvents,
  ) {
    this.scheduler = new Scheduler(options);
    this.sections = {
      singles: new BatchSection('singles', runner.createCache()),
      groups: new BatchSection('groups', runner.createCache()),
    };
  }

  get hasWork(): boolean {
    return this.scheduler.hasWork;
  }

  /** Bytes that the key/value cache holds. */
  get cacheBytes(): number {
    return this.sections.singles.cache.byteLength + this.sections.groups.cache.byteLength;
  }

  submit(request: GenerationRequest): void {
    const { tokenId, history } = this.runner.startOf(request.promptTokenIds);
    const strategy = this.options.createStrategy(request.params, history);
    const adapters = this.runner.combine(request.adapters);
    this.scheduler.add(new ScheduledRequest(request, strategy, { adapters, tokenId, now: this.options.now() }));
  }

  /** Frees the request's rows before the next step; it finishes as cancelled with what it has. */
  cancel(requestId: string): void {
    for (const request of this.scheduler.remove((candidate) => candidate.request.id === requestId)) {
      this.finish(request);
    }
  }

  /** Makes one run of the decoder; a fault in it fails the requests that ran and leaves the engine ready for others. */
  async step(): Promise<void> {
    this.admit();
    await this.prefill();
    if (this.isGathering()) return;
    const plan = this.plan();
    if (plan.rowCount === 0) return;
    this.events.onStep?.(traceOf(plan));
    const { singles, groups } = this.sections;
    try {
      const result = await this.runner.decode(plan, { singles: singles.cache, groups: groups.cache });
      this.advance(plan, result);
    } catch (error) {
      for (const request of [...plan.singles, ...plan.groups]) this.fail(request, error);
    }
  }

  /**
   * Whether those that came while nothing ran are still being read: they begin together, as one batch, unless that would
   * make the first of them wait for long. Interactive requests wait for no background one.
   */
  private isGathering(): boolean {
    const rows = Object.values(this.sections).flatMap(({ requests }) => requests);
    const isInteractive = rows.some((one) => !isBackground(one));
    const awaited = [...this.prefilling].filter((one) => !isInteractive || !isBackground(one));
    if (awaited.length === 0) {
      this.gatheredSteps = 0;
      return false;
    }
    if (rows.some(({ stepsInSlice }) => stepsInSlice > 0)) return false;
    this.gatheredSteps++;
    return this.gatheredSteps <= MOST_GATHERING_STEPS;
  }

  private plan(): StepPlan {
    const { singles, groups } = this.sections;
    singles.compact();
    groups.compact();
    this.stepNumber++;
    const rows = { singles: singles.requests, groups: groups.requests };
    const requests = [...rows.singles, ...rows.groups];
    const rowCount = requests.reduce((sum, { paths }) => sum + paths.rowCount, 0);
    const stepCount = stepsOfRun(requests, { most: this.runner.mostSteps(rowCount), awaited: this.awaited() });
    return planStep({ number: this.stepNumber, stepCount, ...rows });
  }

  /** As in RunLimits. */
  private awaited(): RunLimits['awaited'] {
    const { scheduler, prefilling } = this;
    if (prefilling.size > 0 || scheduler.nextFits) return 'joining';
    return scheduler.waitingCount > 0 ? 'rows' : 'nothing';
  }

  private admit(): void {
    for (const request of this.scheduler.preempt()) {
      // what was read of its prompt stays with it
      if (!this.prefilling.delete(request)) this.sections[request.section].preempt(request);
    }
    const admitted = this.scheduler.admit((request, beside) => this.prepare(request, beside));
    for (const [name, section] of Object.entries(this.sections)) {
      section.reserve(admitted.filter((request) => request.section === name).length);
    }
    for (const request of admitted) {
      request.moments.scheduled ??= this.options.now();
      try {
        this.start(request);
      } catch (error) {
        this.fail(request, error);
      }
    }
  }

  /** A piece at a time while others run, so that bringing adapters in holds no step up; at once when nobody does. */
  private prepare(request: ScheduledRequest, beside: readonly ScheduledRequest[]): Preparation {
    if (beside.length > 0 && !this.fitsCache(request, beside)) return 'no room';
    const isBusy = beside.some(({ state }) => state.status === 'running');
    const running = beside.map(({ adapters }) => adapters);
    try {
      for (;;) {
        const done = this.runner.prepare(request.adapters, running);
        if (done !== 'more to do' || isBusy) return done;
      }
    } catch (error) {
      // it is admitted and fails alone
      this.unprepared.set(request, error);
      return 'ready';
    }
  }

  /** Every slot of a section is as long as its longest: one long prompt among many short ones takes a lot. */
  private fitsCache(request: ScheduledRequest, beside: readonly ScheduledRequest[]): boolean {
    const { cacheBytes = Number.POSITIVE_INFINITY } = this.options;
    const all = [...beside, request];
    let bytes = 0;
    for (const { name, cache } of Object.values(this.sections)) {
      const own = all.filter(({ section }) => section === name);
      const longest = own.reduce((most, one) => Math.max(most, one.request.promptTokenIds.length), 0);
      bytes += cache.bytesFor(own.length, longest);
    }
    return bytes <= cacheBytes;
  }

  private start(request: ScheduledRequest): void {
    if (this.unprepared.has(request)) throw this.unprepared.get(request);
    if (request.state.status === 'preempted') this.sections[request.section].place(request, undefined);
    if (request.state.status !== 'waiting') return;
    request.prefill ??= this.runner.prefill(request.request.promptTokenIds, request.adapters);
    this.prefilling.add(request);
  }

  /**
   * Reads pieces of prompts in turn, so that a long one does not hold up short ones: so many tokens that neither the next
   * step nor those who come meanwhile are held up for long.
   */
  private async prefill(): Promise<void> {
    for (let tokens = 0; ; ) {
      const together = new Set<ScheduledRequest>();
      while (together.size < this.runner.promptsAtOnce) {
        const next = this.nextInTurn(together);
        const { nextTokenCount = 0 } = next?.prefill ?? {};
        if (next === undefined || (tokens > 0 && tokens + nextTokenCount > this.options.prefillTokens)) break;
        tokens += nextTokenCount;
        this.noteTurn(next);
        together.add(next);
      }
      if (together.size === 0) return;
      await Promise.all([...together].map((request) => this.read(request)));
      // whoever is not done goes behind the others
      for (const request of together) if (this.prefilling.delete(request)) this.prefilling.add(request);
    }
  }

  /**
   * Whose prompts are read, in turn, beside those of `taken`: interactive requests before background ones, which have
   * every so many-th piece.
   */
  private nextInTurn(taken: ReadonlySet<ScheduledRequest>): ScheduledRequest | undefined {
    const requests = [...this.prefilling].filter((one) => !taken.has(one));
    const background = requests.find(isBackground);
    const interactive = requests.find((one) => !isBackground(one));
    if (background === undefined || interactive === undefined) return interactive ?? background;
    return this.piecesBefore >= MOST_PIECES_BEFORE ? background : interactive;
  }

  private noteTurn(next: ScheduledRequest): void {
    if (isBackground(next)) this.piecesBefore = 0;
    else if ([...this.prefilling].some(isBackground)) this.piecesBefore++;
  }

  /** Reads the next piece of a prompt; after the last one the request has its slot. */
  private async read(request: ScheduledRequest): Promise<void> {
    try {
      const source = await request.prefill?.advance();
      // the caller may have left meanwhile
      if (source === undefined || !this.prefilling.delete(request)) return;
      request.prefill = undefined;
      this.sections[request.section].place(request, source);
    } catch (error) {
      this.fail(request, error);
    }
    request.moments.prefilled ??= this.options.now();
  }

  private advance(plan: StepPlan, decoded: DecodedSteps): void {
    const writes = new Map<ScheduledRequest, EntryWrites>();
    let firstRow = 0;
    for (const request of [...plan.singles, ...plan.groups]) {
      const rows = Array.from({ length: request.paths.rowCount }, (_, row) => firstRow + row);
      const needs = plan.needs.slice(firstRow, firstRow + rows.length);
      firstRow += rows.length;
      // who was cancelled during the run is gone already
      if (request.state.status === 'running') writes.set(request, this.follow(request, { decoded, rows, needs }));
    }
    for (const section of Object.values(this.sections)) section.fitCache();
    for (const [request, entries] of writes) {
      if (request.state.status !== 'running') continue;
      const { cache } = this.sections[request.section];
      for (const [entry, { data, offset }] of entries) {
        // beams that were followed for a while and left may have had more entries than there are in the end
        if (entry < request.paths.extent) cache.writeEntry(slotOf(request), entry, data, offset);
      }
    }
  }

  /** Lets a request's strategy choose step by step, as long as the run guessed what it chooses. */
  private follow(request: ScheduledRequest, { decoded, rows, needs }: FirstStep): EntryWrites {
    const writes = new Map<number, Numbers>();
    let current = rows;
    let wanted = needs;
    for (let step = 0; ; step++) {
      const scores = current.flatMap((row, index) => decoded.scores(step, row, wanted[index] as RowNeeds) ?? []);
      if (scores.length < current.length) return writes;
      if (scores.some((row, index) => overflows(row, wanted[index]))) {
        this.fail(request, overflow(request));
        return writes;
      }
      const { nextRows, entries } = this.advanceRequest(request, scores);
      for (const [index, entry] of entries.entries()) {
        if (entry >= 0) writes.set(entry, decoded.newCache(step, current[index] as number));
      }
      const taken = new Set<number>();
      for (const { parent, tokenId } of nextRows) {
        const row = decoded.successor(step, current[parent] as number, tokenId, taken);
        if (row === undefined) return writes;
        taken.add(row);
      }
      if (taken.size === 0) return writes;
      current = [...taken];
      wanted = request.strategy.needs();
    }
  }

  /** `entries`: for each of the request's rows the cache entry of its new keys and values; -1: nobody goes on from it. */
  private advanceRequest(
    request: ScheduledRequest,
    scores: readonly RowScores[],
  ): { readonly nextRows: readonly NextRow[]; readonly entries: readonly number[] } {
    request.moments.firstToken ??= this.options.now();
    request.stepsInSlice++;
    const { nextRows, appended } = request.strategy.advance(scores);
    if (request.request.stream && appended.length > 0) this.events.onTokens(request.request.id, appended);
    if (nextRows.length === 0) {
      this.scheduler.remove((candidate) => candidate === request);
      this.finish(request);
      return { nextRows, entries: [] };
    }
    request.inputTokens = nextRows.map(({ tokenId }) => tokenId);
    return { nextRows, entries: request.paths.advance(nextRows.map(({ parent }) => parent)) };
  }

  private fail(request: ScheduledRequest, error: unknown): void {
    if (request.state.status === 'finished') return;
    this.scheduler.remove((candidate) => candidate === request);
    this.leave(request);
    this.events.onFailed(request.request.id, error);
  }

  private leave(request: ScheduledRequest): void {
    this.prefilling.delete(request);
    if (request.state.status === 'running') this.sections[request.section].remove(request);
    request.state = { status: 'finished' };
  }

  private finish(request: ScheduledRequest): void {
    this.leave(request);
    const output = { sequences: request.strategy.sequences(), timing: request.timing(this.options.now()) };
    this.events.onFinished(request.request.id, output);
  }
}

/** The first step of a run, for one request: its rows among those of the plan, and what they need. */
interface FirstStep {
  readonly decoded: DecodedSteps;
  readonly rows: readonly number[];
  readonly needs: readonly RowNeeds[];
}

/** New keys and values by the entry of a request's cache that they go into. */
type EntryWrites = ReadonlyMap<number, Numbers>;

/** Whether a row's numbers have left the range of float32: then no token follows from them. */
function overflows({ topLogits, logSumExp }: RowScores, needs: RowNeeds | undefined): boolean {
  // none where every id that was found is banned
  const highest = topLogits[0] ?? 0;
  return !Number.isFinite(highest) || (Number.isNaN(logSumExp) && needs?.orderOnly !== true);
}

function overflow({ request: { adapters } }: ScheduledRequest): RuntimeError {
  if (adapters.length === 0) {
    const message = `Expected finite logits, the model's weights give others. Load the model from its original files.`;
    return new RuntimeError('INVALID_MODEL', message);
  }
  const blend = adapters.map(({ key, weight }) => `${key} × ${weight}`).join(' + ');
  const message = `Expected finite logits, ${blend} makes the model's numbers overflow. Lower the weight, or use another adapter.`;
  return new RuntimeError('INVALID_ADAPTER', message, { argument: 'adapters' });
}

function isBackground({ request }: ScheduledRequest): boolean {
  return request.priority === 'background';
}
