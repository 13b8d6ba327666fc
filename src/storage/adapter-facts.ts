/** What is known of an adapter without its weights. */

export const ADAPTER_METHODS = ['LORA', 'RSLORA', 'DORA'] as const;

interface AdapterReport {
  /** Names in the file that are used. */
  readonly matchedTensors: readonly string[];
  /** Names in the file that no target of the model takes. */
  readonly unmatchedTensors: readonly string[];
  /** Those of matchedTensors that hold nothing but zeros. */
  readonly zeroTensors: readonly string[];
  readonly warnings: readonly string[];
}

/** What the files of an adapter say, and how they fit its model: told when it is loaded, remembered over a restart. */
export interface AdapterFacts {
  readonly method: (typeof ADAPTER_METHODS)[number];
  /** `r` of the config; rank_pattern may say otherwise for single modules. */
  readonly rank: number;
  readonly alpha: number;
  /** As the config says; a regular expression is one text. */
  readonly targetModules: readonly string[];
  /** Paths that got factors, and `lm_head` when the whole head is replaced. */
  readonly modules: readonly string[];
  /** Values in the tensors that are used. */
  readonly parameterCount: number;
  /** Of adapter_model.safetensors. */
  readonly sizeBytes: number;
  /** What its weights take in memory. */
  readonly memoryBytes: number;
  /** Hexadecimal digits, of adapter_model.safetensors. */
  readonly sha256: string;
  /** Hexadecimal digits, of what adapter_config.json says. */
  readonly configSha256: string;
  readonly report: AdapterReport;
}
