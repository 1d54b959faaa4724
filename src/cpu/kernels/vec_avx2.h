/* The vectors of AVX2 with FMA and F16C, and AVX-VNNI: 8 rows. One of two headers with the same names, so that
 * gemm_impl.h and attend_impl.h are written once. */
#include <immintrin.h>

#define HAVE_VECTORS
#define HAVE_TILES 0

#ifdef __AVXVNNI__
enum { VR = 8, VB = 32, HAVE_DPBUSD = 1 };
#define vi_dpbusd(c, u, s) _mm256_dpbusd_avx_epi32(c, u, s)
#else
enum { VR = 8, VB = 32, HAVE_DPBUSD = 0 };
#define vi_dpbusd(c, u, s) ((void)(u), (void)(s), (c))
#endif
typedef __m256i vi;
typedef __m256 vf;

static inline vi vi_load(const void *p) {
    return _mm256_loadu_si256(p);
}
static inline vi vi_bcast32(const void *p) {
    return _mm256_castps_si256(_mm256_broadcast_ss(p)); /* AMD: a load and nothing else */
}
static inline vi vi_set8(char v) {
    return _mm256_set1_epi8(v);
}
static inline vi vi_set16(short v) {
    return _mm256_set1_epi16(v);
}
static inline vi vi_zero(void) {
    return _mm256_setzero_si256();
}
static inline vi vi_lut(const int8_t *table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table));
}
static inline vi vi_set32(int v) {
    return _mm256_set1_epi32(v);
}
#define vi_store(p, v)   _mm256_storeu_si256((void *)(p), v)
#define vi_and(a, b)     _mm256_and_si256(a, b)
#define vi_or(a, b)      _mm256_or_si256(a, b)
#define vi_xor(a, b)     _mm256_xor_si256(a, b)
#define vi_xor3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define vi_max_u32(a, b) _mm256_max_epu32(a, b)
#define vi_srl16(a, n)   _mm256_srli_epi16(a, (int)(n))
#define vi_sll16(a, n)   _mm256_slli_epi16(a, (int)(n))
#define vi_sra16(a, n)   _mm256_srai_epi16(a, (int)(n))
#define vi_sll32(a, n)   _mm256_slli_epi32(a, (int)(n))
#define vi_sra32(a, n)   _mm256_srai_epi32(a, (int)(n))
#define vi_shuffle(t, i) _mm256_shuffle_epi8(t, i)
#define vi_add32(a, b)   _mm256_add_epi32(a, b)
#define vi_sub32(a, b)   _mm256_sub_epi32(a, b)
#define vi_add8(a, b)    _mm256_add_epi8(a, b)
#define vi_add16(a, b)   _mm256_add_epi16(a, b)
#define vi_sub16(a, b)   _mm256_sub_epi16(a, b)
#define vi_mul16(a, b)   _mm256_mullo_epi16(a, b)
#define vi_maddubs(u, s) _mm256_maddubs_epi16(u, s)
#define vi_madd16(a, b)  _mm256_madd_epi16(a, b)
#define vi_abs8(a)       _mm256_abs_epi8(a)
#define vi_sign8(a, s)   _mm256_sign_epi8(a, s)
#define vf_bits(a)       _mm256_castsi256_ps(a)
#define vi_bits(a)       _mm256_castps_si256(a)
#define vf_cvt(a)        _mm256_cvtepi32_ps(a)
#define vi_cvt(a)        _mm256_cvtps_epi32(a)
#define vf_mul(a, b)     _mm256_mul_ps(a, b)
#define vf_add(a, b)     _mm256_add_ps(a, b)
#define vf_sub(a, b)     _mm256_sub_ps(a, b)
#define vf_max(a, b)     _mm256_max_ps(a, b)
#define vf_div(a, b)     _mm256_div_ps(a, b)
#define vf_fma(a, b, c)  _mm256_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define vf_zero()        _mm256_setzero_ps()
#define vf_set(x)        _mm256_set1_ps(x)
#define vf_load(p)       _mm256_loadu_ps((const float *)(const void *)(p))
#define vf_store(p, v)   _mm256_storeu_ps(p, v)
static inline vf vf_bcast(const void *p) {
    return _mm256_broadcast_ss(p);
}
/* a b, and zero where x < least. */
static inline vf vf_mul_above(vf a, vf b, vf x, vf least) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, least, _CMP_LT_OQ), _mm256_mul_ps(a, b));
}
/* v where a < b as integers, else 0. */
static inline vi vi_where_less(vi v, vi a, vi b) {
    return _mm256_and_si256(v, _mm256_cmpgt_epi32(b, a));
}
static inline vf vf_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
static inline void vf_to_f16(vf v, void *p) {
    _mm_storeu_si128(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
/* A byte a lane. */
static inline vi vi_u8(const void *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
}
static inline vi vi_s8(const void *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}
/* A byte a lane, twice: in the low bytes of 16 bits, or in the high ones. */
static inline vi vi_twice(const void *p, int high) {
    const vi low = _mm256_set_epi64x((long long)0xff07ff07ff06ff06, (long long)0xff05ff05ff04ff04,
                                     (long long)0xff03ff03ff02ff02, (long long)0xff01ff01ff00ff00);
    return _mm256_shuffle_epi8(_mm256_broadcastq_epi64(_mm_loadl_epi64(p)),
                               high ? vi_or(vi_sll16(low, 8), vi_set16(255)) : low);
}
/* A byte a lane, twice as 16 bits. */
static inline vi vi_twice_u8(const void *p) {
    return vi_twice(p, 0);
}
static inline vi vi_twice_s8(const void *p) {
    return vi_sra16(vi_twice(p, 1), 8);
}
/* Low or high nibble of a byte. */
static inline vi vi_nibble(const void *p, int high) {
    return high ? _mm256_srli_epi32(vi_u8(p), 4) : vi_and(vi_u8(p), vi_set32(15));
}
/* The nibbles of bytes one after the other, low ones first. */
static inline vf vf_nibbles(const void *p) {
    const __m256i v = _mm256_srlv_epi32(vi_bcast32(p), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32(15)));
}
/* E8M0 halved: 2^(e - 128), the two smallest being subnormal. */
static inline vf vf_e8(const void *p) {
    const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, small, is_small));
}
/* Over 16 lanes, as a tree of halves: 8 + 8, 4 + 4, then (0 + 2) + (1 + 3), like lane_sum. */
static inline float vf_sum16(const vf *v) {
    const vf a = _mm256_add_ps(v[0], v[1]);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
static inline float vf_max16(const vf *v) {
    const vf a = _mm256_max_ps(v[0], v[1]);
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
