/* A small matrix of its own for each head (latent attention: into the latent and out of it). A task is
 * a head and a block of rows, whose tiles live in the thread's scratch. */
#include "cpu/moe_int.h"
#include "cpu/tiles.h"

struct each_job {
    qrl_backend *b;
    const qrl_linear_each_op *op;
};

static void each_task(void *context, size_t task, int thread) {
    const struct each_job *j = context;
    const qrl_linear_each_op *op = j->op;
    const qrl_kernels *k = j->b->kernels;
    const size_t head = task % op->n, from = task / op->n * QRL_ROW_BLOCK;
    const size_t n = op->n_rows - from < QRL_ROW_BLOCK ? op->n_rows - from : QRL_ROW_BLOCK;
    const qrl_weight *w = op->weight[head];
    const size_t n_cols = w->m.n_cols;
    const bool quantized = qrl_weight_quantized(w);
    const size_t row_bytes = qrl_tile_row_bytes(n_cols, quantized);
    unsigned char *tiles = (unsigned char *)qrl_moe_thread_scratch(j->b->moe, thread);
    for (size_t r = 0; r < n; r++) {
        size_t first, width;
        qrl_tile_of(k, r, n, &first, &width);
        qrl_tile_put(k, op->x + (from + r) * op->x_row + head * op->x_step, 0, n_cols, quantized,
                     tiles + first * row_bytes, width, r - first);
    }
    qrl_product_scratch *scratch = &j->b->product[thread];
    for (size_t g = 0; g < w->n_groups; g += 2) {
        const size_t left = w->m.n_rows - g * QRL_GROUP, cols = left < QRL_PANEL_ROWS ? left : QRL_PANEL_ROWS;
        qrl_tile_pair(j->b, thread, w, g, tiles, n, scratch->out[0][0], QRL_PANEL_ROWS);
        for (size_t r = 0; r < n; r++)
            memcpy(op->out + (from + r) * op->out_row + head * op->out_step + g * QRL_GROUP, scratch->out[0][r],
                   cols * sizeof(float));
    }
}

void qrl_cpu_linear_each(qrl_backend *b, const qrl_linear_each_op *op) {
    struct each_job j = {b, op};
    qrl_pool_run(b->pool, (op->n_rows + QRL_ROW_BLOCK - 1) / QRL_ROW_BLOCK * op->n, each_task, &j);
}
