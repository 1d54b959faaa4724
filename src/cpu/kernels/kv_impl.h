/* Keys and values to F16 and Q8_0, packed pages of them to floats, their rotation, and queries to integers; the layout
 * stands at qrl_kv_layer in backend/backend.h. Every value is one exact conversion, or one product of an integer and a
 * scale, so any instruction set gives the same bits. */
#include "base/half.h"
#include "cpu/kernels/quantize.h"

#include <math.h>

/* Exact, as qrl_f16_to_f32, without its branches. */
static inline float KERNEL(half)(uint16_t h) {
    const uint32_t shifted = (uint32_t)(h & 0x7fffu) << 13;
    const float scaled = qrl_bits_f32(shifted) * 0x1p112f; /* moves the exponent's bias; subnormals too */
    const uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0;
    return qrl_bits_f32(qrl_f32_bits(scaled) | special | (uint32_t)(h & 0x8000u) << 16);
}

static void KERNEL(to_f16)(const float *x, size_t n, uint16_t *out) {
    size_t i = 0;
#ifdef HAVE_VECTORS
    for (; i + VR <= n; i += VR)
        vf_to_f16(vf_load(x + i), out + i); /* rounds to nearest, ties to even, and keeps subnormals */
#endif
    for (; i < n; i++)
        out[i] = qrl_f32_to_f16(x[i]);
}

static void KERNEL(unpack_f16)(const uint16_t *from, size_t n, float *out) {
    size_t i = 0;
#ifdef HAVE_VECTORS
    for (; i + VR <= n; i += VR)
        vf_store(out + i, vf_f16(from + i)); /* one instruction, which is exact too */
#endif
    for (; i < n; i++)
        out[i] = KERNEL(half)(from[i]);
}

#ifdef HAVE_VECTORS
/* VR integers, one from each byte or (both) two, by their scales. */
static inline vf KERNEL(scaled4)(const uint8_t *q, int high, vf scale) {
    return vf_mul(vf_sub(vf_cvt(vi_nibble(q, high)), vf_set(8.0f)), scale);
}
static inline vf KERNEL(both4)(const uint8_t *q, vf scale) {
    return vf_mul(vf_sub(vf_nibbles(q), vf_set(8.0f)), scale);
}
#endif

/* A byte holds dims 2i (low half) and 2i + 1 of a position, each plus 8; then [blocks of 32 dims][QRL_PAGE] scales. */
static void KERNEL(unpack_keys_q4)(const uint8_t *q, const uint16_t *scale, size_t dim, float *out) {
    for (size_t begin = 0; begin < dim; begin += 32, scale += QRL_PAGE) {
        const size_t end = begin + 32 < dim ? begin + 32 : dim;
        float d[QRL_PAGE];
        KERNEL(unpack_f16)(scale, QRL_PAGE, d);
        for (size_t i = begin; i < end; i += 2) {
            const uint8_t *from = q + i / 2 * QRL_PAGE;
            float *low = out + i * QRL_PAGE, *high = low + QRL_PAGE;
            size_t j = 0;
#ifdef HAVE_VECTORS
            for (; j < QRL_PAGE; j += VR) {
                vf_store(low + j, KERNEL(scaled4)(from + j, 0, vf_load(d + j)));
                vf_store(high + j, KERNEL(scaled4)(from + j, 1, vf_load(d + j)));
            }
#endif
            for (; j < QRL_PAGE; j++) {
                low[j] = (float)((from[j] & 15) - 8) * d[j];
                high[j] = (float)((from[j] >> 4) - 8) * d[j];
            }
        }
    }
}

/* Values: [QRL_PAGE][dim / 2] bytes, then [QRL_PAGE][blocks of 32 dims] scales. */
static void KERNEL(unpack_values_q4)(const uint8_t *q, const uint16_t *scale, size_t dim, float *out) {
    const size_t blocks = (dim + 31) / 32;
    for (size_t j = 0; j < QRL_PAGE; j++)
        for (size_t b = 0; b < blocks; b++) {
            const float d = KERNEL(half)(scale[j * blocks + b]);
            const size_t end = b * 16 + 16 < dim / 2 ? b * 16 + 16 : dim / 2;
            size_t i = b * 16;
#ifdef HAVE_VECTORS
            for (; i + VR / 2 <= end; i += VR / 2)
                vf_store(out + j * dim + 2 * i, KERNEL(both4)(q + j * (dim / 2) + i, vf_set(d)));
#endif
            for (; i < end; i++) {
                out[j * dim + 2 * i] = (float)((q[j * (dim / 2) + i] & 15) - 8) * d;
                out[j * dim + 2 * i + 1] = (float)((q[j * (dim / 2) + i] >> 4) - 8) * d;
            }
        }
}

static void KERNEL(unpack_kv)(qrl_kv_type type, bool keys, const void *page, size_t dim, float *out) {
    const uint16_t *const scale4 = (const uint16_t *)page + QRL_PAGE * dim / 4;
    if (type == QRL_KV_F16)
        KERNEL(unpack_f16)(page, QRL_PAGE * dim, out);
    else if (type == QRL_KV_Q4_0)
        (keys ? KERNEL(unpack_keys_q4) : KERNEL(unpack_values_q4))(page, scale4, dim, out);
}

