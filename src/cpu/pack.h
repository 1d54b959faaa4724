/* Packed weights: the layout that makes "lane = output row" possible.
 *
 * 16 rows stand side by side. Along k they are cut into superblocks of `units` units of 32 values. A
 * superblock is a header with the scales of its 16 rows, then for each unit the quants, first as
 * small unsigned integers u = q + offset, then interleaved: chunk c of a unit is 64 bytes, 4
 * consecutive values (k = 4c ..) of row 0, 4 of row 1 ... so a vector of dot products of 4 holds one
 * partial sum for each row. The bits of u are kept in planes, low bits first:
 *   4: 256 bytes; byte j of vector c (0..3): low nibble for chunk c, high nibble for chunk c + 4
 *   2: 128 bytes; byte j of vector c (0..1): bits 2i, 2i+1 for chunk 4c + i
 *   1:  64 bytes; byte j: bit c for chunk c
 *   8: 512 bytes; vector c is chunk c
 * Types without a layout of their own are stored as bytes with float scales (QRL_HEAD_F32).
 * Float types: one vector of 16 rows for each k, in their own format. */
#ifndef QRL_CPU_PACK_H
#define QRL_CPU_PACK_H

#include "cpu/kernels.h"

/* The scales of a superblock of 16 rows. f16 scales are kept as they are, 6-bit ones as bytes. */
typedef enum qrl_head {
    QRL_HEAD_D,     /* f16 d[16] */
    QRL_HEAD_DM,    /* f16 d[16], m[16]: min = -m */
    QRL_HEAD_E8,    /* u8 e[16]: d = 2^(e - 128) (E8M0, halved) */
    QRL_HEAD_KM,    /* f16 d[16], dmin[16]; u8 sc[8][16], m[8][16]: 8 of 32 */
    QRL_HEAD_KM16,  /* f16 d[16], dmin[16]; u8 scm[16][16]: 16 of 16, scale in the low nibble, min in the high */
    QRL_HEAD_K,     /* f16 d[16]; s8 sc[8][16] */
    QRL_HEAD_K16,   /* f16 d[16]; s8 sc[16][16] */
    QRL_HEAD_F32,   /* f32 s[16]: one scale a unit */
    QRL_HEAD_F32X2, /* f32 s[2][16]: two */
} qrl_head;

/* QRL_LAYOUT(name, planes, offset, look-up table or NONE, head, units a superblock): one kernel each.
 * planes: 4, 41 (4 and 1), 42, 2, 21, 8. */
#define QRL_LAYOUTS(QRL_LAYOUT)                                                                                        \
    QRL_LAYOUT(N4_D, 4, 8, NONE, QRL_HEAD_D, 1)                                                                        \
    QRL_LAYOUT(N4_DM, 4, 0, NONE, QRL_HEAD_DM, 1)                                                                      \
    QRL_LAYOUT(N5_D, 41, 16, NONE, QRL_HEAD_D, 1)                                                                      \
    QRL_LAYOUT(N5_DM, 41, 0, NONE, QRL_HEAD_DM, 1)                                                                     \
    QRL_LAYOUT(N8_D, 8, 128, NONE, QRL_HEAD_D, 1)                                                                      \
    QRL_LAYOUT(N2_KM16, 2, 0, NONE, QRL_HEAD_KM16, 8)                                                                  \
    QRL_LAYOUT(N3_K16, 21, 4, NONE, QRL_HEAD_K16, 8)                                                                   \
    QRL_LAYOUT(N4_KM, 4, 0, NONE, QRL_HEAD_KM, 8)                                                                      \
    QRL_LAYOUT(N5_KM, 41, 0, NONE, QRL_HEAD_KM, 8)                                                                     \
    QRL_LAYOUT(N6_K16, 42, 32, NONE, QRL_HEAD_K16, 8)                                                                  \
    QRL_LAYOUT(NL4_D, 4, 128, NL4, QRL_HEAD_D, 1)                                                                      \
    QRL_LAYOUT(NL4_K, 4, 128, NL4, QRL_HEAD_K, 8)                                                                      \
    QRL_LAYOUT(FP4_E8, 4, 16, FP4, QRL_HEAD_E8, 1)                                                                     \
    QRL_LAYOUT(FP4_F32X2, 4, 16, FP4, QRL_HEAD_F32X2, 1)                                                               \
    QRL_LAYOUT(N2_F32, 2, 1, NONE, QRL_HEAD_F32, 1)                                                                    \
    QRL_LAYOUT(N8_F32, 8, 128, NONE, QRL_HEAD_F32, 1)                                                                  \
    QRL_LAYOUT(N8_F32X2, 8, 128, NONE, QRL_HEAD_F32X2, 1)

