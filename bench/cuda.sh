#!/usr/bin/env bash
# Measures GistQL beside PyTorch on this machine's NVIDIA GPU and prints the section for docs/performance.md.
#
#   bench/cuda.sh WORK [options]      WORK: a folder for models (4.1 GB), logs and results, outside the repository
#
# Before it: npm install, the CUDA provider (README, "On an NVIDIA GPU", with its LD_LIBRARY_PATH), and PyTorch:
#   python3 -m venv WORK/venv && WORK/venv/bin/pip install torch transformers safetensors
# LD_LIBRARY_PATH reaches both sides, so both have to be for the same CUDA. PYTHON=... names another Python. Options are those of bench/cuda.bench.ts:
#   --model FOLDER        a T5 folder, may be repeated; default: the shapes of FLAN-T5-base and -large, random weights
#   --batches 1,16,64,128 --source-length 260 --new-tokens 128 --rounds 5
#   --systems gistql-fp32,gistql-tf32,gistql-fp16,pytorch-fp32,pytorch-tf32,pytorch-fp16,pytorch-bf16
#   --device cpu          a trial of the comparison itself, without a GPU
# All systems are loaded at once and keep the GPU memory that they once took: fewer --systems or rows need less.
set -euo pipefail

fail() {
  echo "bench/cuda.sh: $1" >&2
  exit 1
}

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || fail 'expected WORK, a folder for models and results, first'
mkdir -p "$1"
work=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

device=cuda
own_models=no
previous=''
for argument in "$@"; do
  case "$argument" in
    --model | --model=*) own_models=yes ;;
    --device=*) device=${argument#--device=} ;;
  esac
  [ "$previous" != --device ] || device=$argument
  previous=$argument
done

command -v node >/dev/null || fail 'expected Node, none is here: install Node 20.19 or later'
[ -d node_modules ] || fail 'expected node_modules, there is none: run npm install, then install the CUDA provider again'
npm run --silent build >&2 || fail 'the build failed'

python=${PYTHON:-$work/venv/bin/python}
"$python" -c 'import torch, transformers, safetensors' ||
  fail "expected torch, transformers and safetensors in $python: make WORK/venv as this script's head says, or set PYTHON"

if [ "$device" = cuda ]; then
  command -v nvidia-smi >/dev/null || fail 'expected an NVIDIA driver, there is no nvidia-smi'
  nvidia-smi -L >&2 || fail 'expected a GPU that works, nvidia-smi finds none'
  doctor=$(GISTQL_DEVICE=cuda node dist/cli.js doctor) || fail 'gistql doctor failed'
  said=$(grep '^device ' <<<"$doctor")
  [[ $said =~ ^device\ +CUDA\ \( ]] || fail "doctor says: ${said#device         }"
  "$python" -c 'import torch; assert torch.cuda.is_available(), "torch.cuda.is_available() is false"' ||
    fail "expected PyTorch to see the GPU: install a torch for the CUDA that nvidia-smi shows"
fi

if [ "$own_models" = no ]; then
  for size in base large; do
    [ -f "$work/models/$size/model.safetensors" ] || "$python" bench/random_t5.py "$size" "$work/models/$size" ||
      fail "no model could be written to $work/models/$size"
  done
fi

npx --no-install tsx bench/cuda.bench.ts "$work" "$python" "$@" | tee "$work/cuda.md"
