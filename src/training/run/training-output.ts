/** What a training leaves: a PEFT adapter's folder, or a model's folder in the layout of Hugging Face, both float32. */
import { type FileHandle, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RuntimeError } from '../../runtime/errors.ts';
import { moduleEndings } from '../../runtime/models/linear-module.ts';
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from '../../storage/adapter-folder.ts';
import { findFile } from '../../storage/bounded-file.ts';
import { isHubSource, parseHubSource } from '../../storage/hub/hub-source.ts';
import { readJson, WEIGHTS_FILE } from '../../storage/model-folder.ts';
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from '../../storage/safetensors.ts';
import { writeWholeFile, writeWholeFolder } from '../../storage/whole-files.ts';
import type { TrainedModel } from './trained-model.ts';
import type { LoraSettings, TrainingPlan } from './trainer-protocol.ts';

/** Files of a model that stay as they are. */
const COPIED = [
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'special_tokens_map.json',
  'added_tokens.json',
  'spiece.model',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
];
/** Key of the metadata that says which plan made a folder. */
const PLAN = 'gistql_plan';

function weightsName(plan: TrainingPlan): string {
  return plan.lora === null ? WEIGHTS_FILE : ADAPTER_WEIGHTS_FILE;
}

/**
 * Whether the folder holds what this plan makes: its process ended before it could say so. Throws RuntimeError CONFLICT
 * when something else is there.
 */
export async function isWritten(folder: string, plan: TrainingPlan, fingerprint: string): Promise<boolean> {
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return false;
  const path = await findFile(folder, weightsName(plan)).catch(() => undefined);
  if (path !== undefined) {
    const file = await SafetensorsFile.open(path);
    const made = file.metadata[PLAN];
    await file.close();
    if (made === fingerprint) return true;
  }
  const message = `Expected a new outputId, a folder ${plan.outputId} is there already. Choose another, or move the folder away.`;
  throw new RuntimeError('CONFLICT', message, { argument: 'outputId' });
}

/** The folder is there whole, or not at all. */
export async function writeOutput(
  folder: string,
  model: TrainedModel,
  plan: TrainingPlan,
  fingerprint: string,
): Promise<void> {
  const tensors = new Map<string, TensorToWrite>();
  for (const [name, data] of model.trained) tensors.set(name, { shape: model.shapes.get(name) ?? [], data });
  await writeWholeFolder(folder, async (unfinished) => {
    if (plan.lora === null) await writeModelFiles(unfinished, model, plan);
    else await writeJson(join(unfinished, ADAPTER_CONFIG_FILE), adapterConfig(plan, plan.lora, model));
    await writeSafetensors(join(unfinished, weightsName(plan)), tensors, { format: 'pt', [PLAN]: fingerprint });
  });
}

/** As PEFT's LoraConfig writes itself: what is left out has PEFT's default. */
function adapterConfig(plan: TrainingPlan, lora: LoraSettings, { adapted, config }: TrainedModel): unknown {
  const { rank, alpha, dropout, targetModules, useRslora } = lora;
  // PEFT, too, writes the modules that all-linear stood for
  const named = targetModules[0] === 'all-linear' ? moduleEndings(adapted) : targetModules;
  return {
    ...baseNameOf(plan.modelSource),
    bias: 'none',
    // GPT-2's Conv1D keeps its weights the other way round
    fan_in_fan_out: config.family === 'gpt2',
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: dropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    target_modules: [...named].sort(),
    task_type: config.family === 't5' ? 'SEQ_2_SEQ_LM' : 'CAUSAL_LM',
    use_dora: false,
    use_rslora: useRslora,
  };
}

/** As PEFT finds the model again: a repository at a commit, or a name. */
function baseNameOf(source: string): Readonly<Record<string, string>> {
  if (!isHubSource(source)) return { base_model_name_or_path: source.slice(source.indexOf(':') + 1) };
  const { repo, revision } = parseHubSource(source);
  return { base_model_name_or_path: repo, revision };
}

async function writeModelFiles(folder: string, { files }: TrainedModel, plan: TrainingPlan): Promise<void> {
  const config = (await readJson(files.folder, 'config.json')) ?? {};
  // transformers names the type of the weights in one or the other, by its version
  const type = 'torch_dtype' in config ? { torch_dtype: 'float32' } : { dtype: 'float32' };
  await writeJson(join(folder, 'config.json'), { ...config, ...type });
  const generation = await readJson(files.folder, 'generation_config.json');
  // who asks for a summary without naming a template gets the one that the model was trained with
  await writeJson(join(folder, 'generation_config.json'), { ...generation, prompt_template: plan.data.templateId });
  for (const name of COPIED) {
    const path = await findFile(files.folder, name);
    if (path !== undefined) await copyWhole(path, join(folder, name));
  }
}

function writeJson(path: string, value: unknown): Promise<void> {
  return writeWholeFile(path, (handle: FileHandle) => handle.writeFile(`${JSON.stringify(value, undefined, 2)}\n`));
}

async function copyWhole(from: string, to: string): Promise<void> {
  await writeWholeFile(to, async (handle) => handle.writeFile(await readFile(from)));
}
