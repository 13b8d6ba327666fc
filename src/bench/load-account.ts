/** Keeps the books of a load: every request that was sent has exactly one outcome, and equal ones equal tokens. */
import { type Fingerprint, OUTCOMES, type Outcome, type Verdict } from './check-reply.ts';
import type { Reply } from './load-client.ts';
import { type LoadKind, type LoadRequest, loadKinds } from './load-request.ts';

export interface KindAccount {
  sent: number;
  readonly outcomes: Record<Outcome, number>;
  readonly latenciesMs: number[];
  readonly firstEventsMs: number[];
}

export interface Problem {
  readonly request: LoadRequest;
  readonly text: string;
}

/** The first ones say what is wrong; all are counted. */
const KEPT_PROBLEMS = 20;

function emptyAccount(): KindAccount {
  const outcomes = { answered: 0, refused: 0, cancelled: 0, wrong: 0, lost: 0 };
  return { sent: 0, outcomes, latenciesMs: [], firstEventsMs: [] };
}

export class LoadAccount {
  readonly kinds: ReadonlyMap<LoadKind, KindAccount> = new Map(loadKinds.map((kind) => [kind, emptyAccount()]));
  readonly problems: Problem[] = [];
  newTokens = 0;
  /** Answers that were held against an earlier equal request's. */
  repeatCount = 0;
  /** Of those, the ones that differed. */
  unequalCount = 0;
  private readonly firstOf = new Map<string, { readonly index: number; readonly value: string }>();

  begin({ kind }: LoadRequest): void {
    this.of(kind).sent++;
  }

  end(request: LoadRequest, reply: Reply, verdict: Verdict): void {
    const unequal = verdict.fingerprints.map((fingerprint) => this.compare(request, fingerprint)).find(Boolean);
    const problem = verdict.problem ?? unequal;
    const outcome = unequal === undefined ? verdict.outcome : 'wrong';
    const account = this.of(request.kind);
    account.outcomes[outcome]++;
    this.newTokens += verdict.newTokens;
    if (problem !== undefined && this.problems.length < KEPT_PROBLEMS) this.problems.push({ request, text: problem });
    if ('latencyMs' in reply) account.latenciesMs.push(reply.latencyMs);
    if (reply.type === 'events') account.firstEventsMs.push(reply.firstEventMs);
  }

  count(outcome: Outcome): number {
    return [...this.kinds.values()].reduce((sum, { outcomes }) => sum + outcomes[outcome], 0);
  }

  get sentCount(): number {
    return [...this.kinds.values()].reduce((sum, { sent }) => sum + sent, 0);
  }

  /** Sent, and without an outcome so far. */
  get openCount(): number {
    return this.sentCount - OUTCOMES.reduce((sum, outcome) => sum + this.count(outcome), 0);
  }

  private of(kind: LoadKind): KindAccount {
    const account = this.kinds.get(kind);
    if (account === undefined) throw new Error(`no account of ${kind}`);
    return account;
  }

  private compare({ index }: LoadRequest, { repeatId, value }: Fingerprint): string | undefined {
    const first = this.firstOf.get(repeatId);
    if (first === undefined) {
      this.firstOf.set(repeatId, { index, value });
      return undefined;
    }
    this.repeatCount++;
    if (first.value === value) return undefined;
    this.unequalCount++;
    return `expected the tokens of the equal request ${first.index}, ${first.value}; ${value} came`;
  }
}
