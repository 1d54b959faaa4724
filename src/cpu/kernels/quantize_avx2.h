/* Quantizing activations, for all sets that have AVX2: a block is four vectors. The scalar set has the
 * same in plain C. */
#include "cpu/kernels/quantize.h"

#include <immintrin.h>

static inline uint32_t largest(__m256i a) {
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static void KERNEL(quantize)(const float *x, size_t n_units, unsigned char *tile, size_t width, size_t lane) {
    const __m256i abs = _mm256_set1_epi32(0x7fffffff);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* undoes the packs' halves */
    for (size_t u = 0; u < n_units; u++, x += QRL_UNIT, tile += QRL_QACT_BYTES(width)) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = _mm256_loadu_si256((const __m256i *)(const void *)(x + 8 * i));
        const __m256i max01 = _mm256_max_epu32(_mm256_and_si256(v[0], abs), _mm256_and_si256(v[1], abs));
        const __m256i max23 = _mm256_max_epu32(_mm256_and_si256(v[2], abs), _mm256_and_si256(v[3], abs));
        const block_scale s = scale_of(largest(_mm256_max_epu32(max01, max23)));
        const __m256i keep = _mm256_set1_epi32(s.finite ? -1 : 0);
        const __m256 inv = _mm256_set1_ps(s.inv), round = _mm256_set1_ps(ROUND);
        for (int i = 0; i < 4; i++) {
            const __m256 y = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(v[i], keep)), inv);
            v[i] = _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(y, round)), _mm256_castps_si256(round));
        }
        const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
        const __m256i q = _mm256_permutevar8x32_epi32(packed, order);
        _mm256_storeu_si256((__m256i *)(void *)(tile + lane * QRL_UNIT), q);
        /* sums of pairs in 16 bits, then of each half of the vector, which is a half of the block */
        __m256i sum = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
        sum = _mm256_add_epi16(sum, _mm256_shuffle_epi32(sum, 0x4e));
        sum = _mm256_add_epi16(sum, _mm256_shuffle_epi32(sum, 0xb1));
        const int32_t half[2] = {_mm_cvtsi128_si32(_mm256_castsi256_si128(sum)),
                                 _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1))};
        put_sums(tile, width, lane, s.d, (const int32_t[]){(int16_t)half[0], (int16_t)half[1]},
                 (const int32_t[]){half[0] >> 16, half[1] >> 16});
    }
}
