/* out = W x: activations are put into tiles once, then groups of weight rows are given out to the
 * threads. A thread keeps a piece of weights in its second-level cache and runs blocks of activation
 * rows past it. Which thread computes what, and in which tile, changes no bit: each output element
 * is one kernel lane's sum along k.
 *
 * A feed-forward block is two of them: what gate and up give is activated in the cache and put into the tiles of the
 * down product, which then begins with tiles that are ready.
 *
 * A fine product (backend.h) has two tile rows for each row of activations, side by side: its 8-bit
 * values, and those of what they leave out. Their two sums are added. */
#include "cpu/cpu_int.h"
#include "cpu/tiles.h"

struct linear_job {
    qrl_backend *b;
    const qrl_linear_op *op;
    const qrl_ffn_op *ffn;         /* the results are the input of its down product; else NULL */
    bool wanted[2];                /* tiles of floats, quantized tiles */
    const unsigned char *tiles[2]; /* where they are */
    size_t n_cols;
    int n_parts;          /* weights that have tasks of their own: of ffn's one, for both */
    size_t groups[3];     /* a piece of each, in groups of 16 rows: an even number */
    size_t first_task[4]; /* where its pieces begin */
};

/* Tile rows of a row of activations, for a weight's kind of tile. */
static size_t terms(const qrl_linear_op *op, bool quantized) {
    return op->fine && quantized ? 2 : 1;
}

/* One row into a tile row and the next one, which is the next tile where tiles are one row wide. */
static void put_fine(const qrl_kernels *k, const float *x, size_t n_cols, unsigned char *tile, size_t width,
                     size_t lane) {
    unsigned char *next = width > 1 ? tile : tile + qrl_tile_row_bytes(n_cols, true);
    const size_t next_lane = width > 1 ? lane + 1 : 0, step = QRL_QACT_BYTES(width);
    for (size_t u = 0; u < n_cols / QRL_UNIT; u++, x += QRL_UNIT, tile += step, next += step) {
        k->quantize(x, 1, tile, width, lane);
        const int8_t *q = (const int8_t *)tile + QRL_UNIT * lane;
        float d, rest[QRL_UNIT];
        memcpy(&d, QRL_QACT_D(tile, width) + 4 * lane, sizeof d);
        for (size_t i = 0; i < QRL_UNIT; i++)
            rest[i] = x[i] - d * (float)q[i];
        k->quantize(rest, 1, next, width, next_lane);
    }
}

static void put_rows(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct linear_job *j = context;
    const qrl_backend *b = j->b;
    const qrl_kernels *k = b->kernels;
    const size_t n = j->n_cols, ld = j->op->ld_x ? j->op->ld_x : n, each = terms(j->op, true);
    for (size_t r = from; r < to; r++) {
        const float *x = j->op->x + r * ld;
        size_t first, width;
        if (j->wanted[true]) {
            qrl_tile_of(k, each * r, each * j->op->n_rows, &first, &width);
            unsigned char *tile = b->qacts + first * qrl_tile_row_bytes(n, true);
            if (each == 1)
                qrl_tile_put(k, x, 0, n, true, tile, width, r - first);
            else
                put_fine(k, x, n, tile, width, 2 * r - first);
        }
        if (j->wanted[false]) {
            qrl_tile_of(k, r, j->op->n_rows, &first, &width);
            qrl_tile_put(k, x, 0, n, false, (unsigned char *)(b->facts + first * n), width, r - first);
        }
    }
}

/* Groups g and g + 1 of a weight against rows of activations: y[n_rows][QRL_PANEL_ROWS], with their bias.
 * Columns beyond the matrix are undefined. */
static void compute(const struct linear_job *j, int thread, int i, size_t g, size_t row, size_t n_rows, float *y) {
    const qrl_weight *w = j->op->weight[i];
    const bool quantized = qrl_weight_quantized(w);
    const size_t each = terms(j->op, quantized), left = w->m.n_rows - g * QRL_GROUP;
    const size_t cols = left < QRL_PANEL_ROWS ? left : QRL_PANEL_ROWS;
    const unsigned char *tiles = j->tiles[quantized] + each * row * qrl_tile_row_bytes(j->n_cols, quantized);
    qrl_tile_pair(j->b, thread, w, g, tiles, each * n_rows, y, QRL_PANEL_ROWS);
    for (size_t t = 0; each == 2 && t < n_rows; t++)
        for (size_t c = 0; c < QRL_PANEL_ROWS; c++)
            y[t * QRL_PANEL_ROWS + c] = y[2 * t * QRL_PANEL_ROWS + c] + y[(2 * t + 1) * QRL_PANEL_ROWS + c];
    const float *bias = j->op->bias[i] ? j->op->bias[i] + g * QRL_GROUP : NULL;
    for (size_t t = 0; bias && t < n_rows; t++)
        for (size_t c = 0; c < cols; c++)
            y[t * QRL_PANEL_ROWS + c] += bias[c];
}

/* What lies in y [n_rows][QRL_PANEL_ROWS] of groups g and g + 1, to the output's rows from `row` on; columns
 * beyond the matrix are dropped. */
static void put_out(const qrl_linear_op *op, int i, size_t g, size_t row, size_t n_rows, const float *y) {
    const size_t n = op->weight[i]->m.n_rows, ld = op->ld_out[i] ? op->ld_out[i] : n, col = g * QRL_GROUP;
    const size_t cols = n - col < QRL_PANEL_ROWS ? n - col : QRL_PANEL_ROWS;
    float *out = op->out[i] + row * ld + col;
    for (size_t t = 0; t < n_rows; t++, y += QRL_PANEL_ROWS, out += ld)
        if (cols == QRL_PANEL_ROWS)
            memcpy(out, y, QRL_PANEL_ROWS * sizeof *out); /* a length that the compiler knows */
        else
            memcpy(out, y, cols * sizeof *out);
}

