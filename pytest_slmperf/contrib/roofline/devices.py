"""Peaks of accelerators by the name NVML gives them: published figures, dense (without sparsity).

The makers' data sheets quote tensor-core rates "with sparsity"; half of that is the dense rate that serving can use.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Device:
    """A device's limits. ``bandwidth`` in bytes/s, ``flops`` per second by dtype, ``memory`` in bytes.

    ``source``: the data sheet, or "measured" with the method.
    """

    name: str
    bandwidth: float
    flops: dict[str, float] = field(hash=False)
    memory: int | None
    source: str

    def flops_for(self, dtype: str | None) -> float | None:
        """Peak for that dtype; None where it is not known."""
        name = {"half": "float16", "float": "float32", None: "bfloat16", "auto": "bfloat16"}.get(dtype, dtype)
        return self.flops.get(str(name))


def _gpu(name: str, gb: int, gb_s: float, half_tflops: float, fp8_tflops: float | None, source: str) -> Device:
    flops = {"float16": half_tflops * 1e12, "bfloat16": half_tflops * 1e12}
    if fp8_tflops is not None:
        flops["fp8"] = fp8_tflops * 1e12
    return Device(name, gb_s * 1e9, flops, gb * 10**9, source)


# Names as nvmlDeviceGetName gives them. Only the very name counts: an L40 is no L4, and a MIG slice has a part of it.
DEVICES = (
    _gpu("NVIDIA H200", 141, 4800, 989, 1979, "NVIDIA H200 data sheet"),
    _gpu("NVIDIA GH200 480GB", 96, 4000, 989, 1979, "NVIDIA GH200 data sheet (HBM3)"),
    _gpu("NVIDIA H100 NVL", 94, 3900, 835, 1671, "NVIDIA H100 data sheet"),
    _gpu("NVIDIA H100 PCIe", 80, 2000, 756, 1513, "NVIDIA H100 PCIe product brief"),
    _gpu("NVIDIA H100 80GB HBM3", 80, 3350, 989, 1979, "NVIDIA H100 data sheet (SXM)"),
    _gpu("NVIDIA A100-SXM4-80GB", 80, 2039, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100-SXM4-40GB", 40, 1555, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100 80GB PCIe", 80, 1935, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA A100-PCIE-40GB", 40, 1555, 312, None, "NVIDIA A100 data sheet"),
    _gpu("NVIDIA L40S", 48, 864, 362, 733, "NVIDIA L40S data sheet"),
    _gpu("NVIDIA L4", 24, 300, 121, 242, "NVIDIA L4 data sheet"),
    _gpu("NVIDIA A10G", 24, 600, 70, None, "NVIDIA A10G data sheet"),
    _gpu("NVIDIA A10", 24, 600, 125, None, "NVIDIA A10 data sheet"),
    Device("Tesla T4", 320e9, {"float16": 65e12}, 16 * 10**9, "NVIDIA T4 data sheet"),
    Device("Tesla V100-SXM2-16GB", 900e9, {"float16": 125e12}, 16 * 10**9, "NVIDIA V100 data sheet"),
    Device("Tesla V100-SXM2-32GB", 900e9, {"float16": 125e12}, 32 * 10**9, "NVIDIA V100 data sheet"),
)


def published(name: str) -> Device | None:
    """The published peaks of a device by its NVML name; None for one that is not in the table."""
    return next((device for device in DEVICES if device.name.casefold() == name.strip().casefold()), None)
