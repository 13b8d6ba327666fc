/**
 * Chat templates: how an instruct model wants a user's message framed. A template is a program that comes with a model's
 * files: it is run once, when the model is loaded, in a process of its own with limits of time and memory, and what it
 * puts around a message is kept.
 */
import { createRequire } from 'node:module';
import { MEBIBYTE } from '../../storage/byte-size.ts';
import { quoted } from '../../storage/storage-error.ts';
import { runChildScript } from '../child-script.ts';
import { RuntimeError } from '../errors.ts';

/** What stands around a user's message, up to where the model's answer begins. */
export interface ChatFrame {
  readonly before: string;
  readonly after: string;
  /** Whether spaces before the message are left out. */
  readonly trimsStart: boolean;
  /** Whether those behind it are. */
  readonly trimsEnd: boolean;
}

/** Special tokens that templates name, such as `bos_token`. */
export type TemplateTokens = Readonly<Record<string, string>>;

const MOST_CHARACTERS = 262_144;
const MOST_RENDERED_BYTES = MEBIBYTE;
const TIMEOUT_MS = 5000;
const MEMORY_MB = 128;
/** Stands for the message: no template writes it itself. What escapes texts changes its quote or its end of line. */
const MESSAGE = '\uE000"message\'\n<&>\uE001';
/** Space around it that no template writes: whether it stays tells what becomes of a message's own. */
const EDGE = '\t\v';

/**
 * It reads { template, values } on stdin
 * and writes { rendered } or { error } to fd 3. The library's own globals have a clock; none is offered here, because the
 * same request is to have the same prompt on any day.
 */
const SCRIPT = `
const { Environment, Interpreter, Template } = require(process.argv[1]);
const { readFileSync, writeSync } = require('node:fs');
const globals = {
  true: true, True: true, false: false, False: false, none: null, None: null,
  raise_exception: (message) => { throw new Error(String(message)); },
  range: (...bounds) => {
    const [start = 0, end = 0, step = 1] = bounds.length === 1 ? [0, ...bounds] : bounds;
    const length = step === 0 ? 0 : Math.max(0, Math.ceil((end - start) / step));
    return Array.from({ length }, (_, index) => start + index * step);
  },
};
let result;
try {
  const { template, values } = JSON.parse(readFileSync(0, 'utf8'));
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...globals, ...values })) environment.set(name, value);
  result = { rendered: String(new Interpreter(environment).run(new Template(template).parsed).value) };
} catch (error) {
  result = { error: String(error && error.message ? error.message : error).slice(0, 400) };
}
let bytes = Buffer.from(JSON.stringify(result));
while (bytes.length > 0) bytes = bytes.subarray(writeSync(3, bytes));
`;

/** Throws RuntimeError INVALID_MODEL when the template cannot be run, or does not write the message as it is. */
export async function readChatFrame(template: string, tokens: TemplateTokens): Promise<ChatFrame> {
  if (template.length > MOST_CHARACTERS) {
    return invalid(`expected at most ${MOST_CHARACTERS} characters, it has ${template.length}`);
  }
  const rendered = await render(template, {
    ...tokens,
    messages: [{ role: 'user', content: EDGE + MESSAGE + EDGE }],
    add_generation_prompt: true,
    tools: null,
    documents: null,
  });
  const parts = rendered.split(MESSAGE);
  if (parts.length !== 2) {
    return invalid(`expected it to write a user's message once, as it came, it did so ${parts.length - 1} times`);
  }
  const [left = '', right = ''] = parts;
  const trimsStart = !left.endsWith(EDGE);
  const trimsEnd = !right.startsWith(EDGE);
  return {
    before: trimsStart ? left : left.slice(0, -EDGE.length),
    after: trimsEnd ? right : right.slice(EDGE.length),
    trimsStart,
    trimsEnd,
  };
}

async function render(template: string, values: object): Promise<string> {
  const { code, isKilled, said, isTooLong } = await runChildScript({
    script: SCRIPT,
    library: createRequire(import.meta.url).resolve('@huggingface/jinja'),
    input: JSON.stringify({ template, values }),
    timeoutMs: TIMEOUT_MS,
    mostBytes: MOST_RENDERED_BYTES,
    memoryMb: MEMORY_MB,
  });
  if (isTooLong) return invalid(`expected at most ${MOST_RENDERED_BYTES} bytes from it`);
  if (isKilled) return invalid(`expected it to end within ${TIMEOUT_MS} ms, it did not`);
  if (code !== 0) return invalid(`expected it to run within ${MEMORY_MB} MiB, its process ended`);
  const { rendered, error } = JSON.parse(said) as { rendered?: string; error?: string };
  return rendered ?? invalid(`expected a Jinja template for one user's message, it fails: ${quoted(error)}`);
}

function invalid(problem: string): never {
  const message = `The chat template: ${problem}. Take the file as it was published, or remove it to ask without one.`;
  throw new RuntimeError('INVALID_MODEL', message);
}
