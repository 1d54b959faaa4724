/* The kernels of one instruction set, as a table. The files of cpu/ call these and know no vector width;
 * kernels/{scalar,avx2,avxvnni,avx512,avx512vnni,amx} provide them. All tables give the same bits: what they
 * compute is written down in docs/numerics.md, and the scalar table is its executable form.
 *
 * Packed weights: groups of 16 rows, cut along k into units of 32 values (pack.h).
 * Activations: tiles of 1, 2, 4, 8 or 16 rows, cut into the same units (QACT_* below). */
#ifndef QRL_CPU_KERNELS_H
#define QRL_CPU_KERNELS_H

#include "backend/backend.h"
#include "base/cpu.h"
#include "quant/quant.h"

enum {
    QRL_GROUP = 16,      /* rows of packed weights side by side: the lanes */
    QRL_TILE_WIDTHS = 5, /* tiles of 1 << 0 .. 1 << 4 rows; how far a set goes: qrl_kernels.tile_log2 */
    QRL_TILE_MAX = 16,
    QRL_ATTN_ROWS = 32 /* query rows that one call of attend takes */
};

/* One unit of a tile of `width` rows of quantized activations, QRL_QACT_BYTES(width) bytes:
 *     int8_t q[width][32];
 *     float d[width];       x = d * q
 *     float s[3][width];    d * (sum of q over the unit, its first half, its second half)
 *     int16_t n[3][width][2]; of those sums' two parts (values 4i and 4i + 1; 4i + 2 and 4i + 3), as integers,
 *                           minus QRL_OFFSET_UNIT and twice QRL_OFFSET_HALF times
 *     4 bytes a row of padding, so that a unit of one row is a cache line
 * Where products of 4 bytes are one instruction (avxvnni, avx512vnni, amx), n is what they begin with: int32_t
 * n[3][width], 0x4b400000 - 128 * the sum. */
enum { QRL_OFFSET_UNIT = 16, QRL_OFFSET_HALF = 32 }; /* of small weights: the most whose sums fit 16 bits */
#define QRL_QACT_BYTES(width)      ((size_t)64 * (size_t)(width))
#define QRL_QACT_D(unit, width)    ((unit) + 32 * (size_t)(width))
#define QRL_QACT_S(unit, width, i) ((unit) + (36 + 4 * (size_t)(i)) * (size_t)(width))
#define QRL_QACT_N(unit, width, i) ((unit) + (48 + 4 * (size_t)(i)) * (size_t)(width))

/* How far ahead of its use memory that is read once is asked for, in bytes: to the first-level cache, and to the second
 * (0: not). What suits depends on the processor's buffers for misses, not on the instruction set. */
typedef struct qrl_ahead {
    size_t near, far;
} qrl_ahead;

/* Packed weights as they lie in memory: one group of 16 rows or two, n units of 32 (quantized types) or values (float
 * types) along k. */
typedef struct qrl_groups {
    const unsigned char *data;
    size_t bytes; /* from group to group */
    size_t count, n;
    qrl_ahead ahead;
} qrl_groups;

/* out[t * out_stride + r] for the rows r of the groups and the rows t of a tile. */
typedef void qrl_gemm_fn(const qrl_groups *w, const void *tile, float *out, size_t out_stride);

/* Two groups of packed weights, some units along k, as the products of the widest tiles want them: unpacked
 * once for many tiles, and small enough for the first-level cache. */
enum { QRL_PANEL_ROWS = 2 * QRL_GROUP, QRL_PANEL_UNITS = 8, QRL_PANEL_VALUES = 64 };
typedef struct qrl_panel {
    union {
        unsigned char q[QRL_PANEL_UNITS][2]
                       [QRL_GROUP * QRL_UNIT];          /* [unit][group]: chunks as in pack.h, a byte a value */
        float values[QRL_PANEL_VALUES][QRL_PANEL_ROWS]; /* float types */
    };
    /* of a unit's halves; of stepped types, whose superblocks are QRL_PANEL_UNITS, the steps, unless the bytes are
     * multiplied by them already: as floats, or where products of 4 bytes are not one instruction as integers of 16
     * bits, twice */
    float scale[QRL_PANEL_UNITS][2][QRL_PANEL_ROWS];
    float super[QRL_PANEL_ROWS]; /* scale of a superblock, of stepped types */
    float min[QRL_PANEL_UNITS][2][QRL_PANEL_ROWS];
    float base[QRL_PANEL_UNITS][QRL_PANEL_ROWS]; /* see gemm_impl.h */
} qrl_panel;

/* Units (or values) [first, first + n) of a group into half 0 or 1 of a panel; first is a multiple of
 * QRL_PANEL_UNITS (QRL_PANEL_VALUES). */
typedef void qrl_unpack_fn(const unsigned char *group, size_t first, size_t n, size_t half, qrl_panel *out);
/* The panel's n units (or values) by a tile of the widest, which begins at the same place along k:
 * acc[t * ld + r], r < QRL_PANEL_ROWS, is set (first) or goes on. next: what tile will be in the next
 * call, to be asked for meanwhile; need not be readable. */
typedef void qrl_product_fn(const qrl_panel *p, size_t n, const void *tile, const void *next, float *acc, size_t ld,
                            bool first);

typedef struct qrl_gemm {
    qrl_gemm_fn *rows[QRL_TILE_WIDTHS - 1]; /* [log2 of the tile's width], below tile_log2 */
    qrl_unpack_fn *unpack;
    qrl_product_fn *product; /* the widest tiles */
    /* Around products on a thread, where the processor's tile registers must be set up and given back; else NULL. */
    void (*begin)(void), (*end)(void);
} qrl_gemm;

/* Queries as integers, in blocks of 32 dimensions, for keys of Q8_0. */
typedef struct qrl_query8 {
    int8_t *q;      /* [blocks * 8][QRL_ATTN_ROWS][4], zeros behind the last dimension */
    float *scale;   /* [blocks][QRL_ATTN_ROWS]: of the integers, times that of the scores */
    int32_t *start; /* [blocks][QRL_ATTN_ROWS]: 0x4b400000 less 128 times the sum of the integers */
} qrl_query8;

/* One page of keys and values against n_rows query rows. Of the page, row r sees positions
 * [first[r], end[r]); for a row that sees nothing, both are 0. */
typedef struct qrl_attend {
    const float *q; /* [k_dim][QRL_ATTN_ROWS] */
    qrl_query8 q8;  /* instead of q where keys are Q8_0 */
    float *acc;     /* [n_rows][v_dim], running sums of p v */
    float *max;     /* [n_rows], running maxima of the scores */
    float *sum;     /* [n_rows], running sums of p */
    const void *k;  /* [k_dim][QRL_PAGE] as the cache has them (qrl_kv_layer in backend/backend.h) */
    const void *v;  /* [QRL_PAGE][v_dim] */
    qrl_kv_type type_k, type_v;
    float *floats;               /* scratch: [2 * QRL_PAGE * the larger of both, in whole blocks of 32] */
    const void *next_k, *next_v; /* of the page that comes next, to be asked for meanwhile; or NULL */
    ptrdiff_t far; /* bytes from there to the page after it, which the second-level cache asks for; or 0 */
    uint8_t first[QRL_ATTN_ROWS], end[QRL_ATTN_ROWS];
    bool whole; /* every row sees the whole page */
    size_t n_rows, k_dim, v_dim;
    float scale;
    float softcap;              /* 0: none */
    bool sloped;                /* slope and at count */
    float slope[QRL_ATTN_ROWS]; /* of ALiBi */
    int32_t at[QRL_ATTN_ROWS];  /* the row's position minus the page's first */
} qrl_attend;

