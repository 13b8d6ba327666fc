/**
 * How texts are split before byte BPE, by `tokenizer.ggml.pre`: the rules of the tokenizer.json of the models that
 * llama.cpp's convert_hf_to_gguf_update.py names for each, in the spelling of the `tokenizers` library.
 */
type JsonObject = Readonly<Record<string, unknown>>;

export interface PreTokenization {
  readonly preTokenizer: JsonObject;
  /** Default: texts stay as they are. */
  readonly normalizer?: JsonObject;
  /** Whether a word that is a token is one, whatever the merges say; default false. */
  readonly ignoreMerges?: boolean;
  /** Whether texts begin with the start token where the file does not say; default false. */
  readonly addsStart?: boolean;
}

function byteLevel(usesRegex: boolean): JsonObject {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: usesRegex };
}

function sequence(...steps: readonly JsonObject[]): JsonObject {
  return { type: 'Sequence', pretokenizers: steps };
}

function split(pattern: string): JsonObject {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

/** The pattern of Llama 3 and Qwen2, which differ in how many digits stand together. */
function wordPattern(digits: string): string {
  return `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
}

/** The pattern that ByteLevel has built in. */
const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const GPT2: PreTokenization = { preTokenizer: byteLevel(true) };
const SINGLE_DIGITS: PreTokenization = {
  preTokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)),
};
const LLAMA3: PreTokenization = {
  preTokenizer: sequence(split(wordPattern('\\p{N}{1,3}')), byteLevel(false)),
  ignoreMerges: true,
  addsStart: true,
};
const QWEN2: PreTokenization = {
  normalizer: { type: 'NFC' },
  preTokenizer: sequence(split(wordPattern('\\p{N}')), byteLevel(false)),
};
/** llama.cpp's own (llama-vocab.cpp), of no model in particular. */
const DEFAULT: PreTokenization = {
  preTokenizer: sequence(
    ...['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2_PATTERN, '\\p{N}+', '[0-9][0-9][0-9]'].map(split),
    byteLevel(false),
  ),
};

export const PRE_TOKENIZATIONS: Readonly<Record<string, PreTokenization>> = {
  default: DEFAULT,
  'gpt-2': GPT2,
  smollm: SINGLE_DIGITS,
  starcoder: SINGLE_DIGITS,
  refact: SINGLE_DIGITS,
  'llama-bpe': LLAMA3,
  llama3: LLAMA3,
  'llama-v3': LLAMA3,
  qwen2: QWEN2,
};
