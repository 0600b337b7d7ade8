"""CUDA kernels compiled for a GPU that is not there: NVRTC to machine code, and what that consists of.

NVRTC and nvdisasm are wheels and need neither a GPU nor a driver. NVRTC is called through ctypes, so that
two versions of it can be had side by side. The tests hold the kernels to what is found here, too.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections import Counter
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from utxo_index_kernels.launcher import COMPILE_OPTIONS

NVRTC_PACKAGES = {"newest": "nvidia-cuda-nvrtc", "oldest": "nvidia-cuda-nvrtc-cu12"}
"""The NVRTC of CUDA 13, and the oldest one of CUDA 12 that CuPy 14 runs with."""

CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy adds to the launcher's options."""

OPTIONS = (*COMPILE_OPTIONS, *CUPY_OPTIONS, "--ptxas-options=-v")


class KernelCode(NamedTuple):
    """What a kernel became: registers, bytes of stack and of spills a thread, bytes of static shared memory a block,
    and how often each opcode comes."""

    n_registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int
    opcodes: Counter[str]


class Compiled(NamedTuple):
    """The kernels by name (none where they do not compile), and what the compiler had to say, which is its warnings."""

    kernels: dict[str, KernelCode]
    warnings: str


def package_file(package: str, pattern: str) -> Path | None:
    """The file of an installed package whose path fits the pattern."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    return next((Path(file.locate()) for file in files if re.search(pattern, str(file))), None)


def nvrtc_library(which: str) -> Path | None:
    return package_file(NVRTC_PACKAGES[which], r"libnvrtc\.so[.\d]*$")


def disassembler() -> Path | None:
    return package_file("nvidia-cuda-nvdisasm", r"bin/nvdisasm$")


def missing_packages() -> list[str]:
    """Those of the wheels that are not installed; there are none but for Linux."""
    found = {NVRTC_PACKAGES[which]: nvrtc_library(which) for which in NVRTC_PACKAGES}
    found["nvidia-cuda-nvdisasm"] = disassembler()
    return [package for package, path in found.items() if path is None]


def architectures(nvrtc: Path) -> list[int]:
    """What this NVRTC compiles for: 75 for sm_75."""
    library = ctypes.CDLL(str(nvrtc))
    n = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(n))
    numbers = (ctypes.c_int * n.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return list(numbers)


def compile_kernels(nvrtc: Path, source: str, architecture: int, folder: Path) -> Compiled:
    """Compile for sm_<architecture>, and take apart what comes out; `folder` is for the cubin."""
    library = ctypes.CDLL(str(nvrtc))
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [option.encode() for option in (f"--gpu-architecture=sm_{architecture}", *OPTIONS)]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    # NVRTC 12.0 leaves its thread in the locale C, where files are read as ASCII; -1 is the locale of the process.
    ctypes.CDLL(None).uselocale(ctypes.c_void_p(-1))

    def output(name: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{name}")(program, buffer)
        return buffer.raw

    log = output("ProgramLog").decode().strip("\0 \n")
    if failed:
        return Compiled({}, log or "failed without a word")
    cubin = folder / f"sm_{architecture}.cubin"
    cubin.write_bytes(output("CUBIN"))
    library.nvrtcDestroyProgram(ctypes.byref(program))
    opcodes = _opcodes(cubin)
    report = re.compile(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers"
        r"(?:[^\n]*?(\d+) bytes smem)?",
        re.DOTALL,
    )
    kernels = {
        name: KernelCode(int(registers), int(stack), int(spill), int(shared or 0), opcodes[name])
        for name, stack, spill, registers, shared in report.findall(log)
    }
    return Compiled(kernels, re.sub(r"^ptxas (info    |        \.).*\n?", "", log, flags=re.MULTILINE))


def _opcodes(cubin: Path) -> dict[str, Counter[str]]:
    command = [str(disassembler()), "-c", str(cubin)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    opcodes: dict[str, Counter[str]] = {}
    kernel = ""
    for line in text.splitlines():
        if section := re.match(r"\.text\.(\w+):", line):
            kernel = section[1]
            opcodes[kernel] = Counter()
        elif code := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)", line):
            opcodes[kernel][family(code[1])] += 1
    return opcodes


def family(opcode: str) -> str:
    """An opcode under the name that all architectures share: RED.ADD.64 for RED.E.ADD.64.STRONG.GPU and REDG.…"""
    name, *parts = opcode.split(".")
    if name in ("RED", "REDG", "ATOMS", "ATOMG", "ATOM"):
        name = {"REDG": "RED", "ATOM": "ATOMG"}.get(name, name)
        return ".".join([name, *(part for part in parts if part in ("ADD", "OR", "64", "CAST", "SPIN", "CAS"))])
    if name in ("LDG", "STG"):
        return ".".join([name, *(part for part in parts if part in ("64", "128"))])
    return name
