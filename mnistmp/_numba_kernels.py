import numba
import numpy as np

_jit = numba.njit(cache=True, boundscheck=False, error_model="numpy")


@_jit
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
                    who[k] = 4 if top <= 0 else (0 if a[k] == top else (1 if b[k] == top else (2 if c[k] == top else 3)))
                    out[k] = max(top, 0)


@_jit
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


@numba.njit(cache=True, boundscheck=False, error_model="numpy", fastmath={"contract"})
def update(gradient, weight, weight_bits, momentum, working, learning_rate, decay, weight_decay):
    lr = np.float32(learning_rate)
    mu = np.float32(decay)
    wd = np.float32(weight_decay)
    block = 1024
    grad = np.empty(block, np.int32)
    gradf = grad.view(np.float32)
    for start in range(0, weight.size, block):
        size = min(block, weight.size - start)
        g16 = gradient[start : start + size]
        w = weight[start : start + size]
        wb = weight_bits[start : start + size]
        m = momentum[start : start + size]
        out = working[start : start + size]
        for k in range(size):
            grad[k] = np.int32(g16[k]) << np.int32(16)
        for k in range(size):
            g = gradf[k] + wd * w[k]
            v = mu * m[k] + g
            m[k] = v
            w[k] -= lr * (g + mu * v)
        for k in range(size):
            b = wb[k]
            out[k] = np.int16((b + np.int32(0x7FFF) + ((b >> np.int32(16)) & np.int32(1))) >> np.int32(16))
