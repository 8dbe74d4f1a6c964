"""Lossless WebP (VP8L, RFC 9649) of photographs and attacked images, compiled by Numba.

Attacked images are noise: libwebp, even at its fastest, looks for repeated pixels most of its time, and finds
none. Here are only what pays, and what libwebp does as well: green taken off red and blue, the `select`
predictor, one prefix code for each channel. Same size within 3 %, in well under half the time.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # its type stands in the signature: u1 is uint8, i8 int64
F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 15  # bits: of a prefix code's words
_SELECT = 11  # the predictor's number
_CODE_LENGTHS = (17, 18, *range(6), 16, *range(6, 16))  # the order in which their own code is written
_GREENS = 280  # symbols of green's code: 256 values, 24 lengths of repetitions, which are never used
_RED, _GREEN, _BLUE = 0, 1, 2
_HEADER = 64  # words of 64 bits: more than all that comes before the pixels
_PIXEL = 3 * _LONGEST  # bits that a pixel takes at most


def _compiled(signature: str) -> Callable[[F], F]:
    """Compile at once, for threads that run side by side; kept beside this module, where that can be written.

    Numba asks for a folder of its own elsewhere, and fails where there is none.
    """
    kept = os.access(os.path.dirname(__file__), os.W_OK)
    return cast("Callable[[F], F]", numba.njit(signature, nogil=True, cache=kept))


@_compiled("i8(u8[::1], i8, u8, i8)")
def _put(words: Array, at: int, value: int, bits: int) -> int:
    """Write a number's lowest bits at a position, lowest first; return the position behind them."""
    word, shift = at >> 6, np.uint64(at & 63)
    words[word] |= np.uint64(value) << shift
    words[word + 1] |= np.uint64(value) >> np.uint64(1) >> (np.uint64(63) - shift)  # no shift by 64 bits
    return at + bits


@_compiled("i8(u8[::1], i8, i8)")
def _put_lone_symbol(words: Array, at: int, symbol: int) -> int:
    """Write a code of a single symbol, which takes no bits in what follows."""
    return _put(words, at, 0b101 | symbol << 3, 11)


@_compiled("i8(i8, i8)")
def _reversed(value: int, bits: int) -> int:
    """A number's bits in the other direction, as prefix codes are written."""
    turned = 0
    for k in range(bits):
        turned = turned << 1 | (value >> k & 1)
    return turned


@_compiled("i8(u8[::1], i8, u1[::1], i8)")
def _put_code(words: Array, at: int, lengths: Array, symbols: int) -> int:
    """Write a code by its words' lengths, each of them as four bits."""
    at = _put(words, at, (len(_CODE_LENGTHS) - 4) << 1, 5)
    for length in _CODE_LENGTHS:
        at = _put(words, at, 4 if length <= _LONGEST else 0, 3)
    at = _put(words, at, 0, 1)  # lengths of all symbols follow
    for symbol in range(symbols):
        at = _put(words, at, _reversed(lengths[symbol], 4), 4)
    return at


@_compiled("void(i2[:, ::1], i2[:, ::1], i2[::1])")
def _select(row: Array, above: Array, left: Array) -> None:
    """Mark with -1 where the pixel before foretells better than the one above, else with 0.

    It does where the one above differs less from the corner between both. Written out channel by channel, and
    as bits for a mask: so the compiler makes eight comparisons at once.
    """
    red, green, blue = row[_RED], row[_GREEN], row[_BLUE]
    red_above, green_above, blue_above = above[_RED], above[_GREEN], above[_BLUE]
    for x in range(left.size):
        corner_red, corner_green, corner_blue = red_above[x], green_above[x], blue_above[x]
        to_red, to_green = abs(red_above[1 + x] - corner_red), abs(green_above[1 + x] - corner_green)
        to_above = to_red + to_green + abs(blue_above[1 + x] - corner_blue)
        to_left = abs(red[x] - corner_red) + abs(green[x] - corner_green) + abs(blue[x] - corner_blue)
        left[x] = -np.int16(to_above < to_left)
    left[0] = 0  # there is none before the first


@_compiled("void(u1[:, :, ::1], u1[:, ::1])")
def _transform(pixels: Array, rest: Array) -> None:
    """What is left of red and blue less green, then of each channel less the neighbour `select` takes."""
    height, width, _ = pixels.shape
    rows = np.zeros((2, 3, 1 + width), np.int16)  # this one and the one above, a zero before each
    left = np.full(width, -1, np.int16)  # in the first row all are foretold by the one before
    for y in range(height):
        row, above = rows[y & 1], rows[1 - (y & 1)]
        for x in range(width):
            green = np.int16(pixels[y, x, _GREEN])
            row[_RED, 1 + x] = (np.int16(pixels[y, x, _RED]) - green) & 255
            row[_GREEN, 1 + x] = green
            row[_BLUE, 1 + x] = (np.int16(pixels[y, x, _BLUE]) - green) & 255
        if y > 0:
            _select(row, above, left)
        for c in range(3):
            for x in range(width):
                guess = above[c, 1 + x] ^ (left[x] & (above[c, 1 + x] ^ row[c, x]))
                rest[c, y * width + x] = np.uint8(row[c, 1 + x] - guess)


@_compiled("i8[:, ::1](u1[:, ::1])")
def _count(rest: Array) -> Array:
    """How often each channel has each value: (3, _GREENS)."""
    counts = np.zeros((3, _GREENS), np.int64)
    for pixel in range(rest.shape[1]):
        for c in range(3):
            counts[c, rest[c, pixel]] += 1
    return counts


