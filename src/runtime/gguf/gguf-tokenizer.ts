/** The tokenizer of a GGUF file as the text of a tokenizer.json: byte BPE, which llama.cpp calls "gpt2". */
import { quoted } from '../../storage/storage-error.ts';
import type { GgufFields } from './gguf-fields.ts';
import { PRE_TOKENIZATIONS, type PreTokenization } from './gguf-pre-tokenizers.ts';

const KEY = 'tokenizer.ggml';
const BYTE_BPE = 'gpt2';
const ADVICE = "Put the model's own tokenizer.json beside the file";
/** llama_token_type of llama.h. Bytes and words of the vocabulary need no rule of their own. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

interface Vocabulary {
  readonly ids: ReadonlyMap<string, number>;
  /** Tokens that stand for themselves in a text, in the order of their ids. */
  readonly added: readonly { readonly content: string; readonly id: number; readonly special: boolean }[];
}

/** `tableRows`: rows of the embedding table. Throws StorageError where the tokenizer cannot be made exactly. */
export function ggufTokenizerJson(fields: GgufFields, tableRows: number): string {
  const model = fields.optionalText(`${KEY}.model`);
  if (model !== BYTE_BPE) {
    fields.fail(`expected ${KEY}.model "${BYTE_BPE}" (byte BPE), ${quoted(model)} came. ${ADVICE}`);
  }
  const pre = readPreTokenization(fields);
  const tokens = fields.texts(`${KEY}.tokens`);
  if (tokens.length > tableRows) {
    fields.fail(`expected at most ${tableRows} ${KEY}.tokens, the rows of token_embd.weight, ${tokens.length} came`);
  }
  const vocabulary = readVocabulary(fields, tokens);
  return JSON.stringify({
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: vocabulary.added.map(addedToken),
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: pre.preTokenizer,
    post_processor: postProcessor(fields, tokens, pre),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges ?? false,
      vocab: Object.fromEntries(vocabulary.ids),
      merges: readMerges(fields, vocabulary.ids),
    },
  });
}

function readPreTokenization(fields: GgufFields): PreTokenization {
  const name = fields.optionalText(`${KEY}.pre`);
  const known = name !== undefined && Object.hasOwn(PRE_TOKENIZATIONS, name) ? PRE_TOKENIZATIONS[name] : undefined;
  if (known !== undefined) return known;
  const names = Object.keys(PRE_TOKENIZATIONS).join(', ');
  return fields.fail(`expected ${KEY}.pre to be one of ${names}; ${quoted(name)} came. ${ADVICE}`);
}

function readVocabulary(fields: GgufFields, tokens: readonly string[]): Vocabulary {
  const types = fields.optionalCounts(`${KEY}.token_type`);
  if (types !== undefined && types.length !== tokens.length) {
    fields.fail(`expected ${tokens.length} values of ${KEY}.token_type, as many as tokens, ${types.length} came`);
  }
  const ids = new Map<string, number>();
  const added: Vocabulary['added'][number][] = [];
  for (const [id, content] of tokens.entries()) {
    const type = types?.[id];
    // stands for a row of the table that no text leads to
    if (type === UNUSED) continue;
    if (ids.has(content)) fields.fail(`expected each of ${KEY}.tokens once, ${quoted(content)} comes twice`);
    ids.set(content, id);
    const special = type === CONTROL || type === UNKNOWN;
    if (special || type === USER_DEFINED) added.push({ content, id, special });
  }
  return { ids, added };
}

function addedToken(token: Vocabulary['added'][number]): Readonly<Record<string, unknown>> {
  return { ...token, single_word: false, lstrip: false, rstrip: false, normalized: false };
}

/** "left right" → [left, right]. Both and what they make are tokens. */
function readMerges(fields: GgufFields, ids: ReadonlyMap<string, number>): readonly (readonly string[])[] {
  return fields.texts(`${KEY}.merges`).map((merge) => {
    const parts = merge.split(' ');
    const [left = '', right = ''] = parts;
    if (parts.length === 2 && ids.has(left) && ids.has(right) && ids.has(left + right)) return parts;
    return fields.fail(`expected ${KEY}.merges to be pairs of tokens that make a token, ${quoted(merge)} came`);
  });
}

/** Start and end token, where a text gets them. */
function postProcessor(
  fields: GgufFields,
  tokens: readonly string[],
  pre: PreTokenization,
): Readonly<Record<string, unknown>> | null {
  const special = new Map<string, number>();
  const template = (name: 'bos' | 'eos', typeId: number): readonly unknown[] => {
    if (!fields.flag(`${KEY}.add_${name}_token`, name === 'bos' && pre.addsStart === true)) return [];
    const id = fields.count(`${KEY}.${name}_token_id`, { low: 0, high: tokens.length - 1 });
    const content = tokens[id] as string;
    special.set(content, id);
    return [{ SpecialToken: { id: content, type_id: typeId } }];
  };
  const around = (id: 'A' | 'B', typeId: number): readonly unknown[] => [
    ...template('bos', typeId),
    { Sequence: { id, type_id: typeId } },
    ...template('eos', typeId),
  ];
  const single = around('A', 0);
  if (special.size === 0) return null;
  const described = [...special].map(([content, id]) => [content, { id: content, ids: [id], tokens: [content] }]);
  return {
    type: 'TemplateProcessing',
    single,
    pair: [...single, ...around('B', 1)],
    special_tokens: Object.fromEntries(described),
  };
}
