"""NVML through nvidia-ml-py: the only file that initialises it. Field ids, return codes, and messages about them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

ENERGY, POWER_AVERAGE, POWER_INSTANT = 83, 185, 186
# Throttle time since driver load in ns: software power cap, software thermal, hardware thermal, power brake.
THROTTLE = {74: "sw_power_cap", 269: "sw_thermal", 270: "hw_thermal", 271: "hw_power_brake"}
SCOPE_GPU, SCOPE_MODULE = 0, 1
NOT_SUPPORTED, NO_PERMISSION, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 3, 4, 12, 13
DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH = 9, 18
GPU_IS_LOST, RESET_REQUIRED, NOT_FOUND = 15, 16, 6
OLD_PACKAGE = -2  # not an nvmlReturn: the Python package lacks the function
FATAL = {GPU_IS_LOST, RESET_REQUIRED, 1, 28}  # lost, needs a reset, NVML shut down, GPU not found: polling is over

LIBRARY = "libnvidia-ml.so.1"
WORDS = {
    NOT_SUPPORTED: "not supported by this device",
    NO_PERMISSION: "no permission (ask the administrator, or run with access to the NVIDIA device files)",
    DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    LIBRARY_NOT_FOUND: f"no NVML library ({LIBRARY}) on this machine",
    FUNCTION_NOT_FOUND: "missing in this driver's NVML (upgrade the driver)",
    LIB_RM_VERSION_MISMATCH: "the NVML library and the loaded driver differ in version (reboot after the driver update)",
    GPU_IS_LOST: "the GPU is lost: it has fallen off the bus (see dmesg for Xid 79)",
    OLD_PACKAGE: (
        "the Python module pynvml is too old to ask for it "
        "(pip uninstall -y pynvml && pip install --upgrade --force-reinstall nvidia-ml-py)"
    ),
    RESET_REQUIRED: "the GPU needs a reset (nvidia-smi --gpu-reset)",
}


def words(code: int) -> str:
    """The message for a user about an NVML return code."""
    return WORDS.get(code) or f"NVML error {code}"


class NvmlFailure(Exception):
    """A failed NVML call. ``code``: its nvmlReturn_t; ``message``: replaces the usual message of the code."""

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(message or words(code))
        self.code = code


class FieldValue(NamedTuple):
    """One field. ``value``: None unless its nvmlReturn, ``code``, is success."""

    value: int | float | None
    code: int
    wall_s: float  # the driver's time stamp, seconds since 1970; 0 if it gives none


def load() -> Any:
    """The nvidia-ml-py module. ImportError if the package is absent or does not load.

    The inactive PyPI project ``pynvml`` raises a FutureWarning on every import, which would fail a run whose warnings are
    errors. It is ignored here and explained by ``foreign_package``.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            import pynvml
        except ImportError:
            raise
        except Exception as error:  # for instance an old package on a new Python
            raise ImportError(f"pynvml does not load: {type(error).__name__}: {error}") from error

    return (
        getattr(pynvml, "nvml", pynvml) if hasattr(pynvml, "__path__") else pynvml
    )  # the project's package exports only a part


def foreign_package() -> str | None:
    """A sentence if the inactive PyPI project ``pynvml`` is installed; None otherwise."""
    from importlib import metadata

    old = shadowed()
    try:
        version = f" {metadata.version('pynvml')}"
    except metadata.PackageNotFoundError:
        if not old:
            return None
        version = ""
    what = (
        "stands in the place of nvidia-ml-py and lacks newer functions"
        if old
        else "is installed: it warns on every import of pynvml"
    )
    return (
        f"the inactive package pynvml{version} {what}; "
        "run: pip uninstall -y pynvml && pip install --force-reinstall nvidia-ml-py"
    )


def shadowed() -> bool:
    """Whether ``import pynvml`` finds the inactive project, which is a package: nvidia-ml-py is a single module."""
    import warnings
    from importlib.util import find_spec

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            spec = find_spec("pynvml")
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.submodule_search_locations is not None


