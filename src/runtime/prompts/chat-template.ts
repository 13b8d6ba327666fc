/**
 * Chat templates: how an instruct model wants a user's message framed. A template is a program that comes with a model's
 * files: it is run once, when the model is loaded, within a time limit, and what it puts around a message is kept.
 */
import { Script } from 'node:vm';
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { quoted } from '../../storage/storage-error.ts';
import { RuntimeError } from '../errors.ts';

/** What stands around a user's message, up to where the model's answer begins. */
export interface ChatFrame {
  readonly before: string;
  readonly after: string;
  /** Whether spaces around the message are left out. */
  readonly trims: boolean;
}

/** Special tokens that templates name, such as `bos_token`. */
export type TemplateTokens = Readonly<Record<string, string>>;

const MOST_CHARACTERS = 262_144;
const TIMEOUT_MS = 2000;
/** Stands for the message: no template writes it itself. */
const MESSAGE = '\uE000message\uE001';
/** Space around it that no template writes: whether it stays tells what becomes of a message's own. */
const EDGE = '\t\v';

/** What templates may call and name, without the library's clock: the same request is to have the same prompt on any day. */
const globals = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new Error(String(message));
  },
  range: (...bounds: readonly number[]): readonly number[] => {
    const [start = 0, end = 0, step = 1] = bounds.length === 1 ? [0, ...bounds] : bounds;
    const length = step === 0 ? 0 : Math.max(0, Math.ceil((end - start) / step));
    return Array.from({ length }, (_, index) => start + index * step);
  },
};

/** Throws RuntimeError INVALID_MODEL when the template cannot be run, or leaves the message out. */
export function readChatFrame(template: string, tokens: TemplateTokens): ChatFrame {
  if (template.length > MOST_CHARACTERS) {
    return invalid(`expected at most ${MOST_CHARACTERS} characters, it has ${template.length}`);
  }
  const rendered = run(template, tokens);
  const parts = rendered.split(MESSAGE);
  if (parts.length !== 2)
    return invalid(`expected it to write a user's message once, it did so ${parts.length - 1} times`);
  const [left = '', right = ''] = parts;
  if (!left.endsWith(EDGE) || !right.startsWith(EDGE)) return { before: left, after: right, trims: true };
  return { before: left.slice(0, -EDGE.length), after: right.slice(EDGE.length), trims: false };
}

function run(template: string, tokens: TemplateTokens): string {
  const values = {
    ...globals,
    ...tokens,
    messages: [{ role: 'user', content: EDGE + MESSAGE + EDGE }],
    add_generation_prompt: true,
  };
  const render = (): string => {
    const environment = new Environment();
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    return String(new Interpreter(environment).run(new Template(template).parsed).value);
  };
  try {
    return String(new Script('render()').runInNewContext({ render }, { timeout: TIMEOUT_MS }));
  } catch (error) {
    return invalid(`expected a Jinja template for one user's message, it fails: ${quoted(messageOf(error))}`);
  }
}

function messageOf(error: unknown): string {
  // errors that end a script may come from another realm
  return typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);
}

function invalid(problem: string): never {
  const message = `The chat template: ${problem}. Take the file as it was published, or remove it to ask without one.`;
  throw new RuntimeError('INVALID_MODEL', message);
}
