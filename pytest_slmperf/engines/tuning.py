"""Environment variables that tune an engine: those of its own process, without secrets and without this machine's places.

A variable set in one session and not in the other explains a change that nothing else in a result does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_slmperf import redaction

LONGEST = 200  # characters of a value
MOST = 100  # variables

# Of engines and of the libraries below them: kernels, threads, communication, memory.
_TUNING = re.compile(
    r"(VLLM|SGLANG|TGI|LMDEPLOY|TORCH|TORCHINDUCTOR|TORCHDYNAMO|TORCHELASTIC|PYTORCH|TRITON|XFORMERS|FLASHINFER|FLASH|HF"
    r"|TRANSFORMERS|TOKENIZERS|ACCELERATE|CUDA|CUDNN|CUBLAS|CUBLASLT|CUTLASS|NVIDIA|NCCL|GLOO|UCX|HIP|HSA|ROCM|ROCBLAS|HIPBLASLT"
    r"|RCCL|MIOPEN|AMD|AITER|OMP|GOMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|BLIS|NUMEXPR|MALLOC|TCMALLOC)_\w+"
    r"|LD_PRELOAD|GLIBC_TUNABLES|PYTHONHASHSEED|PYTHONOPTIMIZE|PYTHONMALLOC"
)
# Where something lies, who may use it, which device of several this process sees: not what is asked of the engine.
_PLACE = re.compile(
    r".*_(DIRS?|DIRECTORY|PATHS?|HOME|ROOT|FOLDER|FILES?|LOCATION|URL|URI|ENDPOINT|HOST|ADDR|IP|PORT|RANK|PID|ID|IFNAME)"
    r"|(CUDA|NVIDIA|HIP|ROCR|GPU)_(MPS_)?VISIBLE_DEVICES|NVIDIA_(REQUIRE|DRIVER_CAPABILITIES)\w*|.*(LOG|LOGGING|USAGE|TELEMETRY|PROGRESS_BARS?)(_\w+)?"
)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that tune an engine, sorted by name. A file is kept by its name, without the folder it lies in."""
    kept: dict[str, str] = {}
    for name in sorted(environ):
        value = environ[name].strip()
        if not _TUNING.fullmatch(name) or _PLACE.fullmatch(name) or redaction.is_suspect(name, value):
            continue
        kept[name] = _without_folders(value)[:LONGEST]
        if len(kept) == MOST:
            break
    return kept


def _without_folders(value: str) -> str:
    return re.sub(r"(?:~|\.{1,2})?/(?:[^\s:;,/=]+/)*([^\s:;,/=]*)", r"\1", value)
