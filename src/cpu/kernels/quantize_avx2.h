/* Quantizing activations, for all sets that have AVX2: a block is four vectors, and what there is one of in a block is
 * computed for eight blocks at a time. The scalar set has the same in plain C. */
#include "cpu/kernels/quantize.h"

#include <immintrin.h>

static inline uint32_t largest(__m256i a) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* The largest |x| of a block, as bits, in eight parts. */
static inline __m256i most_of(const float *x) {
    __m256i most = _mm256_setzero_si256();
    for (size_t i = 0; i < 4; i++)
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + 8 * i)),
                                                       _mm256_set1_epi32(0x7fffffff)));
    return most;
}

/* A block to out, x inv to the nearest, ties to even; zeros where the mask `number` is 0. Returns the sums of pairs in
 * 16 bits. */
static inline __m256i round_block(const float *x, __m256 inv, __m256 number, unsigned char *out) {
    __m256i v[4];
    for (size_t i = 0; i < 4; i++)
        v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_and_ps(_mm256_loadu_ps(x + 8 * i), number), inv));
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* undoes the packs' halves */
    const __m256i q = _mm256_permutevar8x32_epi32(packed, order);
    _mm256_storeu_si256((__m256i *)(void *)out, q);
    return _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
}

/* Over the four lanes of each half of eight vectors: out[h][i], what `op` makes of half h of v[i]. */
#define REDUCE_HALVES(v, op, out)                                                                                      \
    do {                                                                                                               \
        __m256i two[4], four[2];                                                                                       \
        for (int i_ = 0; i_ < 4; i_++)                                                                                 \
            two[i_] = op(_mm256_unpacklo_epi32((v)[2 * i_], (v)[2 * i_ + 1]),                                          \
                         _mm256_unpackhi_epi32((v)[2 * i_], (v)[2 * i_ + 1]));                                         \
        for (int i_ = 0; i_ < 2; i_++)                                                                                 \
            four[i_] = op(_mm256_unpacklo_epi64(two[2 * i_], two[2 * i_ + 1]),                                         \
                          _mm256_unpackhi_epi64(two[2 * i_], two[2 * i_ + 1]));                                        \
        (out)[0] = _mm256_permute2x128_si256(four[0], four[1], 0x20);                                                  \
        (out)[1] = _mm256_permute2x128_si256(four[0], four[1], 0x31);                                                  \
    } while (0)

/* Where products begin (kernels.h). parts: sums over the pairs 4i, 4i + 1 and 4i + 2, 4i + 3, as 16 bits each. */
static inline __m256i product_starts(__m256i parts, __m256i sum, int offset) {
    if (HAVE_DPBUSD)
        return _mm256_sub_epi32(_mm256_set1_epi32(0x4b400000), _mm256_slli_epi32(sum, 7));
    return _mm256_mullo_epi16(parts, _mm256_set1_epi16((short)-offset));
}

/* Eight blocks: x, apart by 32 values, to out, apart by `step` bytes; and of each, in each[0] .. each[6], d, s and n
 * (kernels.h). */
