"""Decodes quantized weights by the formats' definitions, in plain Python: what an export's numbers stand for, whether
each code is the nearest one, and how far a weight is from its source."""
import json
import struct
from array import array

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
FP4 = E2M1 + [-value for value in E2M1]


def _e4m3(code):
    exponent, fraction = code >> 3 & 15, code & 7
    if code & 127 == 127:
        return float("nan")
    value = fraction * 2.0**-9 if exponent == 0 else (8 + fraction) * 2.0**(exponent - 10)
    return -value if code & 128 else value


FP8 = [_e4m3(code) for code in range(256)]
# The values that elements have, ascending.
GRIDS = {"fp8": sorted({value for value in FP8 if value == value}), "fp4": sorted(set(FP4)),
         "int8": list(range(-128, 128)), "int4": list(range(-8, 8))}


def fp32(value):
    """Rounded to FP32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16(value):
    """Rounded to BF16, ties to even."""
    bits, = struct.unpack("<I", struct.pack("<f", value))
    return struct.unpack("<f", struct.pack("<I", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16))[0]


def ranges_file(ranges):
    """What --ranges takes, of {name: amax}."""
    header = {name: {"dtype": "F32", "shape": [], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(ranges)}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack(f"<{len(ranges)}f", *ranges.values())


def recipe_of(rules, settings=""):
    """A recipe's text; `rules`: (pattern or patterns, format, group or None, symmetric if it is said), `settings`:
    lines before them."""
    lines = [*settings.splitlines(), "rules:"]
    for modules, name, group, *symmetric in rules:
        lines += [f"  - modules: {json.dumps([modules] if isinstance(modules, str) else list(modules))}",
                  f"    format: {name}"] + ([f"    group: {group}"] if group else [])
        lines += [f"    symmetric: {json.dumps(value)}" for value in symmetric if value is not None]
    return "\n".join(lines) + "\n"


def values_of(tensor):
    """The numbers of an unquantized tensor or of scales (U8: E8M0), as floats."""
    dtype, _, data = tensor
    if dtype == "BF16":
        words = array("H", data)
        return list(struct.unpack(f"<{len(words)}f", b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2))))
    if dtype == "F8_E4M3":
        return [FP8[code] for code in data]
    if dtype == "U8":
        return [2.0**(code - 127) for code in data]
    return list(struct.unpack(f"<{len(data) // {'F32': 4, 'F16': 2}[dtype]}{ {'F32': 'f', 'F16': 'e'}[dtype] }", data))


class Decoded:
    """A weight [rows, columns]: `elements`, row-major; `scale(row, column)`; the element's `grid`; of each scale the
    element that is 0 (`zero_points`), if it is not 0 everywhere."""

    def __init__(self, shape, elements, scales, blocks, grid, zero_points=None):
        self.rows, self.columns = shape
        self.elements, self.scales, self.grid = elements, scales, GRIDS[grid]
        self.block_rows, self.block_columns = blocks
        self.across = -(-self.columns // self.block_columns)
        self.zero_points = zero_points or [0] * len(scales)
        if len(elements) != self.rows * self.columns:
            raise ValueError(f"{len(elements)} elements of {shape}")
        if len(scales) != -(-self.rows // self.block_rows) * self.across:
            raise ValueError(f"{len(scales)} scales of {shape} in blocks of {blocks}")

    def row(self, number):
        """(element, scale, zero point) along a row."""
        base = number // self.block_rows * self.across
        begin = number * self.columns
        blocks = (base + column // self.block_columns for column in range(self.columns))
        return [(self.elements[begin + column], self.scales[block], self.zero_points[block])
                for column, block in enumerate(blocks)]

    def values(self):
        return [(element - zero) * scale for row in range(self.rows) for element, scale, zero in self.row(row)]

    def squared_error(self, source):
        return sum((value - wanted)**2 for value, wanted in zip(self.values(), source, strict=True))

    def first_not_nearest(self, source):
        """Index of the first element for which another one is nearer to its value; None where there is none."""
        halves = [(a + b) / 2 for a, b in zip(self.grid, self.grid[1:])]
        position = {value: i for i, value in enumerate(self.grid)}
        index = 0
        for row in range(self.rows):
            for element, scale, zero in self.row(row):
                quotient = source[index] / scale + zero
                at = position[element]
                slack = 1e-6 * abs(quotient - zero)  # quotients are computed in FP32
                if at > 0 and quotient < halves[at - 1] - slack or at < len(halves) and quotient > halves[at] + slack:
                    return index
                index += 1
        return None


def _words(tensor, bits):
    """Unsigned fields of 32-bit words, from the low end: a list a row."""
    _, shape, data = tensor
    words = array("I", data)
    each = 32 // bits
    mask = (1 << bits) - 1
    return [[word >> bits * i & mask for word in words[row * shape[1]:(row + 1) * shape[1]] for i in range(each)]
            for row in range(shape[0])]


def _signed(code, bits):
    return code - (1 << bits) if code >> (bits - 1) else code


def _transposed(matrix):
    return [list(column) for column in zip(*matrix)]


def _flat(matrix):
    return [value for row in matrix for value in row]


def _from_codes(shape, tensor, packed):
    """Elements and grid of `weight` or `weight_packed`."""
    dtype, stored, data = tensor
    rows, columns = shape
    if dtype == "F8_E4M3":
        return [FP8[code] for code in data], "fp8"
    if dtype == "I8":
        return [_signed(code, 8) for code in data], "int8"
    if dtype == "I32":
        bits = 4 if stored[1] * 8 == columns or stored[1] * 4 < columns else 8
        return [code - (1 << bits - 1) for row in _words(tensor, bits) for code in row[:columns]], f"int{bits}"
    if stored == (rows, columns // 2):
        return [FP4[code] for byte in data for code in (byte & 15, byte >> 4)], "fp4"
    if stored == (rows // 2, columns) and not packed:
        matrix = []
        for row in range(rows // 2):
            line = data[row * columns:(row + 1) * columns]
            matrix += [[_signed(byte & 15, 4) for byte in line], [_signed(byte >> 4, 4) for byte in line]]
        return _flat(matrix), "int4"
    raise ValueError(f"codes {dtype} {stored} of {shape}")


def _blocks_of(shape, count, stored):
    """How many rows and columns share one of `count` scales."""
    rows, columns = shape
    if count == 1:
        return rows, columns
    if count == rows:
        return 1, columns
    if count % rows == 0:
        return 1, columns // (count // rows)
    down, across = (stored[0], stored[2]) if len(stored) == 4 else stored
    if (down, across) != (-(-rows // 128), -(-columns // 128)):
        raise ValueError(f"scales {stored} of {shape}")
    return 128, 128


def decode(tensors, module, shape):
    """The weight of a module as it is stored in any form; None where it is not quantized."""
    rows, columns = shape
    get = lambda suffix: tensors.get(f"{module}.{suffix}")  # noqa: E731
    if get("qweight"):
        scales = _transposed_scales(get("scales"))
        blocks = (1, columns // (len(scales) // rows))
        if get("g_idx"):
            codes = _transposed(_flat_rows(get("qweight"), rows))
            group = array("i", get("g_idx")[2])
            if list(group) != [column // blocks[1] for column in range(columns)]:
                raise ValueError(f"{module}.g_idx")
        else:
            codes = _transposed(_autoawq(get("qweight"), rows))
            zeros = [zero - 8 for row in _transposed(_autoawq(get("qzeros"), rows)) for zero in row]
            return Decoded(shape, [code - 8 for row in codes for code in row], scales, blocks, "int4", zeros)
        return Decoded(shape, [code - 8 for row in codes for code in row], scales, blocks, "int4")
    codes = get("weight_packed") or get("weight")
    scale = get("weight_scale") or get("weight_scale_inv")
    if scale is None:
        return None
    elements, grid = _from_codes(shape, codes, get("weight_packed") is not None)
    scales = values_of(scale)
    blocks = _blocks_of(shape, len(scales), scale[1])
    if codes[0] == "I8" and all(-8 <= element <= 7 for element in elements):
        grid = "int4"  # in bytes; the largest of eight bits has a code near 127
    if grid == "fp4" and scale[0] == "F8_E4M3":
        if get("weight_scale_2"):
            second, = values_of(get("weight_scale_2"))
            scales = [fp32(value * second) for value in scales]
        else:
            second, = values_of(get("weight_global_scale"))
            scales = [fp32(value / second) for value in scales]
    zeros = get("weight_zero_point")
    return Decoded(shape, elements, scales, blocks, grid, _zero_points(zeros, rows) if zeros else None)


def _autoawq(tensor, rows):
    """AutoAWQ's words [.., N / 8]: codes [..][N]. The word's nibble i is column (0 2 4 6 1 3 5 7)[i]."""
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    return [[row[base + order[i]] for base in range(0, rows, 8) for i in range(8)] for row in _words(tensor, 4)]


def _zero_points(tensor, rows):
    """Of compressed-tensors, [N / 8, K / group] words of eight rows: of each row one after the other."""
    _, (_, across), data = tensor
    words = array("I", data)
    return [(words[row // 8 * across + place] >> 4 * (row % 8) & 15) - 8 for row in range(rows)
            for place in range(across)]


def _flat_rows(tensor, rows):
    """GPTQ's words [K / 8, N]: codes [K][N]."""
    _, shape, data = tensor
    words = array("I", data)
    return [[words[line * rows + row] >> 4 * i & 15 for row in range(rows)] for line in range(shape[0])
            for i in range(8)]


def _transposed_scales(tensor):
    """Scales [K / group, N] as [N, K / group]."""
    _, (down, across), _ = tensor
    values = values_of(tensor)
    return [values[line * across + row] for row in range(across) for line in range(down)]
