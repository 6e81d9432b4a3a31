"""A GPU played by NumPy: memory at real addresses, and kernels that do what the CUDA sources say, in float64.

It also keeps the rules that a real one enforces silently or by hanging: sizes within memory, blocks that run together
fit, tags never come twice, counts begin at zero.
"""

import ctypes

import numpy as np

FLOAT, INT = ctypes.c_float, ctypes.c_int


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class NumpyGpu:
    stream = 0
    shared_bytes = 232_448

    def __init__(self, multiprocessors=132):
        self.multiprocessors = multiprocessors
        self.memory = {}
        self.launched = []
        self.last_tag = {}
        self.arriving = []

    def enter(self):
        pass

    def allocate(self, size_bytes):
        made = ctypes.create_string_buffer(max(size_bytes, 1))
        self.memory[ctypes.addressof(made)] = made
        return ctypes.addressof(made)

    def free(self, address):
        del self.memory[address]

    def within(self, address, size_bytes):
        """Nothing that begins in memory of ours ends outside of it; other memory is the runtime's."""
        ours = [start + len(made) for start, made in self.memory.items() if start <= address < start + len(made)]
        return all(address + size_bytes <= end for end in ours)

    def array(self, address, shape, kind=FLOAT):
        size = int(np.prod(shape))
        assert self.within(address, size * ctypes.sizeof(kind)), "outside of memory"
        return np.ctypeslib.as_array((kind * size).from_address(address)).reshape(shape)

    def clear(self, address, words):
        self.array(address, (words,), INT)[:] = 0

    def upload(self, array, address):
        assert array.flags.c_contiguous
        assert self.within(address, array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, address, array):
        assert self.within(address, array.nbytes)
        held = ctypes.string_at(address, array.nbytes)
        array.fill(np.nan)  # until somebody waits
        self.arriving.append((array, held))

    def copy(self, given, found, size_bytes):
        assert self.within(given, size_bytes)
        assert self.within(found, size_bytes)
        ctypes.memmove(found, given, size_bytes)

    def store(self, array):
        made = np.ascontiguousarray(array)
        address = self.allocate(made.nbytes)
        self.upload(made, address)
        return address

    def synchronize(self):
        for array, held in self.arriving:
            ctypes.memmove(array.ctypes.data, held, array.nbytes)
        self.arriving = []

    def close(self):
        self.memory.clear()

    def compile(self, name, source, macros, shared):
        assert all(f" {kernel}(" in source for kernel in shared)
        return {kernel: (kernel, dict(macros), size_bytes) for kernel, size_bytes in shared.items()}

    def launch(self, kernel, grid, threads, arguments, *, shared_bytes=0, together=False):
        name, macros, most_bytes = kernel
        assert shared_bytes <= most_bytes
        assert threads <= 512
        self.launched.append(name)
        if name == "advance":
            assert together
            self.advance(macros, grid[0], threads, arguments[0])
        else:
            getattr(self, name)(grid, threads, *[getattr(argument, "value", argument) for argument in arguments])

    def project_few(self, *arguments):
        self.project(64, *arguments)

    def project_many(self, *arguments):
        self.project(128, *arguments)

    def project(self, tile, grid, threads, x, places, w, b, z, M, I, N):
        assert threads == 256
        assert grid[0] * tile >= N > (grid[0] - 1) * tile
        assert grid[1] * tile >= M > (grid[1] - 1) * tile
        m = np.arange(M)
        begin = m // places.inner * places.outer_step + m % places.inner * places.inner_step
        rows = self.array(x, (int(begin.max()) + I,))[begin[:, None] + np.arange(I)]
        product = rows.astype(np.float64) @ self.array(w, (N, I)).T.astype(np.float64)
        self.array(z, (M, N))[:] = product + self.array(b, (N,))

    def swap(self, grid, threads, given, found, A, B, C):
        self.array(found, (B, A, C))[:] = self.array(given, (A, B, C)).transpose(1, 0, 2)

    def move(self, grid, threads, given, found, taken, put, L, count, from_rows, to_rows, H):
        source, target = self.array(given, (L, from_rows, H)), self.array(found, (L, to_rows, H))
        target[:, self.array(put, (count,), INT)] = source[:, self.array(taken, (count,), INT)]

    def advance(self, macros, blocks, threads, rows):
        hidden, members, tile = macros["HIDDEN"], macros["MEMBERS"], macros["TILE"]
        assert blocks == rows.groups * members <= self.multiprocessors
        assert threads == macros["THREADS"] == macros["UNITS"] * macros["SEGMENTS"]
        assert rows.groups * rows.rows_each >= rows.B
        words = 2 * rows.groups * rows.rows_each * macros["PADDED"]
        if rows.rows_each <= tile:
            assert rows.tag > self.last_tag.get(rows.tagged, 0)
            self.last_tag[rows.tagged] = rows.tag + rows.steps
            assert self.within(rows.tagged, 8 * words)
        else:
            assert rows.tagged is None
            assert self.within(rows.plain, 4 * words)
            assert not self.array(rows.arrivals, (rows.groups,), INT).any()
            self.array(rows.arrivals, (rows.groups,), INT)[:] = rows.steps * members
        B, steps = rows.B, rows.steps
        order, lengths = self.array(rows.order, (B,), INT), self.array(rows.lengths, (B,), INT)
        assert sorted(order) == list(range(B))
        assert all(lengths[:-1] >= lengths[1:])
        z, r = self.array(rows.z, (steps, B, 4, hidden)), self.array(rows.r, (4, hidden, hidden)).astype(np.float64)
        y = self.array(rows.y, (steps, B, hidden)) if rows.y else np.empty((steps, B, hidden))
        h_n, c_n = self.array(rows.h_n, (B, hidden)), self.array(rows.c_n, (B, hidden))
        zeros = np.zeros((B, hidden))
        h0, c0 = (self.array(at, (B, hidden)).astype(np.float64) if at else zeros for at in (rows.h0, rows.c0))
        for row, length in zip(order, lengths, strict=True):
            h, c = h0[row], c0[row]
            for step in range(min(max(length - rows.first_step, 0), steps)):
                i, o, f, g = z[step, row] + r @ h
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                y[step, row] = h
            h_n[row], c_n[row] = h, c
