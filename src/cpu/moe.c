/* Mixtures of experts: the router's choice, and the experts themselves.
 *
 * Pairs of a row and a rank are sorted by expert into slots; the rows of an expert make tiles. Two loops
 * over (expert, piece of its columns) do the work: gate and up with the activation, whose result goes
 * into tiles for the second, down. The results of all pairs are kept, and a row's are added in the order
 * of its ranks, so neither grouping nor threads nor other rows can change a bit. */
#include "cpu/moe_int.h"
#include "cpu/tiles.h"

#include <math.h>
#include <stdlib.h>

enum {
    PIECE_GROUPS = 8, /* 128 columns: with 64 rows of gate and up, 64 KiB of scratch a thread */
    GRAIN = 16384,    /* values a small task should have */
};

/* ---- scratch ---- */

static void free_scratch(qrl_moe_scratch *s) {
    if (!s)
        return;
    free(s->first);
    free(s->active);
    free(s->pair_of);
    free(s->slot_of);
    qrl_free_aligned(s->qwide);
    qrl_free_aligned(s->wide);
    qrl_free_aligned(s->mid);
    qrl_free_aligned(s->thread);
    free(s);
}

void qrl_cpu_moe_release(qrl_backend *b) {
    free_scratch(b->moe);
    b->moe = NULL;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

size_t qrl_cpu_moe_bytes(const qrl_backend *b) {
    return b->moe ? b->moe->bytes : 0;
}

static qrl_status take(qrl_moe_scratch *s, void **out, size_t rows, size_t cols, size_t size, qrl_error *err) {
    size_t bytes;
    if (!qrl_size_mul(rows, cols, &bytes) || !qrl_size_mul(bytes, size, &bytes))
        return qrl_fail(err, QRL_ERR_LIMIT,
                        "a step of %zu rows of %zu values for experts is too large; use a smaller "
                        "chunk",
                        rows, cols);
    s->bytes += bytes;
    *out = qrl_alloc_aligned(larger(bytes, 1));
    return *out ? QRL_OK : qrl_fail_memory(err, "scratch of the experts", bytes);
}

static qrl_status fill_scratch(qrl_moe_scratch *s, const qrl_reserve *r, size_t threads, qrl_error *err) {
    size_t pairs;
    if (!qrl_size_mul(r->max_rows, r->max_experts_used, &pairs) || pairs > UINT32_MAX)
        return qrl_fail(err, QRL_ERR_LIMIT, "a step of %zu rows for experts is too large; use a smaller chunk",
                        r->max_rows);
    const size_t cols = qrl_align_up(r->max_expert_cols, QRL_UNIT), ff = qrl_align_up(r->max_expert_ff, QRL_UNIT);
    QRL_TRY(qrl_new_array(&s->first, r->max_experts + 1, "experts", err));
    QRL_TRY(qrl_new_array(&s->active, r->max_experts, "experts", err));
    QRL_TRY(qrl_new_array(&s->pair_of, pairs, "experts' rows", err));
    QRL_TRY(qrl_new_array(&s->slot_of, pairs, "experts' rows", err));
    s->bytes = 2 * pairs * sizeof *s->pair_of;
    void *p;
    QRL_TRY(take(s, &p, pairs, cols, QRL_QACT_BYTES(1) / QRL_UNIT, err));
    s->qwide = p;
    QRL_TRY(take(s, &p, pairs, cols, sizeof(float), err));
    s->wide = p;
    QRL_TRY(take(s, &p, pairs, ff, sizeof(float), err));
    s->mid = p;
    size_t per_thread = 2 * QRL_ROW_BLOCK * PIECE_GROUPS * QRL_GROUP;
    per_thread = larger(per_thread, cols);
    per_thread = larger(per_thread, 4 * r->max_experts);
    per_thread = larger(per_thread, QRL_ROW_BLOCK * qrl_align_up(r->max_each_cols, QRL_UNIT));
    s->per_thread = qrl_align_up(per_thread, 16);
    QRL_TRY(take(s, &p, threads, s->per_thread, sizeof(float), err));
    s->thread = p;
    return QRL_OK;
}

qrl_status qrl_cpu_moe_reserve(qrl_backend *b, const qrl_reserve *r, qrl_error *err) {
    if (!r->max_experts && !r->max_each_cols)
        return QRL_OK;
    qrl_moe_scratch *s;
    QRL_TRY(qrl_new_array(&s, 1, "scratch of the experts", err));
    s->size = *r;
    const qrl_status status = fill_scratch(s, r, (size_t)qrl_pool_threads(b->pool), err);
    if (status != QRL_OK) {
        free_scratch(s);
        return status;
    }
    free_scratch(b->moe);
    b->moe = s;
    return QRL_OK;
}

/* ---- the router ---- */

/* NaN before all numbers, so that a failure reaches the output. */
static bool better(float a, float b) {
    return a > b || (isnan(a) && !isnan(b));
}

/* The k best of n scores, best first, the lower index among equals. 1 <= k <= n. */
static void choose(const float *score, size_t n, uint32_t *best, size_t k) {
    size_t have = 0;
    for (size_t i = 0; i < n; i++) {
        if (have == k && !better(score[i], score[best[k - 1]]))
            continue;
        size_t at = have < k ? have++ : k - 1;
        for (; at > 0 && better(score[i], score[best[at - 1]]); at--)
            best[at] = best[at - 1];
        best[at] = (uint32_t)i;
    }
}

/* out[i] = e^(x[i] - max) / sum, the sum in ascending order. out may be x. */
static void softmax(const qrl_kernels *k, const float *x, float *out, size_t n) {
    float max = -INFINITY, sum = 0.0f;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] - max;
    k->exp(out, out, n);
    for (size_t i = 0; i < n; i++)
        sum += out[i];
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}