@_compiled("i8(i8[::1], i8[::1], i8[::1])")
def _sort(counts: Array, symbols: Array, weights: Array) -> int:
    """Fill in the symbols that occur, rarest first, and how often they do; return their number."""
    used = 0
    for symbol in range(counts.size):
        if counts[symbol] == 0:
            continue
        place = used
        while place > 0 and weights[place - 1] > counts[symbol]:
            symbols[place], weights[place] = symbols[place - 1], weights[place - 1]
            place -= 1
        symbols[place], weights[place] = symbol, counts[symbol]
        used += 1
    return used


@_compiled("i8(i8[::1], u1[::1])")
def _huffman(counts: Array, lengths: Array) -> int:
    """Fill in the words' lengths of the best code for at least two symbols; return the longest.

    Symbols, rarest first, and pairs, in the order they are made, are two queues: the rarer head goes first.
    """
    symbols = np.empty(counts.size, np.int64)
    weights, parents = np.zeros(2 * counts.size, np.int64), np.zeros(2 * counts.size, np.int64)
    used = _sort(counts, symbols, weights)
    symbol, pair = 0, used
    for made in range(used, 2 * used - 1):
        for _ in range(2):
            if symbol < used and (pair == made or weights[symbol] <= weights[pair]):
                child, symbol = symbol, symbol + 1
            else:
                child, pair = pair, pair + 1
            weights[made] += weights[child]
            parents[child] = made
    depths, longest = weights, 0  # the same room: weights are done with
    depths[2 * used - 2] = 0
    for node in range(2 * used - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
        if node < used:
            lengths[symbols[node]] = depths[node]
            longest = max(longest, depths[node])
    return longest


@_compiled("void(u1[::1], u8[::1])")
def _assign(lengths: Array, codes: Array) -> None:
    """The canonical code of these lengths, its words as they are written."""
    code = 0
    for length in range(1, _LONGEST + 1):
        code <<= 1
        for symbol in range(lengths.size):
            if lengths[symbol] == length:
                codes[symbol] = _reversed(code, length)
                code += 1


@_compiled("i8(u8[::1], i8, i8[::1], u1[::1], u8[::1], i8)")
def _put_channel(words: Array, at: int, counts: Array, lengths: Array, codes: Array, symbols: int) -> int:
    """Make and write the code of a channel."""
    used, last = 0, 0
    for symbol in range(counts.size):
        if counts[symbol]:
            used, last = used + 1, symbol
    if used == 1:
        return _put_lone_symbol(words, at, last)
    while _huffman(counts, lengths) > _LONGEST:
        for symbol in range(counts.size):
            counts[symbol] = (counts[symbol] + 1) >> 1  # flatter, until all words are short enough
    _assign(lengths, codes)
    return _put_code(words, at, lengths, symbols)


@_compiled("i8(u8[::1], i8, i8, i8)")
def _put_transforms(words: Array, at: int, width: int, height: int) -> int:
    """Write the file's header and which transforms were used."""
    at = _put(words, at, 0x2F, 8)
    at = _put(words, at, width - 1, 14)
    at = _put(words, at, height - 1, 14)
    at = _put(words, at, 0, 1 + 3)  # no transparency, version 0
    at = _put(words, at, 0b10_1, 3)  # one more transform: green is taken off
    at = _put(words, at, 0b111_00_1, 6)  # and one more: a predictor for each block of 512 pixels
    at = _put(words, at, 0, 1)  # blocks are an image of their own: no colour cache
    at = _put_lone_symbol(words, at, _SELECT)
    for _ in range(4):
        at = _put_lone_symbol(words, at, 0)
    return _put(words, at, 0, 3)  # no more transforms, no colour cache, one code for the whole image


@_compiled("i8(u1[:, :, ::1], u8[::1])")
def _encode(pixels: Array, words: Array) -> int:
    """Write the stream of bits into words of zeros; return its size in bytes."""
    height, width, _ = pixels.shape
    rest = np.empty((3, height * width), np.uint8)
    _transform(pixels, rest)
    counts, lengths, codes = _count(rest), np.zeros((3, _GREENS), np.uint8), np.zeros((3, _GREENS), np.uint64)
    at = _put_transforms(words, 0, width, height)
    for c, symbols in ((_GREEN, _GREENS), (_RED, 256), (_BLUE, 256)):
        at = _put_channel(words, at, counts[c], lengths[c], codes[c], symbols)
    for _ in range(2):  # transparency, distances
        at = _put_lone_symbol(words, at, 0)
    for pixel in range(rest.shape[1]):
        red, green, blue = rest[_RED, pixel], rest[_GREEN, pixel], rest[_BLUE, pixel]
        behind_green = np.uint64(lengths[_GREEN, green])
        behind_red = behind_green + np.uint64(lengths[_RED, red])
        code = codes[_GREEN, green] | codes[_RED, red] << behind_green | codes[_BLUE, blue] << behind_red
        bits = lengths[_RED, red] + lengths[_GREEN, green] + lengths[_BLUE, blue]
        at = _put(words, at, code, bits)
    return (at + 7) >> 3


def encode_vp8l(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB pixels (H, W, 3) as a lossless WebP, the same bytes every time.

    Sides are at most 16,384 pixels long, as the format has it.
    """
    height, width, _ = pixels.shape
    words = np.zeros(_HEADER + height * width * _PIXEL // 64, np.uint64)
    size = _encode(np.require(pixels, requirements=("C", "W")), words)
    data = words.astype("<u8", copy=False).view(np.uint8)[: size + size % 2].tobytes()
    chunk = b"VP8L" + size.to_bytes(4, "little") + data
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk
