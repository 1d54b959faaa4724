/* A piece of a weight against tiles of activation rows. The widest meet a panel of unpacked weights, the
 * smaller ones the packed rows; the scalar set has rows as the file has them. Each output element is one
 * sum along k in the order of docs/numerics.md, whichever of them computes it. */
#include "cpu/tiles.h"

/* The scalar set: tiles of one row. */
static void reference(const qrl_weight *w, size_t g, const unsigned char *tiles, size_t n_rows, float *out, size_t ld) {
    const qrl_matrix *m = &w->m;
    const size_t row_bytes = qrl_row_bytes(m->type, m->n_cols), first = g * QRL_GROUP;
    const size_t tile_bytes = qrl_tile_row_bytes(m->n_cols, qrl_weight_quantized(w));
    for (size_t i = 0; i < QRL_PANEL_ROWS && first + i < m->n_rows; i++)
        for (size_t r = 0; r < n_rows; r++)
            out[r * ld + i] =
                qrl_dot_reference(m->type, m->data + (first + i) * row_bytes, m->n_cols, tiles + r * tile_bytes);
}

void qrl_tile_pair(const qrl_backend *b, int thread, const qrl_weight *w, size_t g, const void *tiles, size_t n_rows,
                   float *out, size_t ld) {
    const qrl_kernels *k = b->kernels;
    qrl_panel *panel = &b->product[thread].panel;
    if (!k->gemm) {
        reference(w, g, tiles, n_rows, out, ld);
        return;
    }
    const bool quantized = qrl_weight_quantized(w);
    const size_t n = quantized ? w->m.n_cols / QRL_UNIT : w->m.n_cols;
    const size_t step = quantized ? QRL_PANEL_UNITS : QRL_PANEL_VALUES;
    const size_t width = (size_t)1 << k->tile_log2, full = n_rows / width * width;
    const size_t row_bytes = qrl_tile_row_bytes(w->m.n_cols, quantized);
    const size_t unit_bytes = quantized ? QRL_QACT_BYTES(width) : width * sizeof(float);
    const size_t n_groups = w->n_groups - g < 2 ? 1 : 2;
    const unsigned char *tile = tiles, *group = w->packed + g * w->group_bytes;
    const qrl_gemm *gemm = &k->gemm[w->m.type];
    if (full && gemm->begin)
        gemm->begin();
    for (size_t first = 0; full && first < n; first += step) {
        const size_t count = n - first < step ? n - first : step;
        for (size_t half = 0; half < n_groups; half++)
            gemm->unpack(group + half * w->group_bytes, first, count, half, panel);
        const unsigned char *at = tile + first * unit_bytes;
        for (size_t r = 0; r < full; r += width) {
            const size_t go_on = r + width < full ? (r + width) * row_bytes : count * unit_bytes;
            gemm->product(panel, count, at + r * row_bytes, at + go_on, out + r * ld, ld, first == 0);
        }
    }
    if (full && gemm->end)
        gemm->end();
    const qrl_groups groups = {group, w->group_bytes, n_groups, n, b->ahead};
    for (size_t r = full; r < n_rows;) {
        const size_t log2_width = qrl_tile_log2(k, n_rows - r);
        gemm->rows[log2_width](&groups, tile + r * row_bytes, out + r * ld, ld);
        r += (size_t)1 << log2_width;
    }
}