class Nvml:
    """NVML, initialised. It must stay open while energy is metered: without a client, the driver sleeps and its counters
    stop."""

    def __init__(self) -> None:
        """NvmlFailure without library, driver or permission; ImportError without nvidia-ml-py."""
        self.lib = load()
        try:
            self.call("nvmlInit")
        except NvmlFailure as error:
            raise NvmlFailure(error.code, _unusable_library(error.code)) from None

    def call(self, name: str, *args: Any) -> Any:
        """One call by name; NvmlFailure with the return code instead of nvidia-ml-py's own error classes.

        Text is str, although old versions of the package return bytes.
        """
        function = getattr(self.lib, name, None)
        if function is None:
            raise NvmlFailure(OLD_PACKAGE)
        try:
            answer = function(*args)
        except self.lib.NVMLError as error:
            raise NvmlFailure(int(error.value)) from None
        except AttributeError:
            raise NvmlFailure(FUNCTION_NOT_FOUND) from None
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def ask(self, name: str, *args: Any) -> Any:
        """Like ``call``, but None if the call fails: for optional facts."""
        try:
            return self.call(name, *args)
        except (NvmlFailure, UnicodeDecodeError, OSError):
            return None

    def fields(self, handle: Any, wanted: Sequence[tuple[int, int]]) -> list[FieldValue]:
        """Values of (field id, scope id) in one call. NvmlFailure if the whole call fails."""
        return FieldReader(self, handle, wanted)()

    def close(self) -> None:
        self.ask("nvmlShutdown")


@contextmanager
def opened() -> Iterator[Nvml | None]:
    """NVML for a few queries, closed at the end; None without the package, the library or a driver."""
    try:
        nvml = Nvml()
    except (NvmlFailure, ImportError):
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.close()


def _unusable_library(code: int) -> str | None:
    """Why an NVML library that is present does not initialise; None if it is absent, or if the code suffices."""
    import ctypes

    mend = "reinstall the NVIDIA driver, or take its folder out of LD_LIBRARY_PATH"
    if code == FUNCTION_NOT_FOUND:
        return f"{LIBRARY} has no nvmlInit, so it is no NVML library ({mend})"
    if code != LIBRARY_NOT_FOUND:
        return None
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        return None if "No such file" in str(error) else f"the NVML library does not load: {error} ({mend})"
    return None


class FieldReader:
    """Reads the same fields, (field id, scope id) each, of one GPU repeatedly.

    nvidia-ml-py builds and unpacks the array member by member at every call, which costs more than the driver's part of
    the call; here the array is built once and unpacked in one step.
    """

    _LAYOUT = struct.Struct("=IIqqII8s")  # nvmlFieldValue_t: id, scope, stamp (µs), latency, type, nvmlReturn, value
    _VALUES = tuple(struct.Struct(f"={letter}") for letter in ("d", "I", "Q", "Q", "q", "i", "H"))  # by nvmlValueType_t

    def __init__(self, nvml: Nvml, handle: Any, wanted: Sequence[tuple[int, int]]) -> None:
        """NvmlFailure if the Python package supports no fields, or only fields without a scope."""
        self._nvml, self._handle, self._count = nvml, handle, len(wanted)
        kind = getattr(nvml.lib, "c_nvmlFieldValue_t", None)
        if kind is None or "scopeId" not in dict(kind._fields_):
            raise NvmlFailure(OLD_PACKAGE)
        self._array = (kind * len(wanted))()
        for field, (number, scope) in zip(self._array, wanted, strict=True):
            field.fieldId, field.scopeId = number, scope
        self._function: Any = None

    def __call__(self) -> list[FieldValue]:
        """The current values. NvmlFailure if the whole call fails; a failure of one field is in its FieldValue."""
        if self._function is None:
            self._function = self._nvml.call("_nvmlGetFunctionPointer", "nvmlDeviceGetFieldValues")
        code = self._function(self._handle, self._count, self._array)
        if code != 0:
            raise NvmlFailure(code)
        return [
            self._value(kind, rc, stamp, raw) for _, _, stamp, _, kind, rc, raw in self._LAYOUT.iter_unpack(self._array)
        ]

    def _value(self, kind: int, rc: int, stamp: int, raw: bytes) -> FieldValue:
        if rc != 0 or kind >= len(self._VALUES):
            return FieldValue(None, rc or NOT_SUPPORTED, 0.0)
        return FieldValue(self._VALUES[kind].unpack_from(raw)[0], 0, stamp / 1e6)
