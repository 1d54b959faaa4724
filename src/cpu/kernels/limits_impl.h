/* What one thread of this instruction set can do at most: independent chains of the instruction that
 * the kernels live on, from registers. */
enum {
    CHAINS = VR == 16 ? 12 : 10,           /* within the registers, with two operands and what is between */
    BYTE_CHAINS = HAVE_DPBUSD ? CHAINS : 6 /* sums of 16 bits take one cycle */
};

static uint64_t KERNEL(limit_int8)(uint64_t n, float *sink) {
    vi acc[BYTE_CHAINS], a = vi_set8(3), w = vi_set8(5);
    UNROLL
    for (int i = 0; i < BYTE_CHAINS; i++)
        acc[i] = vi_zero();
    for (uint64_t k = 0; k < n; k++) {
        UNROLL
        for (int i = 0; i < BYTE_CHAINS; i++) {
            __asm__ volatile("" : "+x"(a)); /* a new value, as far as the compiler knows */
            acc[i] = HAVE_DPBUSD ? vi_dpbusd(acc[i], w, a) : vi_add16(acc[i], vi_maddubs(w, a));
        }
    }
    UNROLL
    for (int i = 1; i < BYTE_CHAINS; i++)
        acc[0] = vi_add32(acc[0], acc[i]);
    vf_store(sink, vf_cvt(acc[0]));
    return n * BYTE_CHAINS * VB;
}

static uint64_t KERNEL(limit_f32)(uint64_t n, float *sink) {
    vf acc[CHAINS], a = vf_set(0.999f), w = vf_set(1.0f);
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = vf_set((float)i); /* chains that were equal would become one */
    for (uint64_t k = 0; k < n; k++) {
        __asm__ volatile("" : "+x"(a), "+x"(w));
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

#ifdef __AVX512VNNI__
/* Only to know the limit: the numerics contract has no bf16 products. Returns 0 where the processor
 * lacks them. */
__attribute__((target("avx512bf16"))) static uint64_t bf16_rounds(uint64_t n, float *sink) {
    __m512 acc[CHAINS];
    __m512i bits = _mm512_set1_epi16(0x3f80);
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i); /* chains that were equal would become one */
    for (uint64_t k = 0; k < n; k++) {
        __asm__ volatile("" : "+x"(bits));
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
