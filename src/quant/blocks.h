/* The layout of every quantized block, as GGUF files carry it (ggml's ggml-common.h states it).
 *
 * All members are bytes, so a block has no padding and may lie at any address; two-byte fields are
 * little-endian and read with qrl_u16 or qrl_half. The number before each member is its offset.
 * d: half-float scale. qs: the low bits of the values. Internal to quant/ and to packers of kernels. */
#ifndef QRL_QUANT_BLOCKS_H
#define QRL_QUANT_BLOCKS_H

#include "base/half.h"

static inline uint16_t qrl_u16(const unsigned char *p) {
    return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}
static inline uint32_t qrl_u32(const unsigned char *p) {
    return (uint32_t)qrl_u16(p) | (uint32_t)qrl_u16(p + 2) << 16;
}
static inline float qrl_half(const unsigned char *p) {
    return qrl_f16_to_f32(qrl_u16(p));
}
static inline void qrl_put_u16(unsigned char *p, unsigned v) {
    p[0] = (unsigned char)(v & 255);
    p[1] = (unsigned char)(v >> 8 & 255);
}

/* Returns the value as stored. */
static inline float qrl_put_half(unsigned char *p, float x) {
    const uint16_t half = qrl_f32_to_f16(x);
    qrl_put_u16(p, half);
    return qrl_f16_to_f32(half);
}

/* E8M0 halved, as MXFP4 needs it beside doubled E2M1 levels: 2^(e - 128). Code 255, NaN in the
 * Microscaling text, is 2^127 here as it is in ggml. */
static inline float qrl_e8m0_half(unsigned char e) {
    return qrl_bits_f32(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}
/* Unsigned E4M3 halved, for NVFP4: exponent bias 7, the top bit ignored, code 0x7f is 0. */
static inline float qrl_ue4m3_half(unsigned char v) {
    if (v == 0x7f)
        return 0.0f;
    const unsigned exp = v >> 3 & 15u, man = v & 7u;
    if (exp == 0)
        return (float)man * 0x1p-10f;
    return qrl_bits_f32((exp + 119) << 23 | man << 20); /* exp - 7 - 1 + 127 */
}

typedef unsigned char qrl_block_F32[4], qrl_block_F16[2], qrl_block_BF16[2];

/* 32 values. Value i has its low nibble in qs[i] for i < 16, in the high half of qs[i - 16] above;
 * bit i of qh is its fifth bit. */
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char qs[16]; /* 2: value = d * (q - 8) */
} qrl_block_Q4_0;
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char m[2];   /* 2 */
    unsigned char qs[16]; /* 4: value = d * q + m */
} qrl_block_Q4_1;
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char qh[4];  /* 2 */
    unsigned char qs[16]; /* 6: value = d * (q - 16) */
} qrl_block_Q5_0;
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char m[2];   /* 2 */
    unsigned char qh[4];  /* 4 */
    unsigned char qs[16]; /* 8: value = d * q + m */
} qrl_block_Q5_1;
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char qs[32]; /* 2: int8; value = d * q */
} qrl_block_Q8_0;
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char qs[16]; /* 2: value = d * qrl_levels_iq4[q] */
} qrl_block_IQ4_NL;
typedef struct {
    unsigned char e;      /* 0: E8M0 scale */
    unsigned char qs[16]; /* 1: E2M1 codes */
} qrl_block_MXFP4;

/* 64 values in four groups of 16; a group's 8 bytes hold value i and i + 8 of it. */
typedef struct {
    unsigned char d[4];   /* 0: UE4M3 scale of a group */
    unsigned char qs[32]; /* 4: E2M1 codes */
} qrl_block_NVFP4;

/* 128 values: a set bit is d, a clear one -d. */
typedef struct {
    unsigned char d[2];   /* 0 */
    unsigned char qs[16]; /* 2 */
} qrl_block_Q1_0;

/* 256 values in units u = 0..7 of 32. "2-bit planes": value i of unit u lies in byte
 * 32 * (u / 4) + i at bit 2 * (u % 4). "Nibble planes": in byte 32 * (u / 2) + i at bit 4 * (u % 2).
 * "Bit planes": in byte i at bit u. */
typedef struct {
    unsigned char scales[16]; /* 0: of 16 values: low nibble scale, high nibble min */
    unsigned char qs[64];     /* 16: 2-bit planes; value = d * scale * q - dmin * min */
    unsigned char d[2];       /* 80 */
    unsigned char dmin[2];    /* 82 */
} qrl_block_Q2_K;
typedef struct {
    unsigned char hmask[32];  /* 0: bit planes: the third bit */
    unsigned char qs[64];     /* 32: 2-bit planes; value = d * (scale - 32) * (q - 4) */
    unsigned char scales[12]; /* 96: sixteen 6-bit scales: nibbles in bytes 0..7, upper two bits in 8..11 */
    unsigned char d[2];       /* 108 */
} qrl_block_Q3_K;
typedef struct {
    unsigned char d[2];       /* 0 */
    unsigned char dmin[2];    /* 2 */
    unsigned char scales[12]; /* 4: eight 6-bit scales and minima, see qrl_scale_min_get */
    unsigned char qs[128];    /* 16: nibble planes; value = d * scale * q - dmin * min */
} qrl_block_Q4_K;
typedef struct {
    unsigned char d[2];       /* 0 */
    unsigned char dmin[2];    /* 2 */
    unsigned char scales[12]; /* 4: as in q4_K */
    unsigned char qh[32];     /* 16: bit planes: the fifth bit */
    unsigned char qs[128];    /* 48: nibble planes */
} qrl_block_Q5_K;
typedef struct {
    unsigned char ql[128];    /* 0: value i of unit u: byte 64 * (u / 4) + 32 * (u % 2) + i, bit 4 * (u / 2 % 2) */
    unsigned char qh[64];     /* 128: 2-bit planes: the upper two bits */
    unsigned char scales[16]; /* 192: int8, of 16 values */
    unsigned char d[2];       /* 208: value = d * scale * (q - 32) */
} qrl_block_Q6_K;
typedef struct {
    unsigned char d[2];        /* 0 */
    unsigned char scales_h[2]; /* 2: upper two bits of eight 6-bit scales */
    unsigned char scales_l[4]; /* 4: their nibbles */
    unsigned char qs[128];     /* 8: a unit's 16 bytes as in iq4_nl; value = d * (scale - 32) * level */
} qrl_block_IQ4_XS;
/* Base 3, most significant digit first, a byte scaled so that 3 * byte >> 8 is the first digit. */
typedef struct {
    unsigned char qs[48]; /* 0: digit n of byte m: value 32 n + m (m < 32), 160 + 16 n + m - 32 (above) */
    unsigned char qh[4];  /* 48: digit n of byte m: value 240 + 4 n + m */
    unsigned char d[2];   /* 52: value = d * (digit - 1) */
} qrl_block_TQ1_0;
typedef struct {
    unsigned char qs[64]; /* 0: 2-bit planes; value = d * (q - 1) */
    unsigned char d[2];   /* 64 */
} qrl_block_TQ2_0;

