"""A gate or a language model in a process of its own, for `beside_llm.py`.

It prints {"ready": …}, and for every line {"seconds": s} of its input {"started": true} once it is at work, and then
what it did and when. Times are of `perf_counter`, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any

PROMPT, ANSWER = 64, 128  # tokens
COMMON = {"vocab_size": 32000, "tie_word_embeddings": True, "max_position_embeddings": 2048}
SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "0.1b": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "0.5b": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
}

Started = Callable[[], None]


class Gate:
    """`Runtime.check` on one image, again and again."""

    def __init__(self, job: dict[str, Any]) -> None:
        from safevlm_runtime.bench.subject import ENGINE_SECONDS, MAX_IMAGE_BYTES
        from safevlm_sdk import Runtime
        from safevlm_sdk.raster import Limits

        self._image, self._rate = job["image"], job["per_second"]
        self._runtime = Runtime.load(
            job["bundle"],
            digest=job["digest"],
            provider=job["provider"],
            threads=job["threads"],
            limits=Limits(max_bytes=MAX_IMAGE_BYTES),
            allow_uncalibrated=True,  # nothing is decided by what is judged here
            engine_seconds=ENGINE_SECONDS,
        )
        self.about = {"bundle": self._runtime.digests[0], "provider": self._runtime.provider}

    def run(self, seconds: float, started: Started) -> dict[str, Any]:
        """When each check began, and its milliseconds."""
        self._check()
        started()
        begun = now = perf_counter()
        starts, ms = [], []
        while now < begun + seconds:
            if self._rate:
                time.sleep(max(0.0, begun + len(ms) / self._rate - now))
                now = perf_counter()
            starts.append(now)
            self._check()
            ms.append((perf_counter() - now) * 1e3)
            now = perf_counter()
        return {"begin": begun, "end": now, "starts": starts, "ms": ms}

    def _check(self) -> None:
        verdict = self._runtime.check(self._image)
        if verdict.error is not None:
            raise SystemExit(f"the gate did not judge {self._image}: {verdict.error}: {verdict.reason}")


class Llm:
    """Greedy answers of PyTorch to one prompt of random tokens, one after the other."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

        from safevlm_training.quiet import quiet

        wanted = job["device"]
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
        name = job["dtype"] or ("bfloat16" if self._device == "cuda" else "float32")
        if job["threads"]:
            torch.set_num_threads(job["threads"])
        torch.manual_seed(0)
        with quiet():
            if job["llm"]:
                model = AutoModelForCausalLM.from_pretrained(job["llm"], dtype=getattr(torch, name))
            else:
                model = LlamaForCausalLM(LlamaConfig(**COMMON, **SIZES[job["size"]]))
        self._model = model.to(device=self._device, dtype=getattr(torch, name)).eval()
        self._model.generation_config.eos_token_id = None  # an answer ends by its length
        self._model.generation_config.pad_token_id = 0
        self._prompt = torch.randint(5, 1000, (1, PROMPT), device=self._device)
        self.about = {
            "llm": job["llm"] or f"Llama, {job['size']}, random weights",
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "dtype": name,
            "device": torch.cuda.get_device_name() if self._device == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "prompt_and_answer_tokens": [PROMPT, ANSWER],
        }

    def run(self, seconds: float, started: Started) -> dict[str, Any]:
        """When each token came; it is at work from the first one on."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        times: list[float] = []

        class Ticker(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                if input_ids.is_cuda:
                    torch.cuda.synchronize()
                times.append(perf_counter())
                if len(times) == 1:
                    started()
                over = times[-1] >= times[0] + seconds
                return torch.full((len(input_ids),), over, dtype=torch.bool, device=input_ids.device)

        criteria = StoppingCriteriaList([Ticker()])
        mask = torch.ones_like(self._prompt)
        with torch.inference_mode():
            while not times or times[-1] < times[0] + seconds:
                self._model.generate(
                    self._prompt,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=ANSWER,
                    stopping_criteria=criteria,
                )
        gpu = torch.cuda.max_memory_allocated() / 2**20 if self._device == "cuda" else None
        return {"begin": times[0], "end": times[-1], "times": times, "gpu_peak_mib": gpu}


def main() -> None:
    from safevlm_runtime.bench.cold_child import peak_mib

    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print; only answers go out

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    job = json.loads(sys.argv[1])
    work = Gate(job) if job["kind"] == "gate" else Llm(job)
    say({"ready": work.about})
    for line in sys.stdin:
        found = work.run(json.loads(line)["seconds"], lambda: say({"started": True}))
        say(found | {"peak_mib": peak_mib()})


if __name__ == "__main__":
    main()
