"""Translates kernels from nvcc's PTX to C++ with the functions of machine.h, statement by statement.

The instructions are those that occur in asnet's kernels; any other one is an error. A statement keeps the
PTX's file and line, which messages of the threads' checks name. Not modelled: rounding other than to the
nearest, approximate functions, the order of memory between blocks beyond fences and atomics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SIZES = (8, 16, 32, 64)
TYPES = {
    **{f"s{bits}": f"int{bits}_t" for bits in SIZES},
    **{f"{kind}{bits}": f"uint{bits}_t" for kind in "ub" for bits in SIZES},
    "pred": "bool",
    "f16": "f16",
    "bf16": "bf16",
    "f32": "float",
    "f64": "double",
}
#: Types of registers; integers are held as bits.
REGISTERS = TYPES | {f"s{bits}": f"uint{bits}_t" for bits in SIZES}

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<="}
COMPARISONS |= {"hi": ">", "hs": ">="}
#: True where an operand is NaN: the negation of the opposite.
UNORDERED = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}

INFIX = {"and": "&", "or": "|", "xor": "^"}
FUNCTIONS = {"add", "sub", "mul", "min", "max"}
MULTIPLY = {"bf16.bf16": "bfloat16", "f16.f16": "float16", "tf32.tf32": "tf32"}

HERE = "Location::current()"


class UnknownInstruction(Exception):
    """An instruction that is not supported."""


@dataclass
class Entry:
    """A kernel in PTX: its mangled name, and its statements with their line numbers."""

    name: str
    lines: list[tuple[int, str]]
    registers: list[tuple[str, str, int]] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0


def entries(text: str) -> Iterator[tuple[str, int, str]]:
    """Mangled name, first line and body of every kernel."""
    for match in re.finditer(r"^\.visible \.entry (\S+)\(.*?^\{\n(.*?)^\}\n", text, re.MULTILINE | re.DOTALL):
        yield match[1], text.count("\n", 0, match.start(2)) + 1, match[2]


SHARED = re.compile(r"\.shared \.align (\d+) \.([a-z]\d+) ([\w$]+)(?:\[(\d+)\])?;")


def read_entry(name: str, first_line: int, body: str, module: str) -> Entry:
    """Splits a body into statements and lays out its shared memory."""
    entry = Entry(name, [])
    declared = [match for match in SHARED.finditer(module) if match[3] in body]
    for match in declared:
        alignment, size = int(match[1]), int(re.sub(r"\D", "", match[2])) // 8 * int(match[4] or 1)
        entry.shared[match[3]] = -(-entry.shared_bytes // alignment) * alignment
        entry.shared_bytes = entry.shared[match[3]] + size
    for match in re.finditer(r"\.extern \.shared \.align \d+ \.b8 ([\w$]+)\[\];", module):
        entry.shared[match[1]] = 0x10000000
    for number, line in enumerate(body.split("\n"), first_line):
        statement = line.split("//")[0].strip()
        if register := re.fullmatch(r"\.reg \.(\w+)\s+(%\w+)<(\d+)>;", statement):
            entry.registers.append((register[1], register[2], int(register[3])))
        elif statement and not statement.startswith("."):
            entry.lines.append((number, statement))
    return entry


class Translator:
    """One kernel's statements in C++."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def operand(self, text: str, type_name: str) -> str:
        """A register, immediate, special register or shared address, as a value of a type."""
        text = text.strip()
        cpp = TYPES[type_name]
        if special := re.fullmatch(r"%(tid|ctaid|ntid|nctaid)\.([xyz])", text):
            return f"as<{cpp}>(machine.{special[1]}[{'xyz'.index(special[2])}])"
        if text.startswith("%"):
            return f"as<{cpp}>({self.register(text)})"
        if text.startswith("0f"):
            return f"as<{cpp}>(uint32_t{{0x{text[2:]}}})"
        if text.startswith("0d"):
            return f"as<{cpp}>(uint64_t{{0x{text[2:]}u}})"
        symbol, _, offset = text.partition("+")
        if symbol in self.entry.shared:
            return f"as<{cpp}>(uint64_t{{{self.entry.shared[symbol] + int(offset or 0)}}})"
        if parameter := re.search(r"_param_(\d+)$", text):
            return f"as<{cpp}>(reinterpret_cast<uint64_t>(parameters[{parameter[1]}]))"
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", text):
            return f"as<{cpp}>(static_cast<uint64_t>({text}{'' if text.startswith('-') else 'u'}))"
        raise UnknownInstruction(f"operand {text}")

    @staticmethod
    def register(text: str) -> str:
        """The variable of a register."""
        return text.strip().replace("%", "R_")

    def assign(self, target: str, value: str) -> str:
        """``target = value``; nothing for ``_``, which discards the value."""
        return "" if target.strip() == "_" else f"set({self.register(target)}, {value});"

    def memory(self, space: str, address: str, size: int) -> str:
        """A pointer to memory of a space, checked."""
        base, _, offset = address.strip("[] ").partition("+")
        if space == "param":
            return f"reinterpret_cast<const unsigned char*>({self.operand(base, 'u64')}) + {offset or 0}"
        value = self.operand(base, "u32" if space == "shared" and base.startswith("%r") else "u64")
        return f"{space}(machine, uint64_t({value}) + {offset or 0}, {size}, {HERE})"

    def instruction(self, opcode: str, arguments: list[str]) -> str:
        """One instruction as a statement."""
        name, *modifiers = opcode.split(".")
        type_name = modifiers[-1] if modifiers else ""
        handler = getattr(self, f"on_{name}", None)
        if handler is not None:
            statement: str = handler(modifiers, arguments)
            return statement
        value = self.arithmetic(name, modifiers, type_name, arguments)
        return self.assign(arguments[0], value)

    def arithmetic(self, name: str, modifiers: list[str], type_name: str, arguments: list[str]) -> str:
        """The value of an instruction that computes from registers alone."""
        allowed = {"rn", "lo", "wide", type_name}
        if type_name not in TYPES or not set(modifiers) <= allowed:
            raise UnknownInstruction(".".join([name, *modifiers]))
        a, *rest = [self.operand(argument, type_name) for argument in arguments[1:]]
        cpp = TYPES[type_name]
        if name == "mul" and "wide" in modifiers:
            wide = TYPES[f"{type_name[0]}{2 * int(type_name[1:])}"]
            return f"mul<{wide}>({wide}({a}), {wide}({rest[0]}))"
        if name in FUNCTIONS:
            return f"{name}<{cpp}>({a}, {rest[0]})"
        if name in INFIX:
            return f"{cpp}({a} {INFIX[name]} {rest[0]})"
        if name in ("div", "rem") and type_name[0] in "su":
            function = "divide" if name == "div" else "remainder"
            return f"{function}<{cpp}>(machine, {a}, {rest[0]}, {HERE})"
        if name == "div":
            return f"({a} / {rest[0]})"
        if name == "rcp":
            return f"({cpp}(1) / {a})"
        if name in ("shl", "shr"):
            return f"{name}<{cpp}>({a}, {self.operand(arguments[2], 'u32')})"
        if name == "mad":
            return f"add<{cpp}>(mul<{cpp}>({a}, {rest[0]}), {rest[1]})"
        if name == "fma":
            return f"std::fma({a}, {rest[0]}, {rest[1]})"
        if name == "neg":
            return f"neg<{cpp}>({a})"
        if name == "not":
            return f"!{a}" if type_name == "pred" else f"{cpp}(~{a})"
        if name == "selp":
            return f"({self.operand(arguments[3], 'pred')} ? {a} : {rest[0]})"
        if name == "bfi":
            position, length = (self.operand(argument, "u32") for argument in arguments[3:])
            return f"bfi<{cpp}>({a}, {rest[0]}, {position}, {length})"
        raise UnknownInstruction(".".join([name, *modifiers]))

    def on_setp(self, modifiers: list[str], arguments: list[str]) -> str:
        comparison, type_name = modifiers
        a, b = (self.operand(argument, type_name) for argument in arguments[1:])
        if comparison in UNORDERED:
            return self.assign(arguments[0], f"!({a} {UNORDERED[comparison]} {b})")
        return self.assign(arguments[0], f"({a} {COMPARISONS[comparison]} {b})")

    def on_mov(self, modifiers: list[str], arguments: list[str]) -> str:
        (type_name,), (target, source) = modifiers, arguments
        if target.startswith("{"):
            parts = elements(target)
            bits = int(type_name[1:]) // len(parts)
            whole = self.operand(source, type_name)
            return " ".join(
                self.assign(part, f"as<uint{bits}_t>(shr({whole}, {i * bits}))")
                for i, part in enumerate(parts)
            )
        if source.startswith("{"):
            parts = elements(source)
            bits = int(type_name[1:]) // len(parts)
            cpp = TYPES[type_name]
            joined = " | ".join(
                f"shl({cpp}({self.operand(part, f'b{bits}')}), {i * bits})" for i, part in enumerate(parts)
            )
            return self.assign(target, f"{cpp}({joined})")
        return self.assign(target, self.operand(source, type_name))

    def on_cvt(self, modifiers: list[str], arguments: list[str]) -> str:
        *rounding, to, of = modifiers
        if rounding not in ([], ["rn"]) or (of[0] in "fb" and to[0] in "su"):
            raise UnknownInstruction("cvt." + ".".join(modifiers))
        return self.assign(arguments[0], f"convert<{TYPES[to]}>({self.operand(arguments[1], of)})")

    def on_cvta(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers != ["to", "global", "u64"]:
            raise UnknownInstruction("cvta." + ".".join(modifiers))
        return self.assign(arguments[0], self.operand(arguments[1], "u64"))

    def on_ld(self, modifiers: list[str], arguments: list[str]) -> str:
        space, *_, type_name = modifiers
        targets = elements(arguments[0])
        size = int(re.sub(r"\D", "", type_name)) // 8 * len(targets)
        loads = " ".join(
            self.assign(target, f"load<{TYPES[type_name]}>(from, {i})") for i, target in enumerate(targets)
        )
        return f"{{ const void* const from = {self.memory(space, arguments[1], size)}; {loads} }}"

    def on_st(self, modifiers: list[str], arguments: list[str]) -> str:
        space, *_, type_name = modifiers
        sources = elements(arguments[1])
        size = int(re.sub(r"\D", "", type_name)) // 8 * len(sources)
        stores = " ".join(
            f"store(to, {i}, {self.operand(source, type_name)});" for i, source in enumerate(sources)
        )
        return f"{{ void* const to = {self.memory(space, arguments[0], size)}; {stores} }}"

    def on_bra(self, modifiers: list[str], arguments: list[str]) -> str:
        return f"goto {label(arguments[0])};"

    def on_ret(self, modifiers: list[str], arguments: list[str]) -> str:
        return "return;"

    def on_bar(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers == ["warp", "sync"]:
            return f"machine.sync_warp({self.operand(arguments[0], 'u32')}, {HERE});"
        if modifiers != ["sync"] or arguments != ["0"]:
            raise UnknownInstruction("bar." + ".".join(modifiers))
        return f"machine.barrier({HERE});"

    def on_shfl(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers != ["sync", "bfly", "b32"]:
            raise UnknownInstruction("shfl." + ".".join(modifiers))
        value, by, clamp, mask = (self.operand(argument, "u32") for argument in arguments[1:])
        target, _, inside = arguments[0].partition("|")
        exchange = self.assign(target, f"machine.shuffle_xor({mask}, {value}, {by}, {HERE})")
        check = f'if ({clamp} != 31) machine.fail("shfl within less than a warp", {HERE});'
        return f"{check} {exchange} {self.assign(inside, 'true') if inside else ''}"

    def on_mma(self, modifiers: list[str], arguments: list[str]) -> str:
        operation = MULTIPLY[".".join(modifiers[-3:-1])]
        shape = "m16n8k8" if operation == "tf32" else "m16n8k16"
        if modifiers[:5] != ["sync", "aligned", shape, "row", "col"]:
            raise UnknownInstruction("mma." + ".".join(modifiers))
        d, a, b, c = (elements(argument) for argument in arguments)
        values = ", ".join(self.operand(register, "f32") for register in c)
        a, b = ([self.operand(register, "u32") for register in registers] for registers in (a, b))
        results = " ".join(self.assign(register, f"d[{i}]") for i, register in enumerate(d))
        call = f"machine.multiply_{operation}(d, {{{', '.join(a)}}}, {{{', '.join(b)}}}, {HERE});"
        return f"{{ float d[4] = {{{values}}}; {call} {results} }}"

    def on_ldmatrix(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers not in (form.split() for form in ("sync aligned m8n8 x4 shared b16", TRANSPOSED)):
            raise UnknownInstruction("ldmatrix." + ".".join(modifiers))
        transposed = "true" if "trans" in modifiers else "false"
        row = self.memory("shared", arguments[1], 16)
        results = " ".join(self.assign(r, f"r[{i}]") for i, r in enumerate(elements(arguments[0])))
        return f"{{ uint32_t r[4]; machine.load_matrices(r, {row}, {transposed}, {HERE}); {results} }}"

    def on_cp(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers == ["async", "commit_group"]:
            return "machine.group_copies();"
        if modifiers == ["async", "wait_group"]:
            return f"machine.wait_for_copies({arguments[0]});"
        if modifiers not in (["async", cache, "shared", "global"] for cache in ("ca", "cg")):
            raise UnknownInstruction("cp." + ".".join(modifiers))
        to, of, size, read = arguments
        inside = f"{self.operand(read, 'u32')} != 0"
        target = self.memory("shared", to, int(size))
        return f"machine.copy({target}, {self.memory('global', of, int(size))}, {size}, {inside});"

    def on_membar(self, modifiers: list[str], arguments: list[str]) -> str:
        return "machine.fence();"

    def on_atom(self, modifiers: list[str], arguments: list[str]) -> str:
        if modifiers != ["global", "add", "u32"]:
            raise UnknownInstruction("atom." + ".".join(modifiers))
        address = f"reinterpret_cast<uint32_t*>({self.memory('global', arguments[1], 4)})"
        return self.assign(arguments[0], f"machine.add({address}, {self.operand(arguments[2], 'u32')})")

    def statement(self, text: str) -> str:
        """A line of PTX: a label, or instructions between braces or not."""
        if text.endswith(":"):
            return f"{label(text[:-1])}:;"
        translated = []
        for one in text.split(";"):
            # Braces around a whole instruction come from inline assembly.
            instruction = re.sub(r"^\{\s*(?=[a-z@])|^\s*\}$", "", one.strip()).strip()
            if not instruction or instruction == "{":
                continue
            match = re.fullmatch(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.]*)\s*(.*)", instruction)
            if match is None:
                raise UnknownInstruction(instruction)
            negated, guard, opcode, rest = match.groups()
            arguments = [argument.strip() for argument in re.split(r",(?![^{]*\})", rest)] if rest else []
            result = self.instruction(opcode, arguments)
            translated.append(f"if ({negated}{self.register(guard)}) {{ {result} }}" if guard else result)
        return " ".join(translated)

    def function(self, number: int, file: str) -> str:
        """The kernel as a function ``kernel_<number>``."""
        declarations = [
            f"{REGISTERS[kind]} " + ", ".join(f"{self.register(name)}{i}{{}}" for i in range(count)) + ";"
            for kind, name, count in self.entry.registers
        ]
        body = [f'#line {line} "{file}"\n{self.statement(text)}' for line, text in self.entry.lines]
        head = f"static void kernel_{number}(const Machine& machine, const void* const* parameters) {{"
        return "\n".join([head, *declarations, *body, "}"])


TRANSPOSED = "sync aligned m8n8 x4 trans shared b16"


def elements(text: str) -> list[str]:
    """``{a, b}`` or ``a``."""
    return [element.strip() for element in text.strip("{} ").split(",")]


def label(text: str) -> str:
    """A label as a name in C++."""
    return text.strip().replace("$", "L_")


def translate(path: Path, text: str, names: dict[str, str]) -> str:
    """C++ of the kernels `names`, mangled name to the name by which launches find them.

    Raises
    ------
    UnknownInstruction
        The PTX has an instruction that is not supported.
    """
    functions: list[str] = []
    table: list[str] = []
    for mangled, first_line, body in entries(text):
        if mangled in names:
            entry = read_entry(mangled, first_line, body, text)
            functions.append(Translator(entry).function(len(table), path.name))
            table.append(f'{{"{names[mangled]}", {entry.shared_bytes}, asnet::ptx::kernel_{len(table)}}}')
    rows = ",\n".join([*table, "{nullptr, 0, nullptr}"])
    kernels = f'extern "C" const asnet::ptx::Kernel asnet_ptx_kernels[] = {{\n{rows}}};\n'
    return "\n".join(['#include "ptx/machine.h"', "namespace asnet::ptx {", *functions, "}", kernels])
