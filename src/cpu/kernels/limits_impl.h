/* What one thread of this instruction set can do at most: independent chains of the instructions
 * that the kernels live on, from registers. */
enum {
    CHAINS = VR == 16 ? 12 : 10,           /* within the registers, with two operands and what is between */
    BYTE_CHAINS = HAVE_DPBUSD ? CHAINS : 6 /* with as many sums of 16 bits */
};

/* Exact sums of products of bytes as gemm_impl.h makes them, for 32 values at a time: one instruction of four products,
 * or `sums` sums of two in 16 bits (1: with the sign trick), which then go to 32. */
INLINE uint64_t byte_rounds(uint64_t n, int sums, float *sink) {
    vi acc[BYTE_CHAINS], acc16[BYTE_CHAINS], a = vi_set8(3), w = vi_set8(5);
    UNROLL
    for (int i = 0; i < BYTE_CHAINS; i++)
        acc[i] = vi_zero();
    for (uint64_t k = 0; k < n; k++) {
        UNROLL
        for (int c = 0; c < 8; c++) {
            KEEP(w); /* a new value, as far as the compiler knows */
            UNROLL
            for (int i = 0; i < BYTE_CHAINS; i++) {
                KEEP(a);
                if (HAVE_DPBUSD) {
                    acc[i] = vi_dpbusd(acc[i], w, a);
                    continue;
                }
                const vi p = vi_maddubs(w, sums == 1 ? vi_sign8(a, w) : a);
                acc16[i] = c % sums == 0 ? p : vi_add16(acc16[i], p);
                KEEP(acc16[i]);
                if (c % sums == sums - 1) {
                    acc[i] = vi_add32(acc[i], vi_madd16(acc16[i], vi_set16(1)));
                    KEEP(acc[i]);
                }
            }
        }
    }
    UNROLL
    for (int i = 1; i < BYTE_CHAINS; i++)
        acc[0] = vi_add32(acc[0], acc[i]);
    vf_store(sink, vf_cvt(acc[0]));
    return n * BYTE_CHAINS * VB * 8;
}

static uint64_t KERNEL(limit_int8)(uint64_t n, int sums, float *sink) {
    switch (HAVE_DPBUSD ? 8 : sums) {
    case 1:
        return byte_rounds(n / 8, 1, sink);
    case 2:
        return byte_rounds(n / 8, 2, sink);
    case 4:
        return byte_rounds(n / 8, 4, sink);
    default:
        return byte_rounds(n / 8, 8, sink);
    }
}

static uint64_t KERNEL(limit_f32)(uint64_t n, float *sink) {
    vf acc[CHAINS], a = vf_set(0.999f), w = vf_set(1.0f);
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = vf_set((float)i); /* chains that were equal would become one */
    for (uint64_t k = 0; k < n; k++) {
        KEEP(a);
        KEEP(w);
        UNROLL
        for (int i = 0; i < CHAINS; i++)
            acc[i] = vf_fma(acc[i], a, w);
    }
    for (int i = 1; i < CHAINS; i++)
        acc[0] = vf_add(acc[0], acc[i]);
    vf_store(sink, acc[0]);
    return n * CHAINS * VR;
}

static void KERNEL(limit_read)(const unsigned char *data, size_t n, float *sink) {
    vi x[4] = {vi_zero(), vi_zero(), vi_zero(), vi_zero()};
    for (size_t i = 0; i < n; i += 4 * VB)
        for (int j = 0; j < 4; j++)
            x[j] = vi_xor(x[j], vi_load(data + i + (size_t)j * VB));
    vf_store(sink, vf_cvt(vi_xor(vi_xor(x[0], x[1]), vi_xor(x[2], x[3]))));
}

#if defined(__AVX512VNNI__) && !defined(QRL_EMULATED)
/* Only to know the limit: the numerics contract has no bf16 products. Returns 0 where the processor
 * lacks them. */
__attribute__((target("avx512bf16"))) static uint64_t bf16_rounds(uint64_t n, float *sink) {
    __m512 acc[CHAINS];
    __m512i bits = _mm512_set1_epi16(0x3f80);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i); /* chains that were equal would become one */
    for (uint64_t k = 0; k < n; k++) {
        KEEP(bits);
        for (int i = 0; i < CHAINS; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)bits, (__m512bh)bits);
    }
    for (int i = 1; i < CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    _mm512_storeu_ps(sink, acc[0]);
    return n * CHAINS * 32;
}

static uint64_t KERNEL(limit_bf16)(uint64_t n, float *sink) {
    return __builtin_cpu_supports("avx512bf16") ? bf16_rounds(n, sink) : 0;
}
#define LIMIT_BF16 KERNEL(limit_bf16)
#else
#define LIMIT_BF16 NULL
#endif

#if HAVE_TILES
/* Whole registers of 64 values a row, four sums under way. Products over units of 32 values, each with a scale of its
 * own, cannot come near it (amx_impl.h). */
static uint64_t KERNEL(limit_tiles)(uint64_t n, float *sink) {
    static const tile_shapes full = {.palette = 1, .colsb = {64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16}};
    _Alignas(64) int32_t sums[16][16];
    memset(sums, 0, sizeof sums);
    _tile_loadconfig(&full);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, sums, 64);
    _tile_loadd(5, sums, 64);
    const uint64_t rounds = n / 16; /* as long as the other limits take */
    for (uint64_t k = 0; k < rounds; k++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_stored(0, sums, 64);
    _tile_release();
    sink[0] = (float)sums[0][0];
    return rounds * 4 * 16 * 16 * 64;
}
#define LIMIT_TILES KERNEL(limit_tiles)
#else
#define LIMIT_TILES NULL
#endif
