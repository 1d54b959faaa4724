/* The vectors of AVX-512 (F, BW, DQ, VL): 16 rows. The twin of vec_avx2.h. */
#include <immintrin.h>

#define HAVE_VECTORS
#ifdef __AMX_INT8__
#define HAVE_TILES 1
/* What LDTILECFG reads. */
typedef struct tile_shapes {
    uint8_t palette, start_row, unused[14];
    uint16_t colsb[16]; /* bytes a row */
    uint8_t rows[16];
} tile_shapes;
#else
#define HAVE_TILES 0
#endif

#ifdef __AVX512VNNI__
enum { VR = 16, VB = 64, HAVE_DPBUSD = 1 };
#define vi_dpbusd(c, u, s) _mm512_dpbusd_epi32(c, u, s)
#else
enum { VR = 16, VB = 64, HAVE_DPBUSD = 0 };
#define vi_dpbusd(c, u, s) ((void)(u), (void)(s), (c))
#endif
typedef __m512i vi;
typedef __m512 vf;

static inline vi vi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
static inline vi vi_bcast32(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
static inline vi vi_set8(char v) {
    return _mm512_set1_epi8(v);
}
static inline vi vi_set16(short v) {
    return _mm512_set1_epi16(v);
}
static inline vi vi_zero(void) {
    return _mm512_setzero_si512();
}
static inline vi vi_lut(const int8_t *table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table));
}
static inline vi vi_set32(int v) {
    return _mm512_set1_epi32(v);
}
#define vi_store(p, v)   _mm512_storeu_si512(p, v)
#define vi_and(a, b)     _mm512_and_si512(a, b)
#define vi_or(a, b)      _mm512_or_si512(a, b)
#define vi_xor(a, b)     _mm512_xor_si512(a, b)
#define vi_xor3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define vi_max_u32(a, b) _mm512_max_epu32(a, b)
#define vi_srl16(a, n)   _mm512_srli_epi16(a, (unsigned char)(n))
#define vi_sll16(a, n)   _mm512_slli_epi16(a, (unsigned char)(n))
#define vi_sra16(a, n)   _mm512_srai_epi16(a, (unsigned char)(n))
#define vi_sll32(a, n)   _mm512_slli_epi32(a, (unsigned char)(n))
#define vi_sra32(a, n)   _mm512_srai_epi32(a, (unsigned)(n))
#define vi_shuffle(t, i) _mm512_shuffle_epi8(t, i)
#define vi_add32(a, b)   _mm512_add_epi32(a, b)
#define vi_sub32(a, b)   _mm512_sub_epi32(a, b)
#define vi_add8(a, b)    _mm512_add_epi8(a, b)
#define vi_add16(a, b)   _mm512_add_epi16(a, b)
#define vi_sub16(a, b)   _mm512_sub_epi16(a, b)
#define vi_mul16(a, b)   _mm512_mullo_epi16(a, b)
#define vi_maddubs(u, s) _mm512_maddubs_epi16(u, s)
#define vi_madd16(a, b)  _mm512_madd_epi16(a, b)
#define vi_abs8(a)       _mm512_abs_epi8(a)
/* a, negated where s is negative (s is never 0 with a nonzero product, so 0 need not clear) */
static inline vi vi_sign8(vi a, vi s) {
    return _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(s), _mm512_setzero_si512(), a);
}
#define vf_bits(a)       _mm512_castsi512_ps(a)
#define vi_bits(a)       _mm512_castps_si512(a)
#define vf_cvt(a)        _mm512_cvtepi32_ps(a)
#define vi_cvt(a)        _mm512_cvtps_epi32(a)
#define vf_mul(a, b)     _mm512_mul_ps(a, b)
#define vf_add(a, b)     _mm512_add_ps(a, b)
#define vf_sub(a, b)     _mm512_sub_ps(a, b)
#define vf_max(a, b)     _mm512_max_ps(a, b)
#define vf_div(a, b)     _mm512_div_ps(a, b)
#define vf_fma(a, b, c)  _mm512_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define vf_zero()        _mm512_setzero_ps()
#define vf_set(x)        _mm512_set1_ps(x)
#define vf_load(p)       _mm512_loadu_ps(p)
#define vf_store(p, v)   _mm512_storeu_ps(p, v)
static inline vf vf_bcast(const void *p) {
    float v;
    memcpy(&v, p, 4);
    return _mm512_set1_ps(v);
}
/* a b, and zero where x < least. */
static inline vf vf_mul_above(vf a, vf b, vf x, vf least) {
    return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ), a, b);
}
/* v where a < b as integers, else 0. */
static inline vi vi_where_less(vi v, vi a, vi b) {
    return _mm512_maskz_mov_epi32(_mm512_cmplt_epi32_mask(a, b), v);
}
static inline vf vf_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline void vf_to_f16(vf v, void *p) {
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
/* A byte a lane. */
static inline vi vi_u8(const void *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}
static inline vi vi_s8(const void *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}
/* A byte a lane, twice as 16 bits. */
static inline vi vi_twice_u8(const void *p) {
    return vi_or(vi_u8(p), vi_sll32(vi_u8(p), 16));
}
static inline vi vi_twice_s8(const void *p) {
    return vi_sra16(vi_sll16(vi_twice_u8(p), 8), 8);
}
/* Low or high nibble of a byte. */
static inline vi vi_nibble(const void *p, int high) {
    return high ? _mm512_srli_epi32(vi_u8(p), 4) : vi_and(vi_u8(p), vi_set32(15));
}
/* The nibbles of bytes one after the other, low ones first. */
static inline vf vf_nibbles(const void *p) {
    const __m512i low = _mm512_cvtepu8_epi32(_mm_loadl_epi64(p)); /* a byte in each of 8 lanes; then each twice */
    const __m512i twice =
        _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), low);
    const __m512i v = _mm512_srlv_epi32(twice, _mm512_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4));
    return _mm512_cvtepi32_ps(_mm512_and_si512(v, _mm512_set1_epi32(15)));
}
static inline vf vf_e8(const void *p) {
    const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), small));
}
/* Over 16 lanes, as a tree of halves: 8 + 8, 4 + 4, then (0 + 2) + (1 + 3), like lane_sum. */
static inline float vf_sum16(const vf *v) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float vf_max16(const vf *v) {
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v[0]), _mm512_extractf32x8_ps(v[0], 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
