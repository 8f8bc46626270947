"""Operations of the BSD packet filter, in a dense numbering that the compiler makes a jump table of."""

from __future__ import annotations

from enum import IntEnum


class Operation(IntEnum):
    """What an instruction does. A and X are the two registers, K the instruction's number, L the frame's length, all of
    32 bits without sign; P[n:m] is a number of m bytes at n in the frame, in network order; M[n] a memory cell.
    """

    LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0, 1, 2  # A = P[K:4], P[K:2], P[K:1]
    LOAD_WORD_X, LOAD_HALF_X, LOAD_BYTE_X = 3, 4, 5  # A = P[X+K:4], ...
    LOAD_LENGTH, LOAD_K, LOAD_CELL = 6, 7, 8  # A = L, K, M[K]
    X_LENGTH, X_K, X_CELL, X_HEADER = 9, 10, 11, 12  # X = L, K, M[K], 4 * (P[K:1] & 15)
    STORE_A, STORE_X = 13, 14  # M[K] = A, X
    JUMP = 15
    IF_EQUAL_K, IF_ABOVE_K, IF_AT_LEAST_K, IF_SET_K = 16, 17, 18, 19  # A == K, A > K, A >= K, A & K
    IF_EQUAL_X, IF_ABOVE_X, IF_AT_LEAST_X, IF_SET_X = 20, 21, 22, 23
    ADD_K, SUBTRACT_K, MULTIPLY_K, DIVIDE_K, MODULO_K = 24, 25, 26, 27, 28  # A = A + K, ...
    AND_K, OR_K, XOR_K, LEFT_K, RIGHT_K = 29, 30, 31, 32, 33
    ADD_X, SUBTRACT_X, MULTIPLY_X, DIVIDE_X, MODULO_X = 34, 35, 36, 37, 38
    AND_X, OR_X, XOR_X, LEFT_X, RIGHT_X = 39, 40, 41, 42, 43
    NEGATE = 44
    A_TO_X, X_TO_A = 45, 46
    RETURN_K, RETURN_A = 47, 48


_ = Operation
OPERATIONS = {
    0x20: _.LOAD_WORD, 0x28: _.LOAD_HALF, 0x30: _.LOAD_BYTE, 0x40: _.LOAD_WORD_X, 0x48: _.LOAD_HALF_X, 0x50: _.LOAD_BYTE_X,
    0x80: _.LOAD_LENGTH, 0x00: _.LOAD_K, 0x60: _.LOAD_CELL,
    0x81: _.X_LENGTH, 0x01: _.X_K, 0x61: _.X_CELL, 0xB1: _.X_HEADER,
    0x02: _.STORE_A, 0x03: _.STORE_X,
    0x05: _.JUMP, 0x15: _.IF_EQUAL_K, 0x25: _.IF_ABOVE_K, 0x35: _.IF_AT_LEAST_K, 0x45: _.IF_SET_K,
    0x1D: _.IF_EQUAL_X, 0x2D: _.IF_ABOVE_X, 0x3D: _.IF_AT_LEAST_X, 0x4D: _.IF_SET_X,
    0x04: _.ADD_K, 0x14: _.SUBTRACT_K, 0x24: _.MULTIPLY_K, 0x34: _.DIVIDE_K, 0x94: _.MODULO_K,
    0x54: _.AND_K, 0x44: _.OR_K, 0xA4: _.XOR_K, 0x64: _.LEFT_K, 0x74: _.RIGHT_K,
    0x0C: _.ADD_X, 0x1C: _.SUBTRACT_X, 0x2C: _.MULTIPLY_X, 0x3C: _.DIVIDE_X, 0x9C: _.MODULO_X,
    0x5C: _.AND_X, 0x4C: _.OR_X, 0xAC: _.XOR_X, 0x6C: _.LEFT_X, 0x7C: _.RIGHT_X,
    0x84: _.NEGATE, 0x07: _.A_TO_X, 0x87: _.X_TO_A, 0x06: _.RETURN_K, 0x16: _.RETURN_A,
}  # fmt: skip
"""Code of an instruction -> what it does."""

CELLS = {_.LOAD_CELL, _.X_CELL, _.STORE_A, _.STORE_X}