#ifdef HAVE_VECTORS
/* Sums and differences of lanes 1, 2 and 4 apart. Differences are sums with what is negated, which are the same bits.
 */
INLINE __m256 turn_lanes(__m256 x) {
    const __m256 sign1 = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
    const __m256 sign2 = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
    const __m256 sign4 = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
    x = _mm256_add_ps(_mm256_permute_ps(x, 0xb1), _mm256_xor_ps(x, sign1));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0x4e), _mm256_xor_ps(x, sign2));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 1), _mm256_xor_ps(x, sign4));
}

/* A part of 8, 16, 32, 64 or 128 values. */
static void KERNEL(rotate_part)(float *x, size_t n, float scale) {
    __m256 v[16], by = _mm256_set1_ps(scale);
    const size_t n_vectors = n / 8;
    for (size_t i = 0; i < n_vectors; i++)
        v[i] = turn_lanes(_mm256_loadu_ps(x + 8 * i));
    for (size_t half = 1; half < n_vectors; half *= 2)
        for (size_t i = 0; i < n_vectors; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                const __m256 a = v[j], b = v[j + half];
                v[j] = _mm256_add_ps(a, b);
                v[j + half] = _mm256_sub_ps(a, b);
            }
    for (size_t i = 0; i < n_vectors; i++)
        _mm256_storeu_ps(x + 8 * i, _mm256_mul_ps(v[i], by));
}
#endif

/* In place: y = H x / sqrt(n) for each part of n values, n the greatest power of two that divides dim, at most
 * 128. H is symmetric and H H = n, so turning twice is the identity (but for rounding). */
static void KERNEL(rotate)(float *x, size_t dim) {
    size_t n = 1;
    while (n < 128 && dim % (2 * n) == 0)
        n *= 2;
    const float scale = 1.0f / sqrtf((float)n);
    for (size_t part = 0; part < dim; part += n, x += n) {
#ifdef HAVE_VECTORS
        if (n >= 8) {
            KERNEL(rotate_part)(x, n, scale);
            continue;
        }
#endif
        for (size_t half = 1; half < n; half *= 2)
            for (size_t i = 0; i < n; i += 2 * half)
                for (size_t j = i; j < i + half; j++) {
                    const float a = x[j], b = x[j + half];
                    x[j] = a + b;
                    x[j + half] = a - b;
                }
        for (size_t i = 0; i < n; i++)
            x[i] *= scale;
    }
}

/* The largest |x| among its bit patterns; n: 128 at most. */
static uint32_t KERNEL(top_of)(const float *x, size_t n) {
    uint32_t top = 0;
    size_t i = 0;
#ifdef HAVE_VECTORS
    __m256i most = _mm256_setzero_si256();
    for (; i + 8 <= n; i += 8)
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)),
                                                       _mm256_set1_epi32(0x7fffffff)));
    top = largest(most);
#endif
    for (; i < n; i++) {
        const uint32_t bits = qrl_f32_bits(x[i]) & 0x7fffffffu;
        top = top > bits ? top : bits;
    }
    return top;
}

/* n values of a block, 128 at most, to Q8_0; returns the scale. Rounded to nearest, ties to even. A block with an
 * infinity or NaN gets NaN as its scale, so that the failure reaches the logits, and -127 for what is not 0 by 0. */
static uint16_t KERNEL(to_q8)(const float *x, size_t n, int8_t *q) {
    const float amax = qrl_bits_f32(KERNEL(top_of)(x, n));
    const uint16_t scale = amax <= 3e38f ? qrl_f32_to_f16(amax / 127.0f) : 0x7e00;
    const float d = qrl_f16_to_f32(scale), inverse = d != 0.0f && d < (float)INFINITY ? 1.0f / d : 0.0f;
    size_t i = 0;
#ifdef HAVE_VECTORS
    const __m256 least = _mm256_set1_ps(-127.0f), most = _mm256_set1_ps(127.0f), round = _mm256_set1_ps(ROUND);
    for (; i + 8 <= n; i += 8) {
        const __m256 y = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse));
        const __m256 z = _mm256_min_ps(_mm256_max_ps(y, least), most); /* NaN: the second */
        const __m256i bits = _mm256_castps_si256(_mm256_add_ps(z, round)), zero = _mm256_setzero_si256();
        const __m256i v = _mm256_sub_epi32(bits, _mm256_castps_si256(round));
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v, zero), zero); /* 4 of each half */
        const int32_t low = _mm256_extract_epi32(bytes, 0), high = _mm256_extract_epi32(bytes, 4);
        memcpy(q + i, &low, 4);
        memcpy(q + i + 4, &high, 4);
    }