/* QRL_PACK(type, layout): every quantized type has a row. */
#define QRL_PACKS(QRL_PACK)                                                                                            \
    QRL_PACK(Q4_0, N4_D)                                                                                               \
    QRL_PACK(Q4_1, N4_DM)                                                                                              \
    QRL_PACK(Q5_0, N5_D)                                                                                               \
    QRL_PACK(Q5_1, N5_DM)                                                                                              \
    QRL_PACK(Q8_0, N8_D)                                                                                               \
    QRL_PACK(Q2_K, N2_KM16)                                                                                            \
    QRL_PACK(Q3_K, N3_K16)                                                                                             \
    QRL_PACK(Q4_K, N4_KM)                                                                                              \
    QRL_PACK(Q5_K, N5_KM)                                                                                              \
    QRL_PACK(Q6_K, N6_K16)                                                                                             \
    QRL_PACK(IQ4_NL, NL4_D)                                                                                            \
    QRL_PACK(IQ4_XS, NL4_K)                                                                                            \
    QRL_PACK(MXFP4, FP4_E8)                                                                                            \
    QRL_PACK(NVFP4, FP4_F32X2)                                                                                         \
    QRL_PACK(TQ1_0, N2_F32)                                                                                            \
    QRL_PACK(TQ2_0, N2_F32)                                                                                            \
    QRL_PACK(Q1_0, N2_F32)                                                                                             \
    QRL_PACK(IQ2_XXS, N8_F32)                                                                                          \
    QRL_PACK(IQ3_XXS, N8_F32)                                                                                          \
    QRL_PACK(IQ3_S, N8_F32)                                                                                            \
    QRL_PACK(IQ1_S, N8_F32)                                                                                            \
    QRL_PACK(IQ2_XS, N8_F32X2)                                                                                         \
    QRL_PACK(IQ2_S, N8_F32X2)                                                                                          \
    QRL_PACK(IQ1_M, N8_F32X2)

enum { QRL_LUT_NONE, QRL_LUT_NL4, QRL_LUT_FP4 };

/* What a 4-bit index of these types stands for (ggml kvalues_iq4nl; OCP MX E2M1, doubled). */
#define QRL_LUT_NL4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define QRL_LUT_FP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

typedef struct qrl_pack {
    int planes, offset, lut;
    qrl_head head;
    size_t units; /* a superblock */
} qrl_pack;

/* NULL for float types. */
const qrl_pack *qrl_pack_of(qrl_type type);

static inline size_t qrl_head_bytes(qrl_head head) {
    static const unsigned short bytes[] = {32, 64, 16, 64 + 256, 64 + 256, 32 + 128, 32 + 256, 64, 128};
    return bytes[head];
}
static inline size_t qrl_planes_bytes(int planes) {
    return planes == 4 ? 256 : planes == 41 ? 320 : planes == 42 ? 384 : planes == 2 ? 128 : planes == 21 ? 192 : 512;
}

/* Two scales a unit, one for each half. */
static inline bool qrl_head_dual(qrl_head head) {
    return head == QRL_HEAD_KM16 || head == QRL_HEAD_K16 || head == QRL_HEAD_F32X2;
}

static inline bool qrl_head_has_min(qrl_head head) {
    return head == QRL_HEAD_DM || head == QRL_HEAD_KM || head == QRL_HEAD_KM16;
}

/* Its scales are integers times the f16 of the superblock (types.def: stepped). */
static inline bool qrl_head_stepped(qrl_head head) {
    return head == QRL_HEAD_KM || head == QRL_HEAD_KM16 || head == QRL_HEAD_K || head == QRL_HEAD_K16;
}

/* Its scales are an f16, or an f16 times a small integer. */
static inline bool qrl_head_f16(qrl_head head) {
    return head != QRL_HEAD_E8 && head != QRL_HEAD_F32 && head != QRL_HEAD_F32X2;
}

/* Stepped types whose values times their steps are signed bytes, once they are negated: at most 3 * 15 (Q2_K) and
 * 4 * 32 (Q3_K). */
static inline bool qrl_steps_fit(int planes, qrl_head head) {
    return head == QRL_HEAD_KM16 || (head == QRL_HEAD_K16 && planes == 21);
}

/* How many chunks of products are summed in 16 bits, without VNNI: each is 2 of at most 127 times the weight's
 * magnitude; all of a unit, or of a half with a scale of its own, where there is an offset. 1: bytes above 127, which
 * take the sign trick (gemm_impl.h). */
static inline int qrl_sums_of_16_bits(int planes, int offset, int lut, qrl_head head) {
    const int most = lut == QRL_LUT_FP4 ? 12
                     : offset           ? offset
                     : planes == 4      ? 15
                     : planes == 41     ? 31
                     : planes == 42     ? 63
                                        : 7;
    const int sums = 0x7fff / (2 * 127 * most);
    return offset == 128 ? 1 : sums >= 8 && !qrl_head_dual(head) ? 8 : sums >= 4 ? 4 : 2;
}

/* Bytes of a packed group of 16 rows of n_cols values. */
size_t qrl_group_bytes(qrl_type type, size_t n_cols);
/* Packs rows [first_row, first_row + 16) of m (rows beyond its end are zero) into out. */
void qrl_pack_group(qrl_type type, const unsigned char *data, size_t n_rows, size_t n_cols, size_t first_row,
                    unsigned char *out);

#endif
