"""What `kernels` compiles, for the types that it is called with. Importing this imports numba, so nothing else does."""

import warnings

import numba
import numpy as np


def _jit(*signatures, **options):
    options.update(boundscheck=False, error_model="numpy")

    def compiled(function):
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except Exception as error:  # no folder to keep it in, or torn files there
            kept = numba.njit(list(signatures), **options)(function)
            why = str(error).strip() or type(error).__name__
            warnings.warn(f"numba's cache cannot be used ({why}), so that every process compiles {function.__name__}; "
                          "delete the files *.nbi in __pycache__ or set NUMBA_CACHE_DIR.", stacklevel=2)  # fmt: skip
            return kept

    return compiled


@_jit(*(f"({bits}[:,:,:,::1], {bits}[:,:,:,::1], uint8[:,:,:,::1])" for bits in ("int16", "int32")))
def pool_forward(maps, pooled, winner):
    count, rows, columns, channels = pooled.shape
    for n in range(count):
        for i in range(rows):
            for j in range(columns):
                a = maps[n, 2 * i, 2 * j]
                b = maps[n, 2 * i, 2 * j + 1]
                c = maps[n, 2 * i + 1, 2 * j]
                d = maps[n, 2 * i + 1, 2 * j + 1]
                out = pooled[n, i, j]
                who = winner[n, i, j]
                for k in range(channels):
                    top = max(max(a[k], b[k]), max(c[k], d[k]))
                    first = 0 if a[k] == top else (1 if b[k] == top else (2 if c[k] == top else 3))
                    who[k] = 4 if top <= 0 else first
                    out[k] = max(top, 0)


@_jit(*(f"({bits}[:,:,:,::1], uint8[:,:,:,::1], {bits}[:,:,:,::1])" for bits in ("int16", "int32")))
def pool_backward(gradient, winner, spread):
    count, rows, columns, channels = gradient.shape
    for n in range(count):
        for i in range(rows):
            for j in range(columns):
                # One output at a time: with four in one loop the compiler cannot rule out overlap and gives up vectors.
                g = gradient[n, i, j]
                who = winner[n, i, j]
                for w in range(4):
                    out = spread[n, 2 * i + w // 2, 2 * j + w % 2]
                    for k in range(channels):
                        out[k] = g[k] if who[k] == w else 0


@_jit("(int16[::1], float32[::1], float32[::1], int16[::1], float64, float64, float64)", fastmath={"contract"})
def update(gradient, weight, momentum, working, learning_rate, decay, weight_decay):
    lr = np.float32(learning_rate)
    mu = np.float32(decay)
    wd = np.float32(weight_decay)
    for k in range(weight.size):
        g = np.int32(np.int32(gradient[k]) << np.int32(16)).view(np.float32) + wd * weight[k]
        v = mu * momentum[k] + g
        w = weight[k] - lr * (g + mu * v)
        momentum[k] = v
        weight[k] = w
        bits = np.float32(w).view(np.int32)
        # bfloat16 is the upper half, rounded to the nearest, ties to even.
        working[k] = np.int16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))