#endif
    for (; i < n; i++) {
        const float y = x[i] * inverse, z = y > -127.0f ? y < 127.0f ? y : 127.0f : -127.0f;
        q[i] = (int8_t)(qrl_f32_bits(z + ROUND) - qrl_f32_bits(ROUND));
    }
    return scale;
}

static void KERNEL(put_q8)(bool keys, unsigned char *page, size_t dim, size_t at, const float *x) {
    const size_t bytes = keys ? (dim + 3) / 4 * 4 : dim, block = keys ? 32 : qrl_kv_value_block(dim);
    uint16_t *scale = (uint16_t *)(void *)(page + bytes * QRL_PAGE) + at;
    unsigned char *values = page + qrl_kv_four(at) * dim * 4 + qrl_kv_place(at);
    for (size_t from = 0; from < dim; from += block, scale += QRL_PAGE) {
        const size_t n = dim - from < block ? dim - from : block;
        int8_t q[128] = {0};
        *scale = KERNEL(to_q8)(x + from, n, q);
        for (size_t i = 0; keys && i < 32; i++)
            q[i] = (int8_t)(q[i] ^ -128); /* without a sign */
        for (size_t i = 0; keys && i < (n + 3) / 4; i++)
            memcpy(page + ((from / 4 + i) * QRL_PAGE + at) * 4, q + 4 * i, 4);
        for (size_t i = 0; !keys && i < n; i++)
            values[4 * (from + i)] = (unsigned char)q[i];
    }
}

/* As activations are (quantize.h), but for what stands for the largest value of a block: of dimensions 2i and 2i + 1
 * also their sum. So products with 8 bits without a sign fit into 16 bits in pairs: 255 * 128 < 32768. */
#ifdef HAVE_VECTORS
static void KERNEL(quantize_query)(const float *x, size_t dim, float scale, size_t r, const qrl_query8 *out) {
    const __m256i abs = _mm256_set1_epi32(0x7fffffff), round = _mm256_castps_si256(_mm256_set1_ps(ROUND));
    for (size_t b = 0; b * 32 < dim; b++) {
        float part[32] = {0};
        const float *from = x + b * 32;
        if (dim - b * 32 < 32)
            from = memcpy(part, from, (dim - b * 32) * sizeof *part);
        __m256 v[4];
        __m256i q[4], top = _mm256_setzero_si256();
        UNROLL
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(from + 8 * i);
            const __m256 two = _mm256_add_ps(v[i], _mm256_permute_ps(v[i], 0xb1));
            top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), abs));
            top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(two), abs));
        }
        const block_scale s = scale_of(largest(top));
        const __m256 keep = _mm256_castsi256_ps(_mm256_set1_epi32(s.finite ? -1 : 0));
        UNROLL
        for (int i = 0; i < 4; i++) {
            const __m256 y = _mm256_mul_ps(_mm256_and_ps(v[i], keep), _mm256_set1_ps(s.inv));
            q[i] = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(y, _mm256_set1_ps(ROUND))), round);
        }
        /* fours 0, 2, 4, 6 in the low half, 1, 3, 5, 7 in the high one */
        const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        uint32_t fours[8];
        _mm256_storeu_si256((__m256i *)(void *)fours, bytes);
        for (size_t i = 0; i < 8; i++)
            memcpy(out->q + ((b * 8 + i) * QRL_ATTN_ROWS + r) * 4, &fours[i / 2 + i % 2 * 4], 4);
        __m256i sum = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4e));
        sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xb1));
        out->scale[b * QRL_ATTN_ROWS + r] = s.d * scale;
        out->start[b * QRL_ATTN_ROWS + r] =
            0x4b400000 - 128 * (_mm256_extract_epi32(sum, 0) + _mm256_extract_epi32(sum, 4));
    }
}
#else
static void KERNEL(quantize_query)(const float *x, size_t dim, float scale, size_t r, const qrl_query8 *out) {
    for (size_t b = 0; b * 32 < dim; b++) {
        float v[32] = {0};
        memcpy(v, x + b * 32, (dim - b * 32 < 32 ? dim - b * 32 : 32) * sizeof *v);
        uint32_t top = 0;
        for (size_t i = 0; i < 32; i++) {
            const uint32_t one = qrl_f32_bits(v[i]) & 0x7fffffffu;
            const uint32_t two = qrl_f32_bits(v[i & 30] + v[i | 1]) & 0x7fffffffu;
            top = top > one ? top : one;
            top = top > two ? top : two;
        }
        const block_scale s = scale_of(top);
        int32_t sum = 0;
        for (size_t i = 0; i < 32; i++) {
            const float y = (s.finite ? v[i] : 0.0f) * s.inv + ROUND;
            const int32_t q = (int32_t)(qrl_f32_bits(y) - qrl_f32_bits(ROUND));
            out->q[((b * 8 + i / 4) * QRL_ATTN_ROWS + r) * 4 + i % 4] = (int8_t)q;
            sum += q;
        }
        out->scale[b * QRL_ATTN_ROWS + r] = s.d * scale;
        out->start[b * QRL_ATTN_ROWS + r] = 0x4b400000 - 128 * sum;
    }
}
#endif