/* What lies in y, to the tiles of ffn's down product: 32 columns are a unit there. */
static void put_mid(const struct linear_job *j, size_t g, size_t row, size_t n_rows, const float *y) {
    const qrl_kernels *k = j->b->kernels;
    const size_t n_ff = j->op->weight[0]->m.n_rows, col = g * QRL_GROUP;
    const size_t cols = n_ff - col < QRL_PANEL_ROWS ? n_ff - col : QRL_PANEL_ROWS;
    const bool quantized = qrl_weight_quantized(j->ffn->down);
    for (size_t t = 0, n; t < n_rows; t += n, y += n * QRL_PANEL_ROWS) {
        size_t first, width;
        qrl_tile_of(k, row + t, j->op->n_rows, &first, &width);
        unsigned char *tile = (unsigned char *)j->ffn->mid + first * qrl_tile_row_bytes(n_ff, quantized);
        if (quantized) /* blocks of rows are whole tiles */
            k->quantize_unit(y, tile + col / QRL_UNIT * QRL_QACT_BYTES(width), width);
        else
            qrl_tile_put(k, y, col, cols, false, tile, width, row + t - first);
        n = quantized ? width : 1;
    }
}

static void linear_task(void *context, size_t task, int thread) {
    const struct linear_job *j = context;
    const qrl_linear_op *op = j->op;
    float(*y)[QRL_MOST_ROWS][QRL_PANEL_ROWS] = j->b->product[thread].out;
    int i = 0;
    while (task >= j->first_task[i + 1])
        i++;
    const qrl_weight *w = op->weight[i];
    const size_t from = (task - j->first_task[i]) * j->groups[i];
    const size_t to = from + j->groups[i] < w->n_groups ? from + j->groups[i] : w->n_groups;
    const size_t block = op->fine ? j->b->row_block / 2 : j->b->row_block;
    for (size_t row = 0; row < op->n_rows; row += block) {
        const size_t n = op->n_rows - row < block ? op->n_rows - row : block;
        for (size_t g = from; g < to; g += 2) {
            compute(j, thread, i, g, row, n, y[0][0]);
            if (!j->ffn) {
                put_out(op, i, g, row, n, y[0][0]);
                continue;
            }
            if (op->n == 2)
                compute(j, thread, 1, g, row, n, y[1][0]);
            qrl_cpu_activate(j->b->kernels, j->ffn->act, op->n == 2 ? y[0][0] : NULL, y[op->n - 1][0], y[0][0],
                             n * QRL_PANEL_ROWS);
            put_mid(j, g, row, n, y[0][0]);
        }
    }
}

/* Cuts the weights into pieces. */
static void cut(struct linear_job *j) {
    const qrl_linear_op *op = j->op;
    size_t total = 0, bytes[3] = {0};
    j->n_parts = j->ffn ? 1 : op->n;
    for (int i = 0; i < op->n; i++) {
        const qrl_weight *w = op->weight[i];
        const size_t group = w->packed ? w->group_bytes : QRL_GROUP * qrl_row_bytes(w->m.type, w->m.n_cols);
        j->wanted[qrl_weight_quantized(w)] = true;
        bytes[j->ffn ? 0 : i] += group;
        total += w->n_groups * group;
    }
    /* small matrices: at least some eight pieces a thread, so that both end together */
    const size_t even = total / (8 * (size_t)qrl_pool_threads(j->b->pool)) + 1;
    const size_t piece = even < j->b->piece_bytes ? even : j->b->piece_bytes;
    for (int i = 0; i < 3; i++) {
        j->first_task[i + 1] = j->first_task[i];
        if (i >= j->n_parts)
            continue;
        j->groups[i] = piece / bytes[i] > 2 ? piece / bytes[i] / 2 * 2 : 2;
        j->first_task[i + 1] += (op->weight[i]->n_groups + j->groups[i] - 1) / j->groups[i];
    }
}

/* rows: the input is still to be put into tiles. */
static void run(struct linear_job *j, bool rows) {
    j->n_cols = j->op->weight[0]->m.n_cols;
    cut(j);
    if (rows) {
        j->tiles[true] = j->b->qacts;
        j->tiles[false] = (const unsigned char *)j->b->facts;
        qrl_cpu_range(j->b, j->op->n_rows, 4096 / j->n_cols + 1, put_rows, j);
    }
    qrl_pool_run(j->b->pool, j->first_task[j->n_parts], linear_task, j);
}

void qrl_cpu_linear(qrl_backend *b, const qrl_linear_op *op) {
    run(&(struct linear_job){.b = b, .op = op}, true);
}

void qrl_cpu_ffn(qrl_backend *b, const qrl_ffn_op *op) {
    const bool gated = op->gate != NULL;
    const qrl_linear_op in = {.n = gated ? 2 : 1,
                              .weight = {gated ? op->gate : op->up, op->up},
                              .bias = {gated ? op->gate_b : op->up_b, op->up_b},
                              .x = op->x,
                              .n_rows = op->n_rows};
    run(&(struct linear_job){.b = b, .op = &in, .ffn = op}, true);
    const qrl_linear_op down = {
        .n = 1, .weight = {op->down}, .bias = {op->down_b}, .out = {op->out}, .n_rows = op->n_rows};
    const unsigned char *mid = (const unsigned char *)op->mid;
    run(&(struct linear_job){.b = b, .op = &down, .tiles = {mid, mid}}, false);
}
