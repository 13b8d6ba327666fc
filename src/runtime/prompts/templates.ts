/** The prompt templates that every model can be asked with. */
import { RuntimeError } from '../errors.ts';
import type { PromptTemplate, Shot } from '../summarization.ts';
import type { ChatFrame } from './chat-template.ts';

export const DEFAULT_TEMPLATE_ID = 'summarize-conversation';

export const promptTemplates: readonly PromptTemplate[] = [
  {
    id: DEFAULT_TEMPLATE_ID,
    name: 'Summarize the conversation',
    text: 'Summarize the following conversation.\n\n{dialogue}\n\nSummary:{summary}',
  },
  {
    id: 'what-was-going-on',
    name: 'What was going on?',
    text: 'Dialogue:\n\n{dialogue}\n\nWhat was going on?\n{summary}',
  },
  {
    id: 'briefly-summarize',
    name: 'Briefly summarize the dialogue',
    text: '{dialogue}\n\nBriefly summarize that dialogue.\n{summary}',
  },
  {
    id: 'what-were-they-talking-about',
    name: 'What were they talking about?',
    text: '{dialogue}\n\nWhat were they talking about?\n{summary}',
  },
  { id: 'summarize-prefix', name: 'T5 task prefix', text: 'summarize: {dialogue}{summary}' },
  { id: 'plain', name: 'The dialogue alone', text: '{dialogue}{summary}' },
];

/** Throws RuntimeError NOT_FOUND listing the ids there are. */
export function findTemplate(id: string): PromptTemplate {
  const template = promptTemplates.find((candidate) => candidate.id === id);
  if (template !== undefined) return template;
  const known = promptTemplates.map((candidate) => candidate.id).join(', ');
  throw new RuntimeError('NOT_FOUND', `Expected the id of a prompt template (${known}), ${JSON.stringify(id)} came.`, {
    argument: 'template',
  });
}

/** Between worked examples, and before the text itself: two empty lines. */
const SHOT_SEPARATOR = '\n\n\n';

/** The parts of a prompt around the dialogue that is to be summarized. */
export interface PromptFrame {
  readonly before: string;
  readonly after: string;
  /** Whether tokens that the tokenizer puts around a text belong there; a chat template writes them itself. */
  readonly addSpecialTokens: boolean;
  /** Whether the dialogue stands at an edge where the chat template leaves spaces out. */
  readonly trimsStart: boolean;
  readonly trimsEnd: boolean;
}

/** The whole prompt. */
export function fillFrame({ before, after, trimsStart, trimsEnd }: PromptFrame, dialogue: string): string {
  const fromStart = trimsStart ? dialogue.trimStart() : dialogue;
  return before + (trimsEnd ? fromStart.trimEnd() : fromStart) + after;
}

/**
 * Worked examples, then the template up to its summary; what is put between the two parts is the dialogue. `chat`: what
 * the model wants around a message; undefined where it wants nothing.
 */
export function framePrompt(
  template: PromptTemplate,
  shots: readonly Shot[],
  chat: ChatFrame | undefined,
): PromptFrame {
  const [head = '', tail = ''] = template.text.split('{dialogue}');
  const [cue = '', end = ''] = tail.split('{summary}');
  const examples = shots.map(({ dialogue, summary }) => `${head}${dialogue}${cue}${spaced(cue, summary)}${end}`);
  const before = [...examples, head].join(SHOT_SEPARATOR);
  if (chat === undefined) return { before, after: cue, addSpecialTokens: true, trimsStart: false, trimsEnd: false };
  return {
    before: chat.before + (chat.trimsStart ? before.trimStart() : before),
    after: (chat.trimsEnd ? cue.trimEnd() : cue) + chat.after,
    addSpecialTokens: false,
    trimsStart: chat.trimsStart && before.trim() === '',
    trimsEnd: chat.trimsEnd && cue.trim() === '',
  };
}

/** A cue that ends in a word or a colon is followed by a space, as a reader would write it. */
export function spaced(cue: string, summary: string): string {
  return /\s$/.test(cue) || cue === '' ? summary : ` ${summary}`;
}