static void sigmoid(const qrl_kernels *k, const float *x, float *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = -x[i];
    k->exp(out, out, n);
    for (size_t i = 0; i < n; i++)
        out[i] = 1.0f / (1.0f + out[i]);
}

/* Takes the experts of the worse groups out of the choice (DeepSeek-V3, arXiv 2412.19437, section 2.1.2). */
static void keep_groups(const qrl_moe_route_op *op, float *score, float *of_group, uint32_t *kept) {
    const size_t each = op->n_expert / op->n_group;
    for (size_t g = 0; g < op->n_group; g++) {
        uint32_t best[2];
        choose(score + g * each, each, best, each < 2 ? 1 : 2);
        of_group[g] = score[g * each + best[0]];
        if (each >= 2)
            of_group[g] += score[g * each + best[1]];
    }
    choose(of_group, op->n_group, kept, op->n_group_used);
    for (size_t g = 0; g < op->n_group; g++) {
        bool keep = false;
        for (size_t i = 0; i < op->n_group_used; i++)
            keep = keep || kept[i] == g;
        for (size_t i = 0; !keep && i < each; i++)
            score[g * each + i] = -INFINITY;
    }
}

static void weigh(const qrl_moe_route_op *op, float *weight) {
    if (op->normalize) {
        float sum = 0.0f;
        for (size_t i = 0; i < op->n_used; i++)
            sum += weight[i];
        sum = sum < 0x1p-14f ? 0x1p-14f : sum; /* the least normal F16, as llama.cpp's build_moe_ffn has it */
        for (size_t i = 0; i < op->n_used; i++)
            weight[i] /= sum;
    }
    if (op->scale != 0.0f && op->scale != 1.0f)
        for (size_t i = 0; i < op->n_used; i++)
            weight[i] *= op->scale;
}

struct route_job {
    qrl_backend *b;
    const qrl_moe_route_op *op;
};

static void route_rows(void *context, size_t from, size_t to, int thread) {
    const struct route_job *j = context;
    const qrl_moe_route_op *op = j->op;
    const qrl_kernels *k = j->b->kernels;
    const size_t n = op->n_expert;
    float *prob = qrl_moe_thread_scratch(j->b->moe, thread), *score = prob + n, *of_group = score + n;
    uint32_t *kept = (uint32_t *)(void *)(of_group + n); /* [n_group_used] */
    for (size_t r = from; r < to; r++) {
        const float *logits = op->logits + r * n;
        uint32_t *expert = op->expert + r * op->n_used;
        float *weight = op->weight + r * op->n_used;
        const float *by = logits;
        if (op->kind == QRL_ROUTE_SOFTMAX)
            softmax(k, logits, prob, n);
        else if (op->kind == QRL_ROUTE_SIGMOID)
            sigmoid(k, logits, prob, n);
        else
            memcpy(prob, logits, n * sizeof *prob);
        if (op->bias || op->n_group > 1) {
            for (size_t i = 0; i < n; i++)
                score[i] = op->bias ? prob[i] + op->bias[i] : prob[i];
            by = score;
        }
        if (op->n_group > 1)
            keep_groups(op, score, of_group, kept);
        choose(by, n, expert, op->n_used);
        for (size_t i = 0; i < op->n_used; i++)
            weight[i] = prob[expert[i]];
        if (op->kind == QRL_ROUTE_SOFTMAX_CHOSEN)
            softmax(k, weight, weight, op->n_used);
        weigh(op, weight);
    }
}

