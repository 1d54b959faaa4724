/* The scalar kernels: the specification of every number (docs/numerics.md). They work on rows as the
 * file has them, through the one description of a block, so that they also check the packing. */
#define KERNEL(name) scalar_##name
#include "cpu/kernels/lanes_impl.h"

#include "backend/backend.h"
#include "cpu/kernels/kv_impl.h"
#include "cpu/kernels/quantize.h"

static void scalar_quantize(const float *x, size_t n_units, unsigned char *tile, size_t width, size_t lane) {
    for (size_t u = 0; u < n_units; u++, x += QRL_UNIT, tile += QRL_QACT_BYTES(width)) {
        uint32_t top = 0;
        for (size_t i = 0; i < QRL_UNIT; i++) {
            const uint32_t bits = qrl_f32_bits(x[i]) & 0x7fffffffu;
            top = top > bits ? top : bits;
        }
        const block_scale s = scale_of(top);
        int8_t *q = (int8_t *)tile + lane * QRL_UNIT;
        int32_t even[2] = {0, 0}, odd[2] = {0, 0};
        for (size_t i = 0; i < QRL_UNIT; i++) {
            const float y = (s.finite ? x[i] : 0.0f) * s.inv + ROUND;
            const int32_t v = (int32_t)(qrl_f32_bits(y) - qrl_f32_bits(ROUND));
            q[i] = (int8_t)v;
            *(i & 2 ? &odd[i / 16] : &even[i / 16]) += v;
        }
        put_sums(tile, width, lane, s.d, even, odd, false);
    }
}

static void scalar_quantize_unit(const float *x, unsigned char *unit, size_t width) {
    for (size_t r = 0; r < width; r++)
        scalar_quantize(x + r * QRL_UNIT, 1, unit, width, r);
}

static float load_float(qrl_type type, const unsigned char *row, size_t i) {
    uint16_t h;
    float f;
    if (type == QRL_F32) {
        memcpy(&f, row + 4 * i, 4);
        return f;
    }
    memcpy(&h, row + 2 * i, 2);
    return type == QRL_F16 ? qrl_f16_to_f32(h) : qrl_bf16_to_f32(h);
}

