"""PyTorch (generate of transformers) with a T5 folder, speaking the protocol of src/bench/protocol.ts: for cuda.bench.ts.

    python bench/torch_peer.py FOLDER --device cpu|cuda --precision fp32|tf32|fp16|bf16

Greedy. tf32: float32 whose products may be rounded to TF32; fp32: none is. fp16 keeps the feed-forward's wo in float32, as
transformers does by itself; the ready line says so. {"id": 1, "memoryRate": true} is answered with bytesPerSecond of a copy
within the device's memory: 2 (read and written) * bytes / seconds, median of 20.
"""
import argparse
import json
import os
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
# the protocol owns stdout: whatever a library prints goes to stderr
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch
import transformers

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COPIED_BYTES = {"cuda": 2**29, "cpu": 2**26}
COPIES = 20


class FirstToken:
    """A streamer: generate puts the start tokens of all rows, then the next tokens of all rows, step by step."""

    def __init__(self):
        self.puts = 0
        self.moment = None

    def put(self, _tokens):
        self.puts += 1
        if self.puts == 2:
            self.moment = time.perf_counter()

    def end(self):
        pass


class Peer:
    def __init__(self, folder, device, precision):
        self.device = device
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        model = transformers.T5ForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[precision])
        self.model = model.eval().to(device)
        own = model.generation_config
        # a model's own penalties and beams are not what is compared
        model.generation_config = transformers.GenerationConfig(
            decoder_start_token_id=own.decoder_start_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id)

    def wo_type(self):
        return next(str(tensor.dtype) for name, tensor in self.model.named_parameters() if name.endswith(".wo.weight"))

    @torch.inference_mode()
    def generate(self, sources, count, streamer=None):
        width = max(map(len, sources))
        ids = torch.zeros(len(sources), width, dtype=torch.long)
        mask = torch.zeros(len(sources), width, dtype=torch.long)
        for row, source in enumerate(sources):
            ids[row, :len(source)] = torch.tensor(source)
            mask[row, :len(source)] = 1
        # the end token is banned until there are min_new_tokens
        output = self.model.generate(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), do_sample=False, num_beams=1,
            min_new_tokens=count, max_new_tokens=count, streamer=streamer)
        return output[:, 1:].tolist()

    def answer(self, request):
        if request.get("beams", 1) != 1 or request.get("adapters") or "ragged" in request:
            return {"unsupported": "anything but greedy batches"}
        streamer = FirstToken() if request.get("firstToken") else None
        start = time.perf_counter()
        try:
            tokens = self.generate(request["sourceIds"], request["newTokens"], streamer)
        except RuntimeError as error:
            # out of memory, as a rule: fewer rows may do
            print(error, file=sys.stderr)
            torch.cuda.empty_cache()
            return {"unsupported": str(error).split(".")[0][:200]}
        said = {"seconds": time.perf_counter() - start, "tokens": tokens}
        return said if streamer is None else {**said, "firstTokenSeconds": streamer.moment - start}

    def memory_rate(self):
        size = COPIED_BYTES[self.device]
        source = torch.ones(size, dtype=torch.uint8, device=self.device)
        target = torch.zeros_like(source)
        seconds = []
        for _ in range(COPIES + 1):
            self.wait()
            start = time.perf_counter()
            target.copy_(source)
            self.wait()
            seconds.append(time.perf_counter() - start)
        return {"bytesPerSecond": 2 * size / statistics.median(seconds[1:])}

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--device", choices=COPIED_BYTES, required=True)
    parser.add_argument("--precision", choices=DTYPES, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    def say(message):
        answers.write(json.dumps(message) + "\n")

    torch.set_num_threads(options.threads)
    peer = Peer(options.folder, options.device, options.precision)
    peer.generate([[5, 6, 7, 1]], 4)
    version = f"torch {torch.__version__}, transformers {transformers.__version__}, wo in {peer.wo_type().removeprefix('torch.')}"
    say({"ready": True, "name": "PyTorch", "version": version, "precision": options.precision, "device": options.device})
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("quit"):
            break
        said = peer.memory_rate() if request.get("memoryRate") else peer.answer(request)
        say({"id": request["id"], **said})


if __name__ == "__main__":
    main()
