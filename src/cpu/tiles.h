/* Tiles of activation rows, and a piece of a weight against them: what all products share (linear.c, moe.c,
 * linear_each.c).
 *
 * n rows stand in tiles of the widest that the set has (8, with AMX 16), then of halves of that down to 1, one tile
 * after the other; the scalar set has tiles of 1 alone. A row of n_cols values takes the same bytes in a tile of any
 * width. */
#ifndef QRL_CPU_TILES_H
#define QRL_CPU_TILES_H

#include "cpu/cpu_int.h"

#include <string.h>

static inline bool qrl_weight_quantized(const qrl_weight *w) {
    return qrl_quant_traits(w->m.type)->scales != 0;
}

static inline size_t qrl_tile_row_bytes(size_t n_cols, bool quantized) {
    return quantized ? n_cols / QRL_UNIT * QRL_QACT_BYTES(1) : n_cols * sizeof(float);
}

/* log2 of the width of the tile that begins with `left` rows to go. */
static inline size_t qrl_tile_log2(const qrl_kernels *k, size_t left) {
    size_t log2 = k->tile_log2;
    while (log2 > 0 && (size_t)1 << log2 > left)
        log2--;
    return log2;
}

/* The tile of row r of n: its first row and its width. */
static inline void qrl_tile_of(const qrl_kernels *k, size_t r, size_t n, size_t *first, size_t *width) {
    const size_t log2 = k->tile_log2, rest = n >> log2 << log2;
    size_t at = r < rest ? r >> log2 << log2 : rest;
    for (;;) {
        *width = (size_t)1 << qrl_tile_log2(k, n - at);
        if (r < at + *width)
            break;
        at += *width;
    }
    *first = at;
}

/* Columns [col, col + n_cols) of row `lane` of a tile: quantized (whole units) or as floats. */
static inline void qrl_tile_put(const qrl_kernels *k, const float *x, size_t col, size_t n_cols, bool quantized,
                                unsigned char *tile, size_t width, size_t lane) {
    if (quantized) {
        k->quantize(x, n_cols / QRL_UNIT, tile + col / QRL_UNIT * QRL_QACT_BYTES(width), width, lane);
        return;
    }
    float *out = (float *)(void *)tile + col * width + lane;
    for (size_t c = 0; c < n_cols; c++)
        out[c * width] = x[c];
}

/* Row 0 of a tile of one row into row `lane` of another, n_cols values. */
static inline void qrl_tile_copy(const unsigned char *from, size_t n_cols, bool quantized, unsigned char *tile,
                                 size_t width, size_t lane) {
    if (!quantized) {
        qrl_tile_put(NULL, (const float *)(const void *)from, 0, n_cols, false, tile, width, lane);
        return;
    }
    for (size_t u = 0; u < n_cols / QRL_UNIT; u++, from += QRL_QACT_BYTES(1), tile += QRL_QACT_BYTES(width)) {
        memcpy(tile + lane * QRL_UNIT, from, QRL_UNIT);
        memcpy(QRL_QACT_D(tile, width) + 4 * lane, QRL_QACT_D(from, 1), 4);
        for (size_t i = 0; i < 3; i++) {
            memcpy(QRL_QACT_S(tile, width, i) + 4 * lane, QRL_QACT_S(from, 1, i), 4);
            memcpy(QRL_QACT_N(tile, width, i) + 4 * lane, QRL_QACT_N(from, 1, i), 4);
        }
    }
}

/* Two groups of weights, g and g + 1, against n_rows <= QRL_MOST_ROWS rows in tiles:
 * out[row * ld + i], i < QRL_PANEL_ROWS. What lies beyond the matrix is undefined. */
void qrl_tile_pair(const qrl_backend *b, int thread, const qrl_weight *w, size_t g, const void *tiles, size_t n_rows,
                   float *out, size_t ld);

#endif
