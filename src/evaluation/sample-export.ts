/** Scored samples as lines of a file: JSONL, which holds everything as it is, and CSV for spreadsheets. */
import type { StoredOutput, StoredSample, StoredScores } from '../storage/evaluation-rows.ts';

interface ExportFormat {
  readonly contentType: string;
  /** Chunks of whole lines, made as they are asked for. */
  readonly write: (samples: AsyncIterable<StoredSample>) => AsyncGenerator<string, void, void>;
}

/** By the file's extension. */
const exportFormats: Readonly<Record<string, ExportFormat>> = {
  jsonl: { contentType: 'application/jsonl; charset=utf-8', write: writeJsonLines },
  csv: { contentType: 'text/csv; charset=utf-8; header=present', write: writeCsv },
};

export const exportExtensions = Object.keys(exportFormats);

export function findExportFormat(extension: string): ExportFormat | undefined {
  return Object.hasOwn(exportFormats, extension) ? exportFormats[extension] : undefined;
}

/** One object a sample, in the form that GraphQL's samples have. */
async function* writeJsonLines(samples: AsyncIterable<StoredSample>): AsyncGenerator<string, void, void> {
  for await (const { index, sampleId, text, references, outputs } of samples) {
    const exported = outputs.map(({ rouge, warnings, label, summary, completionTokens, latencyMs, truncated }) => ({
      label,
      summary,
      completionTokens,
      latencyMs,
      truncated,
      rouge: { ...rouge, warnings },
    }));
    yield `${JSON.stringify({ index, sampleId, text, references, outputs: exported })}\n`;
  }
}

type Cell = string | number;

interface Column {
  readonly name: string;
  readonly cell: (sample: StoredSample, output: StoredOutput) => Cell;
}

const METRICS = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'] as const satisfies readonly (keyof StoredScores)[];
const PARTS = ['precision', 'recall', 'fmeasure'] as const satisfies readonly (keyof StoredScores['rouge1'])[];

/**
 * The same for every run, whatever its dataset: several references, and warnings, are one cell with a JSON list. Texts,
 * which are long, come last.
 */
const columns: readonly Column[] = [
  { name: 'index', cell: ({ index }) => index },
  { name: 'sampleId', cell: ({ sampleId }) => sampleId },
  { name: 'label', cell: (_, { label }) => label },
  ...METRICS.flatMap((metric) =>
    PARTS.map((part) => ({
      name: `${metric}${part.charAt(0).toUpperCase()}${part.slice(1)}`,
      cell: (_: StoredSample, { rouge }: StoredOutput) => rouge[metric][part],
    })),
  ),
  { name: 'completionTokens', cell: (_, { completionTokens }) => completionTokens },
  { name: 'latencyMs', cell: (_, { latencyMs }) => latencyMs },
  { name: 'truncated', cell: (_, { truncated }) => String(truncated ?? '') },
  { name: 'warnings', cell: (_, { warnings }) => JSON.stringify(warnings) },
  { name: 'summary', cell: (_, { summary }) => summary },
  { name: 'references', cell: ({ references }) => JSON.stringify(references) },
  { name: 'text', cell: ({ text }) => text },
];

/** RFC 4180: one row for each sample and variant, below a row of names. */
async function* writeCsv(samples: AsyncIterable<StoredSample>): AsyncGenerator<string, void, void> {
  yield csvRow(columns.map(({ name }) => name));
  for await (const sample of samples) {
    yield sample.outputs.map((output) => csvRow(columns.map(({ cell }) => cell(sample, output)))).join('');
  }
}

function csvRow(cells: readonly Cell[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`;
}

/**
 * What spreadsheets take for a formula, and our own mark. Labels, dialogues and summaries come from people and models, and
 * opening a file must not run what they wrote.
 */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠']/;

/** A text that begins like a formula gets a ' in front, and so does one that begins with ': taking one away gives every text back. */
function csvCell(cell: Cell): string {
  if (typeof cell === 'number') return String(cell);
  const text = FORMULA.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
