/* Activations in blocks of 32 along k with one scale: what the loops over a block share. amax is found
 * among the bit patterns, where an infinity or NaN is above every number; such a block gets d = NaN, so
 * that it reaches the logits and is reported. */
#ifndef QRL_CPU_QUANTIZE_H
#define QRL_CPU_QUANTIZE_H

#include "base/half.h"
#include "cpu/kernels.h"

#include <string.h>

/* 2^-120: below it the reciprocal would overflow. Such a block is zero to every float that meets it. */
#define LEAST_TOP (7u << 23)

/* 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, and leaves that in the low bits */
static const float ROUND = 12582912.0f;

typedef struct block_scale {
    float d, inv; /* q = round(x * inv), x = d * q */
    bool finite;
} block_scale;

/* d and inv, unless the greatest value (its bits: top) is no number, or is below `least` and counts as zero. */
static inline block_scale scale_unless(uint32_t top, uint32_t least, float d, float inv) {
    const bool finite = top < 0x7f800000u, zero = top < least;
    return (block_scale){.d = !finite ? qrl_bits_f32(0x7fc00000u)
                              : zero  ? 0.0f
                                      : d,
                         .inv = finite && !zero ? inv : 0.0f,
                         .finite = finite};
}

/* top: bits of the largest |x|. */
static inline block_scale scale_of(uint32_t top) {
    const float amax = qrl_bits_f32(top);
    return scale_unless(top, LEAST_TOP, amax / 127.0f, 127.0f / amax);
}

/* Of weights of values in attention; top: bits of the largest sum of four of them. Below 2^-100 there is nothing to
 * see beside the weights whose sum is 1 and more. */
static inline block_scale scale_of_weights(uint32_t top) {
    const float most = qrl_bits_f32(top);
    return scale_unless(top, 27u << 23, most * (1.0f / 255.0f), 255.0f / most);
}

/* even, odd: sums of a block's halves over the pairs of values 4i, 4i + 1 and 4i + 2, 4i + 3. dots: products of 4 bytes
 * are one instruction (kernels.h). */
static inline void put_sums(unsigned char *tile, size_t width, size_t lane, float d, const int32_t even[2],
                            const int32_t odd[2], bool dots) {
    const int32_t a[3] = {even[0] + even[1], even[0], even[1]}, b[3] = {odd[0] + odd[1], odd[0], odd[1]};
    memcpy(QRL_QACT_D(tile, width) + 4 * lane, &d, 4);
    for (size_t i = 0; i < 3; i++) {
        const float s = d * (float)(a[i] + b[i]);
        const int32_t offset = i == 0 ? QRL_OFFSET_UNIT : QRL_OFFSET_HALF;
        const uint32_t start = dots ? (uint32_t)(0x4b400000 - 128 * (a[i] + b[i]))
                                    : (uint32_t)(-b[i] * offset) << 16 | ((uint32_t)(-a[i] * offset) & 0xffff);
        memcpy(QRL_QACT_S(tile, width, i) + 4 * lane, &s, 4);
        memcpy(QRL_QACT_N(tile, width, i) + 4 * lane, &start, 4);
    }
}

#endif
