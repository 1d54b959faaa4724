/* Units of the types whose values are small integers or levels of one table. Pure functions; blocks.h
 * has the layouts. The order of float operations is ggml's (ggml-quants.c, dequantize_row_*), so that
 * decoded values are equal to the bit. */
#include "quant/blocks.h"
#include "quant/codec.h"
#include "quant/grids.h"

enum { UNITS = 8 }; /* in a block of 256 */

static void set_scale(qrl_qunit *out, float scale) {
    out->scale[0] = out->scale[1] = scale;
    out->min[0] = out->min[1] = 0.0f;
}

static void set_scale_min(qrl_qunit *out, float scale, float min) {
    out->scale[0] = out->scale[1] = scale;
    out->min[0] = out->min[1] = min;
}

static void set_step(qrl_qunit *out, size_t half, float super, int step, float min) {
    out->super = super;
    out->step[half] = step;
    out->scale[half] = super * (float)step;
    out->min[half] = min;
}

/* 16 bytes of nibbles, value i in the low and i + 16 in the high half; qh holds a fifth bit of each. */
static void nibbles(const unsigned char *qs, uint32_t qh, int subtract, int8_t *q) {
    for (unsigned i = 0; i < 16; i++) {
        q[i] = (int8_t)((int)((qs[i] & 15u) | (qh >> i & 1u) << 4) - subtract);
        q[i + 16] = (int8_t)((int)((unsigned)(qs[i] >> 4) | (qh >> (i + 16) & 1u) << 4) - subtract);
    }
}

static void nibble_levels(const unsigned char *qs, const int8_t *levels, int8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = levels[qs[i] & 15];
        q[i + 16] = levels[qs[i] >> 4];
    }
}

void qrl_unpack_Q4_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q4_0 *b = (const qrl_block_Q4_0 *)row + unit;
    nibbles(b->qs, 0, 8, out->q);
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_Q4_1(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q4_1 *b = (const qrl_block_Q4_1 *)row + unit;
    nibbles(b->qs, 0, 0, out->q);
    set_scale_min(out, qrl_half(b->d), -qrl_half(b->m));
}

void qrl_unpack_Q5_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q5_0 *b = (const qrl_block_Q5_0 *)row + unit;
    nibbles(b->qs, qrl_u32(b->qh), 16, out->q);
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_Q5_1(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q5_1 *b = (const qrl_block_Q5_1 *)row + unit;
    nibbles(b->qs, qrl_u32(b->qh), 0, out->q);
    set_scale_min(out, qrl_half(b->d), -qrl_half(b->m));
}

