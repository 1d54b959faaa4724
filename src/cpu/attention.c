/* Attention over pages of keys and values. One task is a KV head and a few
 * query rows: the query heads that share the KV head, for one or more tokens. Page after page in
 * ascending order, so a row's result does not depend on how rows were put together. */
#include "cpu/kv_pages.h"

#include <math.h>
#include <string.h>

/* Tasks of a span: query rows are (token, head of the group), tokens outermost; QRL_ATTN_ROWS at a time. */
struct attention_job {
    qrl_backend *b;
    const qrl_attention_op *op;
    const qrl_span *span; /* of a task */
    size_t group;         /* query heads a KV head */
    size_t n_slots;       /* of tiles of all spans, see first_slot */
};

/* All spans are one loop, so that a batch of many short ones is not many loops. Tiles have numbers: those of a span
 * begin here. Behind its last one a number may stay unused, which saves a table of sums: spans are in the
 * order of their rows, so the numbers of two never meet. */
static size_t first_slot(const struct attention_job *j, size_t span) {
    return (size_t)(j->op->spans[span].row - j->op->spans[0].row) * j->group / QRL_ATTN_ROWS + span;
}

/* The span whose numbers hold the slot. */
static size_t find_span(const struct attention_job *j, size_t slot) {
    size_t low = 0, high = j->op->n_spans;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (first_slot(j, middle) <= slot)
            low = middle;
        else
            high = middle;
    }
    return low;
}

struct tile_state {
    qrl_attend a;
    float max[QRL_ATTN_ROWS], sum[QRL_ATTN_ROWS];
    size_t from[QRL_ATTN_ROWS], to[QRL_ATTN_ROWS]; /* positions that a row sees */
};

/* One page for the rows of a tile. */
static void attend_page(const qrl_kernels *k, const struct tile_state *t, size_t first_pos) {
    qrl_attend a = t->a;
    for (size_t r = 0; r < a.n_rows; r++) {
        const size_t from = t->from[r] > first_pos ? t->from[r] - first_pos : 0;
        const size_t left = t->to[r] > first_pos ? t->to[r] - first_pos : 0, to = left < QRL_PAGE ? left : QRL_PAGE;
        a.first[r] = from < to ? (uint8_t)from : 0;
        a.end[r] = from < to ? (uint8_t)to : 0;
        a.at[r] -= (int32_t)first_pos;
    }
    k->attend(&a);
}

/* The positions that a row sees. */
static void set_view(const qrl_attention_op *op, const qrl_span *span, size_t token, size_t *from, size_t *to) {
    const size_t pos = span->pos + token;
    *from = 0;
    *to = op->bidirectional ? (size_t)span->pos + span->n_rows : pos + 1;
    if (op->window && op->chunked)
        *from = pos / op->window * op->window;
    else if (op->window)
        *from = pos + 1 > op->window ? pos + 1 - op->window : 0;
}

/* A query into column r of q [k_dim][QRL_ATTN_ROWS]; turned, in scratch [k_dim], where its keys are. */
static void put_query(const qrl_kv_layer *kv, const float *x, size_t r, float *q, float *scratch) {
    if (qrl_kv_rotates(kv->type_k)) {
        memcpy(scratch, x, kv->k_dim * sizeof *x);
        qrl_kv_rotate(scratch, kv->k_dim);
        x = scratch;
    }
    for (size_t d = 0; d < kv->k_dim; d++)
        q[d * QRL_ATTN_ROWS + r] = x[d];
}

/* The keys and values of a page, and of the next one that the rows see; its task has no other. */
static void point_to_page(const struct attention_job *j, qrl_attend *a, size_t pos, size_t last, size_t head) {
    const qrl_kv_layer *kv = &j->op->kv;
    const size_t k_bytes = qrl_kv_part_bytes(kv->type_k, kv->k_dim);
    const unsigned char *page = qrl_kv_page(kv, j->span, pos, head);
    const unsigned char *next = pos + QRL_PAGE < last ? qrl_kv_page(kv, j->span, pos + QRL_PAGE, head) : NULL;
    a->k = page;
    a->v = page + k_bytes;
    a->next_k = next;
    a->next_v = next ? next + k_bytes : NULL;
}

