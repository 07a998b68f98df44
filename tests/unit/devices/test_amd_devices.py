"""AMD GPUs from the kernel's topology, on trees like those of /sys and /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_slmperf.devices import amd, gpus

GIB = 2**30
CPU = "cpu_cores_count 64\nsimd_count 0\nmem_banks_count 1\nunique_id 0\ndrm_render_minor 0\n"
GPU = "cpu_cores_count 0\nsimd_count 1216\nmem_banks_count 1\nvendor_id 4098\nunique_id {}\ndrm_render_minor {}\n"


class Tree:
    """/sys and /dev of a machine: one processor, then GPUs."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.dev = folder / "sys", folder / "dev"
        (self.dev / "dri").mkdir(parents=True)
        (self.dev / "kfd").touch()
        self.node(0, CPU, memory="heap_type 0\nsize_in_bytes 540000000000\n")

    def node(self, number: int, properties: str, memory: str) -> None:
        folder = self.sys / f"class/kfd/kfd/topology/nodes/{number}"
        (folder / "mem_banks/0").mkdir(parents=True)
        (folder / "properties").write_text(properties)
        (folder / "mem_banks/0/properties").write_text(memory)

    def gpu(self, number: int, gib: int = 64, *, open_: bool = True) -> None:
        minor = 127 + number
        self.node(number, GPU.format(number, minor), f"heap_type 1\nsize_in_bytes {gib * GIB}\nflags 0\n")
        if open_:
            (self.dev / f"dri/renderD{minor}").touch()

    def visible(self, **environ: str) -> list[amd.KfdGpu]:
        return amd.visible(environ, root=self.sys, devices=self.dev)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_gpus_in_their_order_without_the_processor(tree: Tree) -> None:
    for number, gib in ((10, 192), (2, 64), (1, 32)):
        tree.gpu(number, gib)
    assert [gpu.memory_bytes for gpu in tree.visible()] == [32 * GIB, 64 * GIB, 192 * GIB]
    assert tree.visible()[2].uuid == "GPU-000000000000000a"


def test_a_machine_without_the_driver_or_without_the_gpu_of_another_container(tree: Tree) -> None:
    tree.gpu(1)
    tree.gpu(2, open_=False)
    assert len(tree.visible()) == 1
    (tree.dev / "kfd").unlink()  # a container that was given none of them
    assert tree.visible() == []
    assert amd.visible({}, root=tree.sys / "nothing", devices=tree.dev) == []


@pytest.mark.parametrize(
    ("environ", "gib"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, [48, 16]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0000000000000003"}, [48]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, [48]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "1"}, [32]),
        ({"HIP_VISIBLE_DEVICES": "0,7,1"}, [16]),  # the list ends at the first wrong entry
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_what_is_hidden_is_not_counted(tree: Tree, environ: dict[str, str], gib: list[int]) -> None:
    for number in (1, 2, 3):
        tree.gpu(number, 16 * number)
    assert [gpu.memory_bytes for gpu in tree.visible(**environ)] == [size * GIB for size in gib]


def test_files_that_the_kernel_does_not_let_read_or_that_are_odd(tree: Tree) -> None:
    tree.node(1, "", memory="")
    tree.node(2, "simd_count many\n", memory="")
    tree.node(3, GPU.format(0, 0), memory="")
    assert tree.visible() == [amd.KfdGpu("", None)]


@pytest.fixture
def amd_host(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Two AMD GPUs and no NVIDIA GPU."""
    for name in (amd.RUNTIME, *amd.VISIBLE):
        monkeypatch.delenv(name, raising=False)
    tree.gpu(1)
    tree.gpu(2)
    present = amd.present
    monkeypatch.setattr(gpus, "nvidia_devices", lambda: 0)
    monkeypatch.setattr(amd, "present", lambda *_: present(tree.sys, tree.dev))
    return tree


def test_the_default_device_is_the_gpu(amd_host: Tree) -> None:
    assert gpus.rocm_device_count() == 2
    assert gpus.default_device() == "cuda:0"
    assert gpus.visible_variable({"HIP_VISIBLE_DEVICES": "1"}) == "HIP_VISIBLE_DEVICES"
    assert gpus.visible_variable({"CUDA_VISIBLE_DEVICES": "1"}) == "CUDA_VISIBLE_DEVICES"


def test_beside_an_nvidia_gpu_torch_counts_that(amd_host: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "nvidia_devices", lambda: 1)
    assert gpus.rocm_device_count() == 0
    assert gpus.visible_variable({"HIP_VISIBLE_DEVICES": "1"}) == "CUDA_VISIBLE_DEVICES"