static inline void quantize_blocks(const float *x, unsigned char *out, size_t step, __m256i each[7]) {
    enum { N = 8 };
    __m256i most[N], sums[N], half[2];
    for (size_t b = 0; b < N; b++)
        most[b] = most_of(x + QRL_UNIT * b);
    REDUCE_HALVES(most, _mm256_max_epu32, half);
    /* scale_of */
    const __m256i top = _mm256_max_epu32(half[0], half[1]);
    const __m256i finite = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x7f800000), top);
    const __m256i zero = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)LEAST_TOP), top);
    const __m256 amax = _mm256_castsi256_ps(top), steps = _mm256_set1_ps(127.0f);
    const __m256 scale = _mm256_andnot_ps(_mm256_castsi256_ps(zero), _mm256_div_ps(amax, steps));
    const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
    const __m256 d = _mm256_blendv_ps(nan, scale, _mm256_castsi256_ps(finite));
    const __m256i usable = _mm256_andnot_si256(zero, finite);
    _Alignas(32) float inv[N], number[N];
    _mm256_store_ps(inv, _mm256_and_ps(_mm256_castsi256_ps(usable), _mm256_div_ps(steps, amax)));
    _mm256_store_ps(number, _mm256_castsi256_ps(finite));
    for (size_t b = 0; b < N; b++, out += step)
        sums[b] = round_block(x + QRL_UNIT * b, _mm256_broadcast_ss(inv + b), _mm256_broadcast_ss(number + b), out);
    REDUCE_HALVES(sums, _mm256_add_epi16, half);
    /* put_sums */
    const __m256i parts[3] = {_mm256_add_epi16(half[0], half[1]), half[0], half[1]};
    each[0] = _mm256_castps_si256(d);
    for (int i = 0; i < 3; i++) {
        const __m256i sum = _mm256_madd_epi16(parts[i], _mm256_set1_epi16(1));
        each[1 + i] = _mm256_castps_si256(_mm256_mul_ps(d, _mm256_cvtepi32_ps(sum)));
        each[4 + i] = product_starts(parts[i], sum, i == 0 ? QRL_OFFSET_UNIT : QRL_OFFSET_HALF);
    }
}

static inline void quantize_block(const float *x, unsigned char *tile, size_t width, size_t lane) {
    const block_scale s = scale_of(largest(most_of(x)));
    const __m256 number = _mm256_castsi256_ps(_mm256_set1_epi32(s.finite ? -1 : 0));
    __m256i sum = round_block(x, _mm256_set1_ps(s.inv), number, tile + lane * QRL_UNIT);
    /* of each half of the vector, which is a half of the block */
    sum = _mm256_add_epi16(sum, _mm256_shuffle_epi32(sum, 0x4e));
    sum = _mm256_add_epi16(sum, _mm256_shuffle_epi32(sum, 0xb1));
    const int32_t half[2] = {_mm_cvtsi128_si32(_mm256_castsi256_si128(sum)),
                             _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1))};
    put_sums(tile, width, lane, s.d, (const int32_t[]){(int16_t)half[0], (int16_t)half[1]},
             (const int32_t[]){half[0] >> 16, half[1] >> 16}, HAVE_DPBUSD);
}

static void KERNEL(quantize)(const float *x, size_t n_units, unsigned char *tile, size_t width, size_t lane) {
    const size_t step = QRL_QACT_BYTES(width);
    for (; n_units >= 8; n_units -= 8, x += 8 * QRL_UNIT) {
        __m256i each[7];
        _Alignas(32) int32_t of[8];
        quantize_blocks(x, tile + lane * QRL_UNIT, step, each);
        for (size_t i = 0; i < 7; i++) {
            _mm256_store_si256((__m256i *)of, each[i]);
            for (size_t b = 0; b < 8; b++)
                memcpy(QRL_QACT_D(tile + b * step, width) + 4 * (i * width + lane), &of[b], 4);
        }
        tile += 8 * step;
    }
    for (; n_units; n_units--, x += QRL_UNIT, tile += step)
        quantize_block(x, tile, width, lane);
}

static void KERNEL(quantize_unit)(const float *x, unsigned char *unit, size_t width) {
    size_t r = 0;
    for (; r + 8 <= width; r += 8) {
        __m256i each[7];
        quantize_blocks(x + r * QRL_UNIT, unit + r * QRL_UNIT, QRL_UNIT, each);
        for (size_t i = 0; i < 7; i++)
            _mm256_storeu_si256((__m256i *)(void *)(QRL_QACT_D(unit, width) + 4 * (i * width + r)), each[i]);
    }
    for (; r < width; r++)
        quantize_block(x + r * QRL_UNIT, unit, width, r);
}