static float act_float(const unsigned char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

static float dot_floats(qrl_type type, const unsigned char *row, size_t n, const float *x) {
    float acc = 0.0f;
    for (size_t i = 0; i < n; i++)
        acc = __builtin_fmaf(load_float(type, row, i), x[i], acc);
    return acc;
}

/* Float weights: one chain of fma along k. Quantized weights: exact integer sums of a unit's halves, then float
 * operations in the order below, units ascending. Those of a block of a stepped type make a chain of their own. */
float qrl_dot_reference(qrl_type type, const unsigned char *row, size_t n, const void *act) {
    const qrl_traits *t = qrl_quant_traits(type);
    if (t->scales == 0)
        return dot_floats(type, row, n, act);
    const size_t block_units = t->block_values / QRL_UNIT;
    const unsigned char *unit = act;
    float acc = 0.0f, part = 0.0f;
    for (size_t u = 0; u < n / QRL_UNIT; u++, unit += QRL_QACT_BYTES(1)) {
        qrl_qunit w;
        t->unpack(row, u, &w);
        const int8_t *a = (const int8_t *)unit;
        const float d = act_float(QRL_QACT_D(unit, 1));
        int32_t sum[2] = {0, 0};
        for (int i = 0; i < QRL_UNIT; i++)
            sum[i / 16] += w.q[i] * a[i];
        if (t->stepped)
            part = __builtin_fmaf((float)(sum[0] * w.step[0] + sum[1] * w.step[1]), d, part);
        else if (t->scales == 1)
            acc = __builtin_fmaf((float)(sum[0] + sum[1]) * w.scale[0], d, acc);
        else
            acc = __builtin_fmaf(__builtin_fmaf((float)sum[1], w.scale[1], (float)sum[0] * w.scale[0]), d, acc);
        for (int i = 0; t->has_min && i < t->scales; i++)
            acc = __builtin_fmaf(-w.min[i], act_float(QRL_QACT_S(unit, 1, t->scales - 1 + i)), acc);
        if (t->stepped && (u + 1) % block_units == 0) {
            acc = __builtin_fmaf(part, w.super, acc);
            part = 0.0f;
        }
    }
    return acc;
}

/* q . k of position j, of floats: one chain of fma along the dimensions. */
static float score_float(const qrl_attend *a, size_t r, size_t j, const float *k) {
    float s = 0.0f;
    for (size_t d = 0; d < a->k_dim; d++)
        s = __builtin_fmaf(a->q[d * QRL_ATTN_ROWS + r], k[d * QRL_PAGE + j], s);
    return s * a->scale;
}

/* The same of Q8_0: exact integer sums of blocks of 32 dimensions. */
static float score_q8(const qrl_attend *a, size_t r, size_t j) {
    const size_t n_fours = (a->k_dim + 3) / 4;
    const uint8_t *k = a->k;
    const uint16_t *scale = (const uint16_t *)a->k + n_fours * QRL_PAGE * 2;
    float s = 0.0f;
    for (size_t b = 0; b * 8 < n_fours; b++) {
        int32_t sum = 0;
        for (size_t i = b * 8; i < n_fours && i < b * 8 + 8; i++)
            for (size_t d = 0; d < 4; d++)
                sum += (k[(i * QRL_PAGE + j) * 4 + d] - 128) * a->q8.q[(i * QRL_ATTN_ROWS + r) * 4 + d];
        const float y = (float)sum * qrl_f16_to_f32(scale[b * QRL_PAGE + j]);
        s = __builtin_fmaf(y, a->q8.scale[b * QRL_ATTN_ROWS + r], s);
    }
    return s;
}

static void add_values(const qrl_attend *a, size_t r, const float *p, float keep, const float *v) {
    float *acc = a->acc + r * a->v_dim;
    for (size_t d = 0; d < a->v_dim; d++) {
        acc[d] *= keep;
        for (size_t j = a->first[r]; j < a->end[r]; j++)
            acc[d] = __builtin_fmaf(p[j], v[j * a->v_dim + d], acc[d]);
    }
}

/* Weights times the scales of Q8_0 values, as 8 bits without a sign. Sums of four of them are what 255 stands for: so
 * their products with values fit into 16 bits in fours, 127 * (255 + 2) < 32768. */
static float weigh_values_q8(const qrl_attend *a, size_t r, const float *p, const uint16_t *scale, int32_t *q) {
    float w[QRL_PAGE] = {0};
    uint32_t top = 0;
    for (size_t j = a->first[r]; j < a->end[r]; j++)
        w[j] = p[j] * qrl_f16_to_f32(scale[j]);
    for (size_t i = 0; i < 8; i++) {
        const uint32_t sum = qrl_f32_bits((w[i] + w[i + 8]) + (w[i + 16] + w[i + 24])) & 0x7fffffffu;
        top = top > sum ? top : sum;
    }
    const block_scale s = scale_of_weights(top);
    for (size_t j = 0; j < QRL_PAGE; j++)
        q[j] = (int32_t)(qrl_f32_bits(__builtin_fmaf(s.finite ? w[j] : 0.0f, s.inv, ROUND)) - qrl_f32_bits(ROUND));
    return s.d;
}

static void add_values_q8(const qrl_attend *a, size_t r, const float *p, float keep) {
    const size_t block = qrl_kv_value_block(a->v_dim);
    const int8_t *v = a->v;
    const uint16_t *scale = (const uint16_t *)a->v + QRL_PAGE * a->v_dim / 2;
    float *acc = a->acc + r * a->v_dim;
    for (size_t from = 0; from < a->v_dim; from += block, scale += QRL_PAGE) {
        int32_t q[QRL_PAGE];
        const float s = weigh_values_q8(a, r, p, scale, q);
        for (size_t d = from; d < a->v_dim && d < from + block; d++) {
            int32_t sum = 0;
            for (size_t j = 0; j < QRL_PAGE; j++)
                sum += q[j] * v[(qrl_kv_four(j) * a->v_dim + d) * 4 + qrl_kv_place(j)];
            acc[d] = __builtin_fmaf((float)sum, s, acc[d] * keep);
        }
    }
}

/* Online softmax (Milakov and Gimelshein 2018) over one page; p summed as 16 lanes of position mod 16, then a tree of
 * halves. k, v: floats, unless the type is Q8_0. */
static void attend_row(const qrl_attend *a, size_t r, const float *k, const float *v) {
    float score[QRL_PAGE], p[QRL_PAGE];
    float max = a->max[r];
    const size_t first = a->first[r], end = a->end[r];
    if (first == end)
        return;
    for (size_t j = first; j < end; j++) {
        score[j] = a->type_k == QRL_KV_Q8_0 ? score_q8(a, r, j) : score_float(a, r, j, k);
        if (a->sloped || a->softcap > 0.0f)
            score[j] =
                lane_score(score[j], a->softcap, a->sloped ? a->slope[r] : 0.0f, a->sloped ? a->at[r] - (int32_t)j : 0);
        max = score[j] > max ? score[j] : max;
    }
    float lane[LANES] = {0};
    for (size_t j = first; j < end; j++) {
        p[j] = a->type_k == QRL_KV_Q8_0 ? lane_exp_coarse(score[j] - max) : lane_exp(score[j] - max);
        lane[j % LANES] += p[j];
    }
    const float keep = lane_exp(a->max[r] - max);
    a->max[r] = max;
    a->sum[r] = __builtin_fmaf(a->sum[r], keep, lane_sum(lane));
    if (a->type_v == QRL_KV_Q8_0)
        add_values_q8(a, r, p, keep);
    else
        add_values(a, r, p, keep, v);
}

static bool is_packed(qrl_kv_type type) {
    return type == QRL_KV_F16 || type == QRL_KV_Q4_0;
}

static void scalar_attend(const qrl_attend *a) {
    const float *k = a->k, *v = a->v;
    if (is_packed(a->type_k)) {
        scalar_unpack_kv(a->type_k, true, k, a->k_dim, a->floats);
        k = a->floats;
    }
    if (is_packed(a->type_v)) {
        float *floats = a->floats + QRL_PAGE * a->k_dim;
        scalar_unpack_kv(a->type_v, false, v, a->v_dim, floats);
        v = floats;
    }
    for (size_t r = 0; r < a->n_rows; r++)
        attend_row(a, r, k, v);
}

static uint64_t scalar_limit(uint64_t n, float *sink) {
    float x[8] = {0};
    for (uint64_t i = 0; i < n; i++)
        for (int j = 0; j < 8; j++)
            x[j] = x[j] * 0.999f + 1.0f;
    for (int j = 0; j < 8; j++)
        *sink += x[j];
    return n * 8;
}

static uint64_t scalar_limit_int8(uint64_t n, int sums, float *sink) {
    (void)sums;
    return scalar_limit(n, sink);
}

static void scalar_limit_read(const unsigned char *data, size_t n, float *sink) {
    uint64_t sum = 0, v;
    for (size_t i = 0; i < n; i += sizeof v) {
        memcpy(&v, data + i, sizeof v);
        sum ^= v;
    }
    *sink += (float)(sum & 1);
}

const qrl_kernels qrl_kernels_scalar = {
    .quantize = scalar_quantize,
    .quantize_unit = scalar_quantize_unit,
    .attend = scalar_attend,
    .quantize_query = scalar_quantize_query,
    .rotate = scalar_rotate,
    .put_q8 = scalar_put_q8,
    .unpack_kv = scalar_unpack_kv,
    .mix = scalar_mix,
    .to_f16 = scalar_to_f16,
    .rope = scalar_rope,
    .norm_rms = scalar_norm_rms,
    .norm_layer = scalar_norm_layer,
    .activate = ACTIVATIONS,
    .softcap = scalar_softcap,
    .exp = scalar_exp,
    .limit_int8 = scalar_limit_int8,
    .limit_f32 = scalar_limit,
    .limit_read = scalar_limit_read,
};
