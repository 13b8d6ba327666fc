import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evaluationViews, type RunProgress } from '../../src/commands/evaluation-progress.ts';
import { ProgressDisplay } from '../../src/commands/progress-display.ts';
import type { EvaluationSummary } from '../../src/evaluation/runs/evaluation-summaries.ts';

const { line: progressLine, block: progressBlock } = evaluationViews;
const interval = { low: 0, high: 1, confidence: 0.95 };

function summaryOf(means: Readonly<Record<string, number>>): EvaluationSummary {
  const variants = Object.entries(means).map(([label, mean]) => ({
    label,
    metrics: (['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const).map((metric, place) => ({
      ...{ metric, mean: mean / (place + 1), precision: 0, recall: 0, interval, anytimeInterval: interval },
    })),
    meanSummaryTokens: 20,
    tokensPerSecond: 100,
  }));
  return { sampleCount: 10, variants, comparisons: [] };
}

const half: RunProgress = {
  samplesDone: 50,
  samplesTotal: 100,
  samplesBefore: 30,
  elapsedMs: 10_000,
  summary: summaryOf({ greedy: 0.4, beams: 0.44 }),
};

class Screen {
  text = '';

  constructor(
    readonly isTTY: boolean,
    readonly columns = 200,
  ) {}

  write(text: string): void {
    this.text += text;
  }

  /** What a person sees: lines, after the cursor moved up and erased. */
  get lines(): readonly string[] {
    const lines: string[] = [];
    for (const part of this.text.split('\u001B')) {
      const [, up] = /^\[(\d+)A$/.exec(part) ?? [];
      if (up !== undefined) lines.splice(lines.length - Number(up));
      else lines.push(...part.replace(/^\[0J/, '').split('\n').slice(0, -1));
    }
    return lines;
  }
}

test('the pace is that of this process, and tells what is left', () => {
  assert.match(
    progressLine(half),
    /^50 of 100 samples, 2\.0 a second, 25 s left; greedy 0\.4000\/0\.2000\/0\.1333\/0\.1000; beams 0\.4400\//,
  );
  assert.match(progressLine({ ...half, samplesTotal: 1000 }), /, 7 min 55 s left;/);
});

test('nothing is guessed before there is something to go by', () => {
  const nothing = { ...half, samplesDone: 30, summary: undefined };
  assert.equal(progressLine(nothing), '30 of 100 samples');
  assert.deepEqual(progressBlock({ ...nothing, elapsedMs: 0 }).length, 1);
  assert.equal(progressLine({ ...nothing, summary: { ...summaryOf({ a: 0 }), sampleCount: 0 } }), '30 of 100 samples');
});

test('a terminal gets a bar and a line for each variant, in columns', () => {
  const [bar = '', header = '', greedy = '', beams = ''] = progressBlock(half);
  assert.match(bar, /^█{15}░{15} 50 of 100 samples/);
  assert.match(header, /^ +ROUGE-1 +ROUGE-2 +ROUGE-L +ROUGE-Lsum$/);
  assert.match(greedy, /^greedy +0\.4000 +0\.2000 +0\.1333 +0\.1000$/);
  assert.deepEqual([greedy.length, beams.length], [header.length, header.length]);
});

test('a terminal sees the latest drawing below what was said, and nothing of it at the end', () => {
  const screen = new Screen(true);
  let now = 0;
  const display = new ProgressDisplay(screen, () => now, evaluationViews);
  display.say('begins');
  display.show({ ...half, summary: undefined });
  now += 1000;
  display.show(half);
  display.show({ ...half, samplesDone: 51 });
  assert.deepEqual(screen.lines, ['begins', ...progressBlock(half)]);
  display.say('a word');
  display.show({ ...half, samplesDone: 52 });
  assert.deepEqual(screen.lines, ['begins', 'a word', ...progressBlock({ ...half, samplesDone: 52 })]);
  display.clear();
  assert.deepEqual(screen.lines, ['begins', 'a word']);
});

test('lines are cut to the width of the terminal, and labels move no cursor', () => {
  const screen = new Screen(true, 40);
  new ProgressDisplay(screen, () => 0, evaluationViews).show({
    ...half,
    summary: summaryOf({ '\u001B[2J\nlabel': 0.4 }),
  });
  assert.equal(screen.lines.length, 3);
  for (const line of screen.lines) assert.ok(line.length < 40 && !line.includes('\u001B'), line);
});

test('elsewhere there is a line every few seconds', () => {
  const screen = new Screen(false);
  let now = 0;
  const display = new ProgressDisplay(screen, () => now, evaluationViews);
  for (now = 0; now < 20_000; now += 100) display.show({ ...half, elapsedMs: now });
  display.clear();
  assert.equal(screen.lines.length, 4);
  assert.ok(!screen.text.includes('\u001B'));
});