static void attention_task(void *context, size_t task, int thread) {
    struct attention_job job = *(const struct attention_job *)context, *const j = &job;
    const qrl_attention_op *op = j->op;
    const qrl_kv_layer *kv = &op->kv;
    /* the last tiles see the most positions: begin with them, so that none is left over at the end */
    const size_t head = task % kv->n_head_kv, slot = j->n_slots - 1 - task / kv->n_head_kv;
    const size_t span = find_span(j, slot), tile = slot - first_slot(j, span);
    j->span = &op->spans[span];
    const size_t n_rows = j->span->n_rows * j->group;
    if (tile * QRL_ATTN_ROWS >= n_rows)
        return;
    const size_t from = tile * QRL_ATTN_ROWS, to = from + QRL_ATTN_ROWS < n_rows ? from + QRL_ATTN_ROWS : n_rows;
    float *acc = qrl_cpu_attend_scratch(j->b, thread);
    float *q = acc + QRL_ATTN_ROWS * j->b->reserved.max_head_dim;
    float *floats = q + QRL_ATTN_ROWS * j->b->reserved.max_head_dim;
    struct tile_state t = {.a = {.n_rows = to - from,
                                 .q = q,
                                 .acc = acc,
                                 .max = t.max,
                                 .sum = t.sum,
                                 .type_k = kv->type_k,
                                 .type_v = kv->type_v,
                                 .floats = floats,
                                 .k_dim = kv->k_dim,
                                 .v_dim = kv->v_dim,
                                 .scale = op->scale,
                                 .softcap = op->softcap,
                                 .sloped = op->slopes != NULL}};
    size_t first = SIZE_MAX, last = 0;
    for (size_t i = from; i < to; i++) {
        const size_t r = i - from, token = i / j->group, q_head = head * j->group + i % j->group;
        put_query(kv, op->q + ((j->span->row + token) * op->n_head + q_head) * kv->k_dim, r, q, floats);
        t.a.at[r] = (int32_t)(j->span->pos + token);
        t.a.slope[r] = op->slopes ? op->slopes[q_head] : 0.0f;
        /* a sink is a score seen already, whose value is zero */
        t.max[r] = op->sinks ? op->sinks[q_head] : -INFINITY;
        t.sum[r] = op->sinks ? 1.0f : 0.0f;
        set_view(op, j->span, token, &t.from[r], &t.to[r]);
        first = t.from[r] < first ? t.from[r] : first;
        last = t.to[r] > last ? t.to[r] : last;
    }
    memset(acc, 0, (to - from) * kv->v_dim * sizeof *acc);
    for (size_t pos = first / QRL_PAGE * QRL_PAGE; pos < last; pos += QRL_PAGE) {
        point_to_page(j, &t.a, pos, last, head);
        attend_page(j->b->kernels, &t, pos);
    }
    for (size_t i = from; i < to; i++) {
        const size_t r = i - from, token = i / j->group, q_head = head * j->group + i % j->group;
        float *out = op->out + ((j->span->row + token) * op->n_head + q_head) * kv->v_dim;
        if (qrl_kv_rotates(kv->type_v))
            qrl_kv_rotate(acc + r * kv->v_dim, kv->v_dim);
        const float inv = 1.0f / t.sum[r];
        for (size_t d = 0; d < kv->v_dim; d++)
            out[d] = acc[r * kv->v_dim + d] * inv;
    }
}

void qrl_cpu_attention(qrl_backend *b, const qrl_attention_op *op) {
    struct attention_job j = {.b = b, .op = op, .group = op->n_head / op->kv.n_head_kv};
    if (op->n_spans == 0)
        return;
    const size_t last = op->n_spans - 1;
    j.n_slots = first_slot(&j, last) + (op->spans[last].n_rows * j.group + QRL_ATTN_ROWS - 1) / QRL_ATTN_ROWS;
    qrl_pool_run(b->pool, j.n_slots * op->kv.n_head_kv, attention_task, &j);
}
