/* Stands in for the compiler's header where the kernels of AVX-VNNI, AVX-512 and AMX are built for processors without
 * them (CMake option QRL_EMULATE): SIMDe (Debian's libsimde-dev) makes each operation out of those that there are, with
 * the same bits; what it lacks, and tile registers, are here. For tests of what the kernels compute; their speed says
 * nothing. */
#ifndef QRL_EMULATE_IMMINTRIN_H
#define QRL_EMULATE_IMMINTRIN_H
#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <stdint.h>
#include <string.h>

#define QRL_EMULATED
#ifdef QRL_EMULATE_VNNI
#define __AVX512VNNI__
#define __AVXVNNI__
#endif
#ifdef QRL_EMULATE_AMX
#define __AMX_INT8__
#endif

/* Lane by lane: out[i] from in[i]. */
#define EMULATE_LANES(name, to, to_lane, from, from_lane, n, expression)                                               \
    static inline to name(from a) {                                                                                    \
        from_lane in[n];                                                                                               \
        to_lane out[n];                                                                                                \
        to result;                                                                                                     \
        memcpy(in, &a, sizeof in);                                                                                     \
        for (int i = 0; i < (n); i++)                                                                                  \
            out[i] = expression;                                                                                       \
        memcpy(&result, out, sizeof result);                                                                           \
        return result;                                                                                                 \
    }
EMULATE_LANES(emulate_cvtepi32_ps, __m512, float, __m512i, int32_t, 16, (float)in[i])
EMULATE_LANES(emulate_cvtps_epi32, __m512i, int32_t, __m512, float, 16, (int32_t)in[i]) /* of integers */
EMULATE_LANES(emulate_cvtepu16_epi32, __m512i, int32_t, __m256i, uint16_t, 16, in[i])
EMULATE_LANES(emulate_cvtepu8_epi32, __m512i, int32_t, __m128i, uint8_t, 16, in[i])
EMULATE_LANES(emulate_cvtepi8_epi32, __m512i, int32_t, __m128i, int8_t, 16, in[i])
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulate_cvtepi32_ps
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 emulate_cvtps_epi32
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emulate_cvtepu16_epi32
#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32 emulate_cvtepu8_epi32
#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32 emulate_cvtepi8_epi32

static inline __m256 emulate_half(__m512 a, int upper) {
    __m256 half[2];
    memcpy(half, &a, sizeof half);
    return half[upper];
}
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(a, i) emulate_half(a, i)

static inline __m512 emulate_cvtph_ps(__m256i a) {
    const __m256 half[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
                            _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
    __m512 result;
    memcpy(&result, half, sizeof result);
    return result;
}
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps emulate_cvtph_ps

static inline __m256i emulate_cvtps_ph(__m512 a) { /* to nearest */
    const __m128i half[2] = {_mm256_cvtps_ph(emulate_half(a, 0), 0), _mm256_cvtps_ph(emulate_half(a, 1), 0)};
    __m256i result;
    memcpy(&result, half, sizeof result);
    return result;
}
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, rounding) emulate_cvtps_ph(a)

static inline __m512i emulate_srai_epi32(__m512i a, unsigned n) {
    int32_t lanes[16];
    memcpy(lanes, &a, sizeof lanes);
    for (int i = 0; i < 16; i++)
        lanes[i] >>= n > 31 ? 31 : n;
    memcpy(&a, lanes, sizeof lanes);
    return a;
}
#undef _mm512_srai_epi32
#define _mm512_srai_epi32(a, n) emulate_srai_epi32(a, n)

static inline __mmask16 emulate_cmplt_epi32_mask(__m512i a, __m512i b) {
    int32_t x[16], y[16];
    unsigned mask = 0;
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 16; i++)
        mask |= (unsigned)(x[i] < y[i]) << i;
    return (__mmask16)mask;
}
#undef _mm512_cmplt_epi32_mask
#define _mm512_cmplt_epi32_mask emulate_cmplt_epi32_mask

#undef _mm512_madd_epi16 /* SIMDe 0.7.4 gives this name to the masked one */
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

#ifdef QRL_EMULATE_VNNI
/* Products of bytes of even and of odd places, as 16 bits. */
static inline __m256i emulate_dpbusd(__m256i c, __m256i u, __m256i s) {
    const __m256i even =
        _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(c, _mm256_add_epi32(even, odd));
}
#define _mm256_dpbusd_avx_epi32(c, u, s) emulate_dpbusd(c, u, s)
#endif

/* ---- tile registers (Intel 64 manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBSSD) ---- */

typedef struct emulated_tiles {
    uint8_t rows[8];
    uint16_t colsb[8];
    uint8_t data[8][16][64];
} emulated_tiles;
static _Thread_local emulated_tiles emulated;

static inline void emulate_tile_config(const void *config) {
    const unsigned char *c = config;
    memset(&emulated, 0, sizeof emulated);
    memcpy(emulated.colsb, c + 16, sizeof emulated.colsb);
    memcpy(emulated.rows, c + 48, sizeof emulated.rows);
}
static inline void emulate_tile_load(int tile, const void *from, long stride) {
    memset(emulated.data[tile], 0, sizeof emulated.data[tile]);
    for (int r = 0; r < emulated.rows[tile]; r++)
        memcpy(emulated.data[tile][r], (const char *)from + r * stride, emulated.colsb[tile]);
}
static inline void emulate_tile_store(int tile, void *to, long stride) {
    for (int r = 0; r < emulated.rows[tile]; r++)
        memcpy((char *)to + r * stride, emulated.data[tile][r], emulated.colsb[tile]);
}
static inline void emulate_tile_dpbssd(int c, int a, int b) {
    for (int m = 0; m < emulated.rows[c]; m++)
        for (int n = 0; n < emulated.colsb[c] / 4; n++) {
            int32_t sum;
            memcpy(&sum, emulated.data[c][m] + 4 * n, sizeof sum);
            for (int k = 0; k < emulated.colsb[a]; k++)
                sum += (int8_t)emulated.data[a][m][k] * (int8_t)emulated.data[b][k / 4][4 * n + k % 4];
            memcpy(emulated.data[c][m] + 4 * n, &sum, sizeof sum);
        }
}
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig(config)       emulate_tile_config(config)
#define _tile_release()                memset(&emulated, 0, sizeof emulated)
#define _tile_zero(tile)               memset(emulated.data[tile], 0, sizeof emulated.data[tile])
#define _tile_loadd(tile, from, bytes) emulate_tile_load(tile, from, bytes)
#define _tile_stored(tile, to, bytes)  emulate_tile_store(tile, to, bytes)
#define _tile_dpbssd(c, a, b)          emulate_tile_dpbssd(c, a, b)
#endif