void qrl_cpu_moe_route(qrl_backend *b, const qrl_moe_route_op *op) {
    qrl_cpu_range(b, op->n_rows, GRAIN / (4 * op->n_expert) + 1, route_rows, &(struct route_job){b, op});
    for (size_t i = 0; op->counts && i < op->n_rows * op->n_used; i++)
        op->counts[op->expert[i]]++;
}

/* ---- the experts ---- */

struct moe_job {
    qrl_backend *b;
    const qrl_moe_ffn_op *op;
    qrl_moe_scratch *s;
    size_t n_cols, n_ff, n_out;
    size_t out_ld; /* floats of a result: whole groups */
    bool in_quantized, in_float, mid_quantized;
    size_t piece, n_pieces; /* of a loop's columns: groups a task, tasks an expert */
};

/* Sorts the pairs by expert; within one, rows ascend. Returns the number of experts that have rows. */
static size_t group_pairs(const qrl_moe_ffn_op *op, qrl_moe_scratch *s) {
    const size_t n = op->n_rows * op->n_used;
    memset(s->first, 0, (op->n_expert + 1) * sizeof *s->first);
    for (size_t i = 0; i < n; i++)
        s->first[op->expert[i] + 1]++;
    for (size_t e = 0; e < op->n_expert; e++)
        s->first[e + 1] += s->first[e];
    uint32_t *next = s->active;
    memcpy(next, s->first, op->n_expert * sizeof *next);
    for (size_t i = 0; i < n; i++) {
        const uint32_t slot = next[op->expert[i]]++;
        s->slot_of[i] = slot;
        s->pair_of[slot] = (uint32_t)i;
    }
    size_t n_active = 0;
    for (size_t e = 0; e < op->n_expert; e++)
        if (s->first[e + 1] > s->first[e])
            s->active[n_active++] = (uint32_t)e;
    return n_active;
}

/* The tile of a slot: its first slot and its width. */
static void tile_of_slot(const struct moe_job *j, size_t e, size_t slot, size_t *first, size_t *width) {
    const size_t base = j->s->first[e];
    qrl_tile_of(j->b->kernels, slot - base, j->s->first[e + 1] - base, first, width);
    *first += base;
}

/* Rows of x into the tiles of their experts. A tile of one row needs no copy: it is the row itself
 * (floats) or its quantized form, made once. */
static void put_inputs(void *context, size_t from, size_t to, int thread) {
    const struct moe_job *j = context;
    const qrl_moe_ffn_op *op = j->op;
    const qrl_kernels *k = j->b->kernels;
    const size_t qbytes = qrl_tile_row_bytes(j->n_cols, true), fbytes = qrl_tile_row_bytes(j->n_cols, false);
    for (size_t r = from; r < to; r++) {
        const float *x = op->x + r * j->n_cols;
        unsigned char *qrow = j->b->qacts + r * qbytes;
        if (j->in_quantized && !op->weigh_input)
            k->quantize(x, j->n_cols / QRL_UNIT, qrow, 1, 0);
        for (size_t i = r * op->n_used; i < (r + 1) * op->n_used; i++) {
            const size_t slot = j->s->slot_of[i];
            size_t first, width;
            tile_of_slot(j, op->expert[i], slot, &first, &width);
            unsigned char *qtile = j->s->qwide + first * qbytes, *ftile = j->s->wide + first * fbytes;
            if (op->weigh_input) {
                float *weighed = qrl_moe_thread_scratch(j->s, thread);
                for (size_t c = 0; c < j->n_cols; c++)
                    weighed[c] = x[c] * op->weight[i];
                if (j->in_quantized)
                    qrl_tile_put(k, weighed, 0, j->n_cols, true, qtile, width, slot - first);
                if (j->in_float)
                    qrl_tile_put(k, weighed, 0, j->n_cols, false, ftile, width, slot - first);
            } else if (width > 1) {
                if (j->in_quantized)
                    qrl_tile_copy(qrow, j->n_cols, true, qtile, width, slot - first);
                if (j->in_float)
                    qrl_tile_put(k, x, 0, j->n_cols, false, ftile, width, slot - first);
            }
        }
    }
}

