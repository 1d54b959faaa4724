/* Kernels in plain C over 16 lanes, compiled once for each instruction set: the compiler makes
 * vectors of them, and since every operation and its order stand here, the bits are the same.
 * Include once a table, after defining KERNEL(name). */
#include "cpu/kernels.h"
#include "cpu/kernels/lane_math.h"

static void KERNEL(exp)(const float *x, float *out, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        out[i] = lane_exp(x[i]);
}

static void KERNEL(softcap)(const float *x, float *out, size_t n, float a) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++)
        out[i] = lane_softcap(x[i], a);
}

static void KERNEL(mix)(float *to, const float *from, size_t n_rows, size_t n, const float *keep, const float *by) {
    for (size_t r = 0; r < n_rows; r++, to += n, from += n) {
        const float k = keep[r], b = by[r];
        INDEPENDENT
        for (size_t i = 0; i < n; i++)
            to[i] = __builtin_fmaf(from[i], b, to[i] * k);
    }
}

#define ACTIVATION(name)                                                                                               \
    static void KERNEL(name)(const float *gate, const float *up, float *out, size_t n) {                               \
        if (gate) {                                                                                                    \
            INDEPENDENT                                                                                                \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = lane_##name(gate[i]) * up[i];                                                                 \
        } else {                                                                                                       \
            INDEPENDENT                                                                                                \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = lane_##name(up[i]);                                                                           \
        }                                                                                                              \
    }
ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(relu)
ACTIVATION(relu_squared)
ACTIVATION(sigmoid)
ACTIVATION(none)
#undef ACTIVATION

/* g sigmoid(1.702 g) (u + 1) with g at most 7 and u from -7 to 7 (gpt-oss's model.py: swiglu). */
static void KERNEL(swiglu_clamped)(const float *gate, const float *up, float *out, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        const float g0 = gate ? gate[i] : up[i], u0 = gate ? up[i] : 0.0f;
        const float g = g0 > 7.0f ? 7.0f : g0, u = u0 > 7.0f ? 7.0f : u0 < -7.0f ? -7.0f : u0;
        out[i] = g / (1.0f + lane_exp(-1.702f * g)) * (u + 1.0f);
    }
}

/* For the kernel tables, after KERNEL(name) is defined. */
#define ACTIVATIONS                                                                                                    \
    {                                                                                                                  \
        [QRL_ACT_SILU] = KERNEL(silu), [QRL_ACT_GELU] = KERNEL(gelu), [QRL_ACT_RELU] = KERNEL(relu),                   \
        [QRL_ACT_RELU_SQUARED] = KERNEL(relu_squared), [QRL_ACT_SWIGLU_CLAMPED] = KERNEL(swiglu_clamped),              \
        [QRL_ACT_SIGMOID] = KERNEL(sigmoid), [QRL_ACT_NONE] = KERNEL(none)                                             \
    }

/* (x, y) turned by an angle: x cos - y sin, x sin + y cos, each product rounded. */
#define TURN(a, c)                                                                                                     \
    const float x0 = x[a], x1 = x[c];                                                                                  \
    x[a] = x0 * cossin[2 * i] - x1 * cossin[2 * i + 1];                                                                \
    x[c] = x0 * cossin[2 * i + 1] + x1 * cossin[2 * i];
static void KERNEL(rope)(qrl_rope_kind kind, float *x, const float *cossin, size_t n_rot) {
    const size_t half = n_rot / 2;
    if (kind == QRL_ROPE_PAIR) {
        INDEPENDENT
        for (size_t i = 0; i < half; i++) {
            TURN(2 * i, 2 * i + 1)
        }
    } else {
        INDEPENDENT
        for (size_t i = 0; i < half; i++) {
            TURN(i, i + half)
        }
    }
}
#undef TURN

static void KERNEL(norm_rms)(const float *x, const float *weight, float *out, size_t n, float eps) {
    const float ms = lane_sum_squares(x, n, 0.0f) / (float)n;
    const float inv = 1.0f / sqrtf(ms + eps);
    if (weight) {
        INDEPENDENT
        for (size_t i = 0; i < n; i++)
            out[i] = x[i] * inv * weight[i];
    } else {
        INDEPENDENT
        for (size_t i = 0; i < n; i++)
            out[i] = x[i] * inv;
    }
}

static void KERNEL(norm_layer)(const float *x, const float *weight, const float *bias, float *out, size_t n,
                               float eps) {
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] += x[i + j];
    for (size_t j = 0; i + j < n; j++)
        lane[j] += x[i + j];
    const float mean = lane_sum(lane) / (float)n;
    const float inv = 1.0f / sqrtf(lane_sum_squares(x, n, mean) / (float)n + eps);
    INDEPENDENT
    for (i = 0; i < n; i++) {
        float v = (x[i] - mean) * inv;
        if (weight)
            v *= weight[i];
        if (bias)
            v += bias[i];
        out[i] = v;
    }
}