void qrl_unpack_Q8_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q8_0 *b = (const qrl_block_Q8_0 *)row + unit;
    memcpy(out->q, b->qs, QRL_UNIT);
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_IQ4_NL(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_IQ4_NL *b = (const qrl_block_IQ4_NL *)row + unit;
    nibble_levels(b->qs, qrl_levels_iq4, out->q);
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_MXFP4(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_MXFP4 *b = (const qrl_block_MXFP4 *)row + unit;
    nibble_levels(b->qs, qrl_levels_e2m1, out->q);
    set_scale(out, qrl_e8m0_half(b->e));
}

void qrl_unpack_NVFP4(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_NVFP4 *b = (const qrl_block_NVFP4 *)row + unit / 2;
    for (size_t half = 0; half < 2; half++) {
        const size_t group = 2 * (unit % 2) + half;
        int8_t *q = out->q + 16 * half;
        for (size_t i = 0; i < 8; i++) {
            q[i] = qrl_levels_e2m1[b->qs[8 * group + i] & 15];
            q[i + 8] = qrl_levels_e2m1[b->qs[8 * group + i] >> 4];
        }
        out->scale[half] = qrl_ue4m3_half(b->d[group]);
        out->min[half] = 0.0f;
    }
}

void qrl_unpack_Q1_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q1_0 *b = (const qrl_block_Q1_0 *)row + unit / 4;
    const uint32_t bits = qrl_u32(b->qs + 4 * (unit % 4));
    for (unsigned i = 0; i < QRL_UNIT; i++)
        out->q[i] = bits >> i & 1u ? 1 : -1;
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_Q2_K(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q2_K *b = (const qrl_block_Q2_K *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    const float d = qrl_half(b->d), dmin = qrl_half(b->dmin);
    for (size_t i = 0; i < QRL_UNIT; i++)
        out->q[i] = (int8_t)(b->qs[32 * (u / 4) + i] >> (2 * (u % 4)) & 3);
    for (size_t half = 0; half < 2; half++) {
        const unsigned char s = b->scales[2 * u + half];
        set_step(out, half, d, s & 15, dmin * (float)(s >> 4));
    }
}

void qrl_unpack_Q3_K(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q3_K *b = (const qrl_block_Q3_K *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    const float d = qrl_half(b->d);
    for (size_t i = 0; i < QRL_UNIT; i++) {
        const int low = b->qs[32 * (u / 4) + i] >> (2 * (u % 4)) & 3, high = b->hmask[i] >> u & 1;
        out->q[i] = (int8_t)((low | high << 2) - 4);
    }
    for (unsigned half = 0; half < 2; half++)
        set_step(out, half, d, (int)qrl_q3_scale_get(b->scales, 2 * (unsigned)u + half) - 32, 0.0f);
}

/* The scales that q4_K and q5_K share. */
static void scale_min_k(const unsigned char *d, const unsigned char *dmin, const unsigned char *scales, size_t u,
                        qrl_qunit *out) {
    unsigned scale, min;
    qrl_scale_min_get(scales, (unsigned)u, &scale, &min);
    for (size_t half = 0; half < 2; half++)
        set_step(out, half, qrl_half(d), (int)scale, qrl_half(dmin) * (float)min);
}

void qrl_unpack_Q4_K(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q4_K *b = (const qrl_block_Q4_K *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    const unsigned char *qs = b->qs + 32 * (u / 2);
    /* two loops of bytes: one with a shift that varies would be of integers */
    if (u % 2)
        for (size_t i = 0; i < QRL_UNIT; i++)
            out->q[i] = (int8_t)(qs[i] >> 4);
    else
        for (size_t i = 0; i < QRL_UNIT; i++)
            out->q[i] = (int8_t)(qs[i] & 15);
    scale_min_k(b->d, b->dmin, b->scales, u, out);
}

void qrl_unpack_Q5_K(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q5_K *b = (const qrl_block_Q5_K *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    for (size_t i = 0; i < QRL_UNIT; i++) {
        const int low = b->qs[32 * (u / 2) + i] >> (4 * (u % 2)) & 15, high = b->qh[i] >> u & 1;
        out->q[i] = (int8_t)(low | high << 4);
    }
    scale_min_k(b->d, b->dmin, b->scales, u, out);
}

#define BYTES(v) ((uint64_t)(v)*0x0101010101010101u) /* a word of equal bytes */

void qrl_unpack_Q6_K(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_Q6_K *b = (const qrl_block_Q6_K *)row + unit / UNITS;
    const size_t u = unit % UNITS, half_block = u / 4, k = u % 4;
    const float d = qrl_half(b->d);
    for (size_t i = 0; i < QRL_UNIT; i += 8) { /* eight bytes at a time: no bit leaves its byte after the masks */
        uint64_t low, high;
        memcpy(&low, b->ql + 64 * half_block + 32 * (k % 2) + i, sizeof low);
        memcpy(&high, b->qh + 32 * half_block + i, sizeof high);
        const uint64_t q = (low >> (4 * (k / 2)) & BYTES(15)) | (high >> (2 * k) & BYTES(3)) << 4;
        const uint64_t minus_32 = ((q | BYTES(128)) - BYTES(32)) ^ BYTES(128);
        memcpy(out->q + i, &minus_32, sizeof minus_32);
    }
    for (size_t half = 0; half < 2; half++)
        set_step(out, half, d, (int8_t)b->scales[2 * u + half], 0.0f);
}

void qrl_unpack_IQ4_XS(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_IQ4_XS *b = (const qrl_block_IQ4_XS *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    const int low = b->scales_l[u / 2] >> (4 * (u % 2)) & 15, high = qrl_u16(b->scales_h) >> (2 * u) & 3;
    nibble_levels(b->qs + 16 * u, qrl_levels_iq4, out->q);
    for (size_t half = 0; half < 2; half++)
        set_step(out, half, qrl_half(b->d), (low | high << 4) - 32, 0.0f);
}

void qrl_unpack_TQ1_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    static const unsigned char pow3[5] = {1, 3, 9, 27, 81};
    const qrl_block_TQ1_0 *b = (const qrl_block_TQ1_0 *)row + unit / UNITS;
    for (unsigned i = 0; i < QRL_UNIT; i++) {
        const unsigned v = QRL_UNIT * (unsigned)(unit % UNITS) + i;
        unsigned byte, digit;
        if (v < 160)
            byte = b->qs[v % 32], digit = v / 32;
        else if (v < 240)
            byte = b->qs[32 + v % 16], digit = (v - 160) / 16;
        else
            byte = b->qh[v % 4], digit = (v - 240) / 4;
        /* Dropping the upper digits in 8 bits leaves the wanted one in front. */
        const unsigned char front = (unsigned char)(byte * pow3[digit]);
        out->q[i] = (int8_t)((front * 3 >> 8) - 1);
    }
    set_scale(out, qrl_half(b->d));
}

void qrl_unpack_TQ2_0(const unsigned char *row, size_t unit, qrl_qunit *out) {
    const qrl_block_TQ2_0 *b = (const qrl_block_TQ2_0 *)row + unit / UNITS;
    const size_t u = unit % UNITS;
    for (size_t i = 0; i < QRL_UNIT; i++)
        out->q[i] = (int8_t)((b->qs[32 * (u / 4) + i] >> (2 * (u % 4)) & 3) - 1);
    set_scale(out, qrl_half(b->d));
}