static const void *input_tile(const struct moe_job *j, size_t slot, size_t width, bool quantized) {
    const size_t bytes = qrl_tile_row_bytes(j->n_cols, quantized);
    if (width > 1 || j->op->weigh_input)
        return (quantized ? j->s->qwide : j->s->wide) + slot * bytes;
    const size_t row = j->s->pair_of[slot] / j->op->n_used;
    return quantized ? (const void *)(j->b->qacts + row * bytes) : j->op->x + row * j->n_cols;
}

/* Groups [from, to) of w for slots [slot, end) of an expert: out[slot - first][ld]. */
static void input_columns(const struct moe_job *j, int thread, const qrl_weight *w, size_t from, size_t to, size_t slot,
                          size_t end, float *out, size_t ld) {
    const bool quantized = qrl_weight_quantized(w);
    for (size_t g = from; g < to; g += 2)
        for (size_t s = slot, n; s < end; s += n) {
            const size_t width = (size_t)1 << qrl_tile_log2(j->b->kernels, end - s);
            n = width > 1 ? (end - s) / 2 * 2 : 1; /* all wide tiles, which lie together */
            qrl_tile_pair(j->b, thread, w, g, input_tile(j, s, width, quantized), n,
                          out + (s - slot) * ld + (g - from) * QRL_GROUP, ld);
        }
}

/* x += bias, if there is one */
static void add_bias(float *x, const float *bias, size_t n) {
    for (size_t i = 0; bias && i < n; i++)
        x[i] += bias[i];
}

/* Gate and up for a piece of an expert's columns, activated, into the tiles of the down product. */
static void gate_up_task(void *context, size_t task, int thread) {
    const struct moe_job *j = context;
    const qrl_moe_ffn_op *op = j->op;
    const qrl_kernels *k = j->b->kernels;
    enum { LD = PIECE_GROUPS * QRL_GROUP };
    const size_t e = j->s->active[task / j->n_pieces], from = task % j->n_pieces * j->piece;
    const size_t n_groups = op->up[e]->n_groups, to = from + j->piece < n_groups ? from + j->piece : n_groups;
    const size_t col = from * QRL_GROUP, cols = (to * QRL_GROUP < j->n_ff ? to * QRL_GROUP : j->n_ff) - col;
    const float *gate_bias = op->gate_bias ? op->gate_bias + e * j->n_ff + col : NULL;
    const float *up_bias = op->up_bias ? op->up_bias + e * j->n_ff + col : NULL;
    const size_t mid_bytes = qrl_tile_row_bytes(j->n_ff, j->mid_quantized), last = j->s->first[e + 1];
    float *gate = qrl_moe_thread_scratch(j->s, thread), *up = gate + QRL_ROW_BLOCK * LD;
    for (size_t slot = j->s->first[e]; slot < last; slot += QRL_ROW_BLOCK) {
        const size_t end = slot + QRL_ROW_BLOCK < last ? slot + QRL_ROW_BLOCK : last;
        if (op->gate)
            input_columns(j, thread, op->gate[e], from, to, slot, end, gate, LD);
        input_columns(j, thread, op->up[e], from, to, slot, end, up, LD);
        for (size_t s = slot; s < end; s++) {
            float *g = op->gate ? gate + (s - slot) * LD : NULL, *u = up + (s - slot) * LD;
            if (g)
                add_bias(g, gate_bias, cols);
            add_bias(u, up_bias, cols);
            qrl_cpu_activate(k, op->act, g, u, u, cols);
            size_t first, width;
            tile_of_slot(j, e, s, &first, &width);
            qrl_tile_put(k, u, col, cols, j->mid_quantized, j->s->mid + first * mid_bytes, width, s - first);
        }
    }
}

