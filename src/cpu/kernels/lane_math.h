/* Functions of one value and sums of a row that kernels are made of: each operation and its order stand
 * here, so that the bits are the same whatever instruction set they are compiled for. */
#ifndef QRL_CPU_LANE_MATH_H
#define QRL_CPU_LANE_MATH_H

#include "base/half.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum { LANES = 16 };

/* Before a loop over values that may be computed in place: what it writes, it has read before, and nothing
 * else reads it. Without this the compiler looks whether the arrays overlap and gives vectors up. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* e^x: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7 in Horner form
 * (remainder below 2^-28), scaled by 2^n through the exponent bits. Saturates at e^88; exactly 0
 * below -87; NaN stays NaN. ln 2 is split so that n * high is exact (Cody and Waite 1980). */
static inline float lane_exp(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    float c = x > 88.0f ? 88.0f : x;
    c = c < -87.0f ? -87.0f : c;
    const float y = __builtin_fmaf(c, 1.44269504f, magic);
    const float n = y - magic;
    float r = __builtin_fmaf(n, -0.693145752f, c);
    r = __builtin_fmaf(n, -1.42860677e-6f, r);
    float p = 1.98412698e-4f;
    p = __builtin_fmaf(p, r, 1.38888889e-3f);
    p = __builtin_fmaf(p, r, 8.33333333e-3f);
    p = __builtin_fmaf(p, r, 4.16666667e-2f);
    p = __builtin_fmaf(p, r, 1.66666667e-1f);
    p = __builtin_fmaf(p, r, 0.5f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    const float scale = qrl_bits_f32((qrl_f32_bits(y) - qrl_f32_bits(magic) + 127u) << 23);
    const float e = p * scale;
    return x < -87.0f ? 0.0f : e;
}

/* e^x for x <= 0 (or NaN, without bits below the ninth), for weights that are rounded to 8 bits: 2^n by the exponent
 * bits times 2^f, |f| <= 1/2, by the polynomial of degree 3 with the least relative error that is 1 at 0 (1.01e-4).
 * What is below -87 gives e^-87. */
#define COARSE_3 0.0550090633f
#define COARSE_2 0.242211297f
#define COARSE_1 0.693282962f
static inline float lane_exp_coarse(float x) {
    const float magic = 12582912.0f, c = x < -87.0f ? -87.0f : x;
    const float y = __builtin_fmaf(c, 1.44269504f, magic), f = __builtin_fmaf(c, 1.44269504f, magic - y);
    float p = __builtin_fmaf(COARSE_3, f, COARSE_2);
    p = __builtin_fmaf(p, f, COARSE_1);
    p = __builtin_fmaf(p, f, 1.0f);
    return qrl_bits_f32(qrl_f32_bits(p) + (qrl_f32_bits(y) << 23));
}

/* The sum of 16 lanes as a tree of halves. */
static inline float lane_sum(const float *lane) {
    float a[8], b[4];
    for (int i = 0; i < 8; i++)
        a[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++)
        b[i] = a[i] + a[i + 4];
    return (b[0] + b[2]) + (b[1] + b[3]);
}

/* tanh x: below 0.625 the odd polynomial of the Cephes library (tanhf: x + x^3 P(x^2)), else
 * 1 - 2 / (e^2|x| + 1) with the sign of x. */
static inline float lane_tanh(float x) {
    const float a = x < 0.0f ? -x : x, z = x * x;
    float p = -5.70498872745e-3f;
    p = __builtin_fmaf(p, z, 2.06390887954e-2f);
    p = __builtin_fmaf(p, z, -5.37397155531e-2f);
    p = __builtin_fmaf(p, z, 1.33314422036e-1f);
    p = __builtin_fmaf(p, z, -3.33332819422e-1f);
    const float small = __builtin_fmaf(p * z, x, x);
    const float large = 1.0f - 2.0f / (lane_exp(a + a) + 1.0f);
    return a < 0.625f ? small : x < 0.0f ? -large : large;
}

static inline float lane_softcap(float x, float a) {
    return a * lane_tanh(x / a);
}

/* silu(x) = x / (1 + e^-x) */
static inline float lane_silu(float x) {
    return x / (1.0f + lane_exp(-x));
}

static inline float lane_sigmoid(float x) {
    return 1.0f / (1.0f + lane_exp(-x));
}

static inline float lane_none(float x) {
    return x;
}

/* gelu(x) = x / 2 (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3); arXiv 1606.08415 */
static inline float lane_gelu(float x) {
    const float t = __builtin_fmaf(x * x, -0.0713548163f, -1.59576912f); /* -2u = x t */
    return x / (1.0f + lane_exp(x * t));
}

static inline float lane_relu(float x) {
    return x > 0.0f ? x : 0.0f;
}

static inline float lane_relu_squared(float x) {
    const float y = lane_relu(x);
    return y * y;
}

/* The score of a key `distance` positions away, from (q . k) scale. */
static inline float lane_score(float s, float softcap, float slope, int32_t distance) {
    if (softcap > 0.0f)
        s = lane_softcap(s, softcap);
    return __builtin_fmaf(-slope, (float)(distance < 0 ? -distance : distance), s);
}

/* Value i of a row belongs to lane i mod 16. */
static inline float lane_sum_squares(const float *x, size_t n, float mean) {
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const float v = x[i + j] - mean;
            lane[j] = __builtin_fmaf(v, v, lane[j]);
        }
    for (size_t j = 0; i + j < n; j++) {
        const float v = x[i + j] - mean;
        lane[j] = __builtin_fmaf(v, v, lane[j]);
    }
    return lane_sum(lane);
}

/* log(1 + u), 0 <= u <= 1: 2 atanh(s) with s = u / (2 + u) <= 1/3, its series to s^15 (what is left out is
 * below 2^-29 of the result). */
static inline float lane_log1p(float u) {
    const float s = u / (2.0f + u), z = s * s;
    float p = 1.0f / 15.0f;
    p = __builtin_fmaf(p, z, 1.0f / 13.0f);
    p = __builtin_fmaf(p, z, 1.0f / 11.0f);
    p = __builtin_fmaf(p, z, 1.0f / 9.0f);
    p = __builtin_fmaf(p, z, 1.0f / 7.0f);
    p = __builtin_fmaf(p, z, 1.0f / 5.0f);
    p = __builtin_fmaf(p, z, 1.0f / 3.0f);
    p = p * z;
    return __builtin_fmaf(p, s + s, s + s);
}

/* softplus(x) = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|) */
static inline float lane_softplus(float x) {
    const float a = x < 0.0f ? x : -x;
    return (x > 0.0f ? x : 0.0f) + lane_log1p(lane_exp(a));
}

#endif
