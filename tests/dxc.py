"""Compiles HLSL with DXC, Microsoft's compiler, by the arguments that wgpu gives it, and writes the DXIL as text.

usage: dxc.py LIBRARY LIST      a line of LIST: FILE, PROFILE and further arguments, separated by tabs; the text goes to
                                FILE.dxil
"""
import ctypes
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

# The interface is one of C++ objects: a method is known by its place in the table of virtual functions, which
# Microsoft's dxcapi.h tells. In this version of the library the objects' common base has three methods and a
# destructor, which takes two places.
BASE = 5
COMPILE, DISASSEMBLE = BASE, BASE + 1  # of IDxcCompiler3
STATUS, RESULT, ERRORS = BASE, BASE + 1, BASE + 2  # of IDxcResult
POINTER, SIZE = BASE, BASE + 1  # of IDxcBlob
UTF8 = 65001
# Of a library that is not on Windows. No switch turns it off.
UNSIGNED = "warning: DXIL.dll not found.  Resulting DXIL will not be signed for use in release environments."


class Guid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 16)]


class Buffer(ctypes.Structure):
    _fields_ = [("start", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


def guid(text):
    return ctypes.pointer(Guid((ctypes.c_ubyte * 16)(*uuid.UUID(text).bytes_le)))


COMPILER = guid("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
COMPILER_3 = guid("228b4687-5a6a-4730-900c-9702b2203f54")
DXC_RESULT = guid("58346cda-dde7-4497-9461-6f87af5e0659")


def call(this, place, kind, *arguments):
    """Calls a method. Objects are never released: the process is short."""
    table = ctypes.cast(this, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    method = ctypes.CFUNCTYPE(kind, ctypes.c_void_p, *map(type, arguments))(table[place])
    return method(this, *arguments)


def made(this, place, *arguments):
    """Calls a method whose last argument takes the object that it makes."""
    out = ctypes.c_void_p()
    status = call(this, place, ctypes.c_int32, *arguments, ctypes.pointer(out))
    if status < 0:
        raise OSError(f"DXC failed with {status & 0xFFFFFFFF:#x}")
    return out


def blob(this):
    if not this:
        return b""
    return ctypes.string_at(call(this, POINTER, ctypes.c_void_p), call(this, SIZE, ctypes.c_size_t))


def compile_file(library, line):
    """The complaints about a file of the list."""
    path, profile, *flags = line.split("\t")
    # One for each file: they must not be shared between threads.
    compiler = ctypes.c_void_p()
    if library.DxcCreateInstance(COMPILER, COMPILER_3, ctypes.pointer(compiler)) < 0:
        raise OSError("the library has no IDxcCompiler3")
    # As in `compile_dxc` of wgpu-hal's src/dx12/shader_compilation.rs.
    arguments = [os.path.basename(path), "-E", "main", "-T", profile, "-HV", "2018", "-no-warnings", "-Ges", *flags]
    with open(path, "rb") as file:
        text = file.read()
    source = ctypes.pointer(Buffer(text, len(text), UTF8))
    words = (ctypes.c_wchar_p * len(arguments))(*arguments)
    count, no_includes = ctypes.c_uint32(len(arguments)), ctypes.c_void_p()
    result = made(compiler, COMPILE, source, words, count, no_includes, DXC_RESULT)
    status = ctypes.c_int32()
    call(result, STATUS, ctypes.c_int32, ctypes.pointer(status))
    # wgpu takes any text for an error, so warnings count.
    errors = blob(made(result, ERRORS)).decode().strip("\0").replace(UNSIGNED, "").strip()
    if status.value < 0 or errors:
        return f"{path} for {profile}: {errors or hex(status.value)}\n"
    dxil = blob(made(result, RESULT))
    disassembled = made(compiler, DISASSEMBLE, ctypes.pointer(Buffer(dxil, len(dxil), 0)), DXC_RESULT)
    with open(f"{path}.dxil", "wb") as file:
        file.write(blob(made(disassembled, RESULT)).strip(b"\0"))
    return ""


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.DxcCreateInstance.restype = ctypes.c_int32
    with open(sys.argv[2], encoding="utf-8") as file:
        lines = file.read().splitlines()
    # A call leaves Python's lock, so threads compile side by side.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = "".join(pool.map(lambda line: compile_file(library, line), lines))
    sys.stderr.write(complaints)
    sys.exit(1 if complaints else 0)


main()