static void down_task(void *context, size_t task, int thread) {
    const struct moe_job *j = context;
    qrl_product_scratch *scratch = &j->b->product[thread];
    const size_t e = j->s->active[task / j->n_pieces], from = task % j->n_pieces * j->piece;
    const qrl_weight *w = j->op->down[e];
    const size_t to = from + j->piece < w->n_groups ? from + j->piece : w->n_groups;
    const size_t mid_bytes = qrl_tile_row_bytes(j->n_ff, j->mid_quantized), last = j->s->first[e + 1];
    float *out = (float *)(void *)j->s->wide;
    for (size_t slot = j->s->first[e]; slot < last; slot += QRL_ROW_BLOCK) {
        const size_t n = last - slot < QRL_ROW_BLOCK ? last - slot : QRL_ROW_BLOCK;
        for (size_t g = from; g < to; g += 2) {
            const size_t left = j->n_out - g * QRL_GROUP, cols = left < QRL_PANEL_ROWS ? left : QRL_PANEL_ROWS;
            qrl_tile_pair(j->b, thread, w, g, j->s->mid + slot * mid_bytes, n, scratch->out[0][0], QRL_PANEL_ROWS);
            for (size_t s = 0; s < n; s++)
                memcpy(out + (slot + s) * j->out_ld + g * QRL_GROUP, scratch->out[0][s], cols * sizeof *out);
        }
    }
}

/* The experts' results of each row, in the order of its ranks. */
static void combine_rows(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct moe_job *j = context;
    const qrl_moe_ffn_op *op = j->op;
    const float *results = (const float *)(const void *)j->s->wide;
    for (size_t r = from; r < to; r++) {
        float *out = op->out + r * j->n_out;
        for (size_t rank = 0; rank < op->n_used; rank++) {
            const size_t i = r * op->n_used + rank;
            const float *y = results + j->s->slot_of[i] * j->out_ld;
            const float *bias = op->down_bias ? op->down_bias + op->expert[i] * j->n_out : NULL;
            const float weight = op->weigh_input ? 1.0f : op->weight[i];
            for (size_t c = 0; c < j->n_out; c++) {
                const float v = (bias ? y[c] + bias[c] : y[c]) * weight;
                out[c] = rank ? out[c] + v : v;
            }
        }
    }
}

/* How many groups of columns a task takes: some eight tasks a thread, in pieces that fit the cache. An even
 * number: groups are computed in pairs, and units of 32 columns are quantized within a task. */
static void cut_pieces(struct moe_job *j, size_t n_active, size_t n_groups, size_t group_bytes) {
    const size_t total = n_active * n_groups * group_bytes;
    const size_t fair = total / (8 * (size_t)qrl_pool_threads(j->b->pool)) + 1;
    size_t piece = (fair < j->b->piece_bytes ? fair : j->b->piece_bytes) / larger(group_bytes, 1) / 2 * 2;
    piece = piece < PIECE_GROUPS ? piece : PIECE_GROUPS;
    j->piece = piece ? piece : 2;
    j->n_pieces = (n_groups + j->piece - 1) / j->piece;
}

void qrl_cpu_moe_ffn(qrl_backend *b, const qrl_moe_ffn_op *op) {
    const qrl_weight *up = op->up[0], *gate = op->gate ? op->gate[0] : NULL, *down = op->down[0];
    struct moe_job j = {.b = b, .op = op, .s = b->moe};
    j.n_cols = up->m.n_cols;
    j.n_ff = up->m.n_rows;
    j.n_out = down->m.n_rows;
    j.out_ld = qrl_align_up(j.n_out, QRL_GROUP);
    j.in_quantized = qrl_weight_quantized(up) || (gate && qrl_weight_quantized(gate));
    j.in_float = !qrl_weight_quantized(up) || (gate && !qrl_weight_quantized(gate));
    j.mid_quantized = qrl_weight_quantized(down);
    const size_t n_active = group_pairs(op, j.s);
    qrl_cpu_range(b, op->n_rows, GRAIN / (4 * j.n_cols) + 1, put_inputs, &j);
    cut_pieces(&j, n_active, up->n_groups, up->group_bytes + (gate ? gate->group_bytes : 0));
    qrl_pool_run(b->pool, n_active * j.n_pieces, gate_up_task, &j);
    cut_pieces(&j, n_active, down->n_groups, down->group_bytes);
    qrl_pool_run(b->pool, n_active * j.n_pieces, down_task, &j);
    qrl_cpu_range(b, op->n_rows, GRAIN / (op->n_used * j.n_out) + 1, combine_rows, &j);
}