typedef struct qrl_kernels {
    /* Row x of n_units * 32 values into row `lane` of a tile. */
    void (*quantize)(const float *x, size_t n_units, unsigned char *tile, size_t width, size_t lane);
    /* Rows x[width][32] into a unit of a tile. */
    void (*quantize_unit)(const float *x, unsigned char *unit, size_t width);
    size_t tile_log2;     /* of the widest tile's rows: 0 in the scalar table, which works on unpacked rows */
    const qrl_gemm *gemm; /* [type]; NULL there */
    void (*attend)(const qrl_attend *a);
    /* A query x [dim] and the scale of the scores into row r of `out`. */
    void (*quantize_query)(const float *x, size_t dim, float scale, size_t r, const qrl_query8 *out);
    /* In place: each part of a row x [dim] is turned by a Hadamard matrix (kv_impl.h). */
    void (*rotate)(float *x, size_t dim);
    /* A row x [dim] of a head's keys or values, which is position `at` of a page of Q8_0. */
    void (*put_q8)(bool keys, unsigned char *page, size_t dim, size_t at, const float *x);
    /* A head's keys or values of a page, as they lie in the cache (F16 and Q4_0; others are used where they lie), to
     * out: [dim][QRL_PAGE] keys, [QRL_PAGE][dim] values. */
    void (*unpack_kv)(qrl_kv_type type, bool keys, const void *page, size_t dim, float *out);
    /* Of each of n_rows rows of n values: to = from by[row] + (to keep[row]), fused */
    void (*mix)(float *to, const float *from, size_t n_rows, size_t n, const float *keep, const float *by);
    void (*to_f16)(const float *x, size_t n, uint16_t *out); /* qrl_f32_to_f16 of each */
    /* Turns the first n_rot values of a head x; cossin [n_rot / 2][2] as in qrl_rope_op. */
    void (*rope)(qrl_rope_kind kind, float *x, const float *cossin, size_t n_rot);
    void (*norm_rms)(const float *x, const float *weight, float *out, size_t n, float eps);
    void (*norm_layer)(const float *x, const float *weight, const float *bias, float *out, size_t n, float eps);
    /* out = act(gate) * up, or act(up) where gate is NULL */
    void (*activate[QRL_ACT_COUNT])(const float *gate, const float *up, float *out, size_t n);
    /* out[i] = a tanh(x[i] / a) */
    void (*softcap)(const float *x, float *out, size_t n, float a);
    /* out[i] = exp(x[i]) */
    void (*exp)(const float *x, float *out, size_t n);
    /* Speed limits (cpu/limits.c): each does n rounds and returns the multiply-adds done; `sink` keeps
     * the compiler honest. bf16 NULL where there is no such instruction. */
    uint64_t (*limit_int8)(uint64_t n, int sums, float *sink); /* sums: as of qrl_sums_of_16_bits */
    uint64_t (*limit_f32)(uint64_t n, float *sink);
    uint64_t (*limit_bf16)(uint64_t n, float *sink);
    uint64_t (*limit_tiles)(uint64_t n, float *sink); /* NULL where there are no tile registers */
    /* Reads n bytes (a multiple of 256) once. */
    void (*limit_read)(const unsigned char *data, size_t n, float *sink);
} qrl_kernels;

/* NULL where the set is not compiled in. */
const qrl_kernels *qrl_kernels_get(qrl_isa isa);

extern const qrl_kernels qrl_kernels_scalar;
#if defined(__x86_64__)
extern const qrl_kernels qrl_kernels_avx2, qrl_kernels_avxvnni, qrl_kernels_avx512, qrl_kernels_avx512vnni,
    qrl_kernels_amx;
#endif

/* The specification of a product, used by the scalar set and by the tests: one row of any type, as
 * the file has it, against one row of activations.
 * n: values along k; act: a tile of width 1 (quantized types) or float[n] (float types). */
float qrl_dot_reference(qrl_type type, const unsigned char *row, size_t n, const void *act);

#endif