/* Code-book types: groups of 8 values are rows of a grid (grids.h) with signs. "7 sign bits": the
 * eighth makes their number even. */
typedef struct {
    unsigned char d[2];     /* 0 */
    unsigned char qs[8][8]; /* 2: a unit: four grid indices, then a word: 4 x 7 sign bits, 4 bits scale */
} qrl_block_IQ2_XXS;
typedef struct {
    unsigned char d[2];      /* 0 */
    unsigned char qs[8][8];  /* 2: a unit: four words of 9 bits grid index, 7 sign bits */
    unsigned char scales[8]; /* 66: a unit: a nibble for 16 values each */
} qrl_block_IQ2_XS;
typedef struct {
    unsigned char d[2];        /* 0 */
    unsigned char qs[8][4];    /* 2: low 8 bits of the grid indices */
    unsigned char signs[8][4]; /* 34 */
    unsigned char qh[8];       /* 66: upper two bits of a unit's four indices */
    unsigned char scales[8];   /* 74: as in iq2_xs */
} qrl_block_IQ2_S;
typedef struct {
    unsigned char d[2];        /* 0 */
    unsigned char qs[8][8];    /* 2: grid indices, of 4 values each */
    unsigned char signs[8][4]; /* 66: a word: 4 x 7 sign bits, 4 bits scale */
} qrl_block_IQ3_XXS;
typedef struct {
    unsigned char d[2];        /* 0 */
    unsigned char qs[8][8];    /* 2: low 8 bits of the grid indices, of 4 values each */
    unsigned char qh[8];       /* 66: ninth bits of a unit's eight indices */
    unsigned char signs[8][4]; /* 74 */
    unsigned char scales[4];   /* 106: a nibble a unit */
} qrl_block_IQ3_S;
typedef struct {
    unsigned char d[2];     /* 0 */
    unsigned char qs[8][4]; /* 2: low 8 bits of the grid indices */
    unsigned char qh[8][2]; /* 34: a word: 4 x upper 3 bits of the indices, 3 bits scale, 1 bit shift */
} qrl_block_IQ1_S;
typedef struct {
    unsigned char qs[8][4];     /* 0: low 8 bits of the grid indices */
    unsigned char qh[8][2];     /* 32: a nibble for 8 values: upper 3 bits of the index, 1 bit shift */
    unsigned char scales[4][2]; /* 48: words: four 3-bit scales of 16 values; the top nibbles are d */
} qrl_block_IQ1_M;

/* Bytes and nothing else: the size that types.def states. */
#define QRL_TYPE(id, name, file_id, values, bytes, scales, minima, stepped)                                            \
    _Static_assert(sizeof(qrl_block_##id) == (bytes), #id ": the block's size is not that of types.def");
#include "quant/types.def"
#undef QRL_TYPE

/* Scale and minimum j = 0..7 of the 12 bytes of q4_K and q5_K: the first four pairs lie in the low six
 * bits of s[j] and s[j + 4]; of the others the nibbles lie in s[j + 4], the upper bits on top of the first. */
static inline void qrl_scale_min_get(const unsigned char *s, unsigned j, unsigned *scale, unsigned *min) {
    if (j < 4) {
        *scale = s[j] & 63u;
        *min = s[j + 4] & 63u;
    } else {
        *scale = (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
        *min = (unsigned)(s[j + 4] >> 4) | (unsigned)(s[j] >> 6) << 4;
    }
}
static inline void qrl_scale_min_put(unsigned char *s, const unsigned char *scale, const unsigned char *min) {
    for (int j = 0; j < 4; j++) {
        s[j] = (unsigned char)(scale[j] | scale[j + 4] >> 4 << 6);
        s[j + 4] = (unsigned char)(min[j] | min[j + 4] >> 4 << 6);
        s[j + 8] = (unsigned char)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}
/* Scale j = 0..15 of q3_K, 0..63. */
static inline unsigned qrl_q3_scale_get(const unsigned char *s, unsigned j) {
    const unsigned low = j < 8 ? s[j] & 15u : s[j - 8] >> 4;
    return low | ((unsigned)s[8 + j % 4] >> (2 * (j / 4)) & 3u) << 4;
}

#endif
