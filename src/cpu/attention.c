/* Attention over pages of keys and values. A tile is a KV head and a few query rows: the query heads that share
 * the KV head, for one or more tokens. It goes page after page in ascending order, segment after segment
 * (QRL_ATTN_SEGMENT positions), and a row's segments are merged in ascending order: so its result depends neither
 * on how rows were put together nor on who did which segment. Many tiles are a task each; of few, as in decoding,
 * segments are given out, and their sums stand in scratch until all of a round are there. */
#include "cpu/kv_pages.h"

#include <math.h>
#include <string.h>

/* Tasks of a span: query rows are (token, head of the group), tokens outermost; QRL_ATTN_ROWS at a time. */
struct attention_job {
    qrl_backend *b;
    const qrl_attention_op *op;
    size_t group;   /* query heads a KV head */
    size_t n_slots; /* of tiles of all spans, see first_slot */
    /* Every span is one row, and a tile all query rows of a KV head: the tile's tasks store the row's keys and
     * values themselves. In decoding they then stay in the caches of the core that goes on to read them. */
    bool stores;
    /* Of a round, where segments are given out: */
    size_t first, n_segments; /* segments [first, first + n_segments) */
    size_t each, n_parts;     /* segments a task, tasks a tile */
    size_t most_rows;         /* of a tile */
    size_t room;              /* sums of a tile that scratch holds: the total and a round's segments */
    bool ends;                /* there is no other round */
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

/* Sums of some query rows over some positions. */
struct sums {
    float *acc, *max, *sum; /* [rows][v_dim], [rows], [rows] */
};

struct tile {
    const qrl_span *span;
    size_t head, from, to; /* query rows of the span */
    qrl_attend a;
    size_t first[QRL_ATTN_ROWS], end[QRL_ATTN_ROWS]; /* positions that a row sees */
    size_t first_pos, last_pos;                      /* that any sees: [first_pos, last_pos) */
    size_t first_all, last_all;                      /* that all see */
};

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

/* The query rows of a tile by its number; false where the number is not used. */
static bool find_tile(const struct attention_job *j, size_t slot, size_t head, struct tile *t) {
    const size_t span = find_span(j, slot), tile = slot - first_slot(j, span);
    t->span = &j->op->spans[span];
    t->head = head;
    const size_t n_rows = t->span->n_rows * j->group;
    t->from = tile * QRL_ATTN_ROWS;
    t->to = t->from + QRL_ATTN_ROWS < n_rows ? t->from + QRL_ATTN_ROWS : n_rows;
    if (t->from >= n_rows)
        return false;
    t->first_pos = t->last_all = SIZE_MAX;
    t->last_pos = t->first_all = 0;
    for (size_t r = 0; r < t->to - t->from; r++) {
        set_view(j->op, t->span, (t->from + r) / j->group, &t->first[r], &t->end[r]);
        t->first_pos = t->first[r] < t->first_pos ? t->first[r] : t->first_pos;
        t->last_pos = t->end[r] > t->last_pos ? t->end[r] : t->last_pos;
        t->first_all = t->first[r] > t->first_all ? t->first[r] : t->first_all;
        t->last_all = t->end[r] < t->last_all ? t->end[r] : t->last_all;
    }
    return true;
}

static size_t query_head(const struct attention_job *j, const struct tile *t, size_t r) {
    return t->head * j->group + (t->from + r) % j->group;
}

/* Floats of `dim` a head in front of those of a tile's row. */
static size_t row_offset(const struct attention_job *j, const struct tile *t, size_t r, size_t dim) {
    return ((t->span->row + (t->from + r) / j->group) * j->op->n_head + query_head(j, t, r)) * dim;
}

/* A query into row r of a tile's queries; turned, in scratch [k_dim], where its keys are. */
static void put_query(const qrl_kernels *kernels, const qrl_attention_op *op, const qrl_attend *a, const float *x,
                      size_t r, const struct qrl_attend_scratch *scratch) {
    const size_t dim = op->kv.k_dim;
    if (qrl_kv_rotates(op->kv.type_k)) {
        memcpy(scratch->floats, x, dim * sizeof *x);
        kernels->rotate(scratch->floats, dim);
        x = scratch->floats;
    }
    if (op->kv.type_k == QRL_KV_Q8_0) {
        kernels->quantize_query(x, dim, op->scale, r, &a->q8);
        return;
    }
    for (size_t d = 0; d < dim; d++)
        scratch->q[d * QRL_ATTN_ROWS + r] = x[d];
}

/* Everything that the kernel wants but pages and sums. */
static void load_queries(const struct attention_job *j, struct tile *t, const struct qrl_attend_scratch *scratch) {
    const qrl_attention_op *op = j->op;
    const qrl_kv_layer *kv = &op->kv;
    t->a = (qrl_attend){.n_rows = t->to - t->from,
                        .q = scratch->q,
                        .q8 = qrl_cpu_query8(scratch, kv->k_dim),
                        .type_k = kv->type_k,
                        .type_v = kv->type_v,
                        .floats = scratch->floats,
                        .k_dim = kv->k_dim,
                        .v_dim = kv->v_dim,
                        .scale = op->scale,
                        .softcap = op->softcap,
                        .sloped = op->slopes != NULL};
    for (size_t r = 0; r < t->a.n_rows; r++) {
        put_query(j->b->kernels, op, &t->a, op->q + row_offset(j, t, r, kv->k_dim), r, scratch);
        t->a.slope[r] = op->slopes ? op->slopes[query_head(j, t, r)] : 0.0f;
    }
}

/* The keys and values of a page, and of the next ones that the rows see. Processors whose cores want the second-level
 * cache to begin early (qrl_ahead) ask for two. */
static void point_to_page(const struct attention_job *j, struct tile *t, size_t pos) {
    const qrl_kv_layer *kv = &j->op->kv;
    const size_t k_bytes = qrl_kv_key_bytes(kv->type_k, kv->k_dim);
    const unsigned char *page = qrl_kv_page(kv, t->span, pos, t->head), *next = NULL;
    if (pos + QRL_PAGE < t->last_pos)
        next = qrl_kv_page(kv, t->span, pos + QRL_PAGE, t->head);
    t->a.k = page;
    t->a.v = page + k_bytes;
    t->a.next_k = next;
    t->a.next_v = next ? next + k_bytes : NULL;
    t->a.far = 0;
    if (j->b->ahead.far && pos + 2 * QRL_PAGE < t->last_pos)
        t->a.far = qrl_kv_page(kv, t->span, pos + 2 * QRL_PAGE, t->head) - next;
}

/* One page for the rows of a tile. */
static void attend_page(const struct attention_job *j, struct tile *t, size_t pos) {
    qrl_attend *a = &t->a;
    a->whole = pos >= t->first_all && pos + QRL_PAGE <= t->last_all;
    if (a->whole) {
        memset(a->first, 0, a->n_rows);
        memset(a->end, QRL_PAGE, a->n_rows);
    }
    for (size_t r = 0; r < a->n_rows && !a->whole; r++) {
        const size_t from = t->first[r] > pos ? t->first[r] - pos : 0;
        const size_t left = t->end[r] > pos ? t->end[r] - pos : 0, to = left < QRL_PAGE ? left : QRL_PAGE;
        a->first[r] = from < to ? (uint8_t)from : 0;
        a->end[r] = from < to ? (uint8_t)to : 0;
    }
    for (size_t r = 0; r < a->n_rows && a->sloped; r++)
        a->at[r] = (int32_t)(t->span->pos + (t->from + r) / j->group) - (int32_t)pos;
    point_to_page(j, t, pos);
    j->b->kernels->attend(a);
}

/* The sums of a segment's pages. A row's first segment begins with its sink, a score whose value is zero. */
static void attend_segment(const struct attention_job *j, struct tile *t, size_t segment, const struct sums *s) {
    const qrl_attention_op *op = j->op;
    const size_t begin = segment * QRL_ATTN_SEGMENT, end = begin + QRL_ATTN_SEGMENT;
    for (size_t r = 0; r < t->a.n_rows; r++) {
        const bool sink = op->sinks && t->first[r] / QRL_ATTN_SEGMENT == segment;
        s->max[r] = sink ? op->sinks[query_head(j, t, r)] : -INFINITY;
        s->sum[r] = sink ? 1.0f : 0.0f;
    }
    memset(s->acc, 0, t->a.n_rows * op->kv.v_dim * sizeof *s->acc);
    t->a.acc = s->acc;
    t->a.max = s->max;
    t->a.sum = s->sum;
    const size_t first = t->first_pos > begin ? t->first_pos : begin, last = t->last_pos < end ? t->last_pos : end;
    for (size_t pos = first / QRL_PAGE * QRL_PAGE; pos < last; pos += QRL_PAGE)
        attend_page(j, t, pos);
}

/* Rows [from, to) of `part`, the sums of a segment, to those of all segments before. */
static void merge_rows(const struct attention_job *j, const struct tile *t, size_t segment, size_t from, size_t to,
                       const struct sums *total, const struct sums *part) {
    const size_t begin = segment * QRL_ATTN_SEGMENT, v_dim = j->op->kv.v_dim, n = to - from;
    const qrl_kernels *k = j->b->kernels;
    float scale[2 * QRL_ATTN_ROWS] = {0}, *keep = scale, *by = scale + n;
    bool all = true; /* are of this segment and of one before */
    for (size_t r = from; r < to; r++) {
        const bool begins = t->first[r] >= begin; /* nothing stands in the total yet */
        const float old = begins ? part->max[r] : total->max[r], max = part->max[r] > old ? part->max[r] : old;
        keep[r - from] = old - max;
        by[r - from] = part->max[r] - max;
        all = all && !begins && t->end[r] > begin;
    }
    k->exp(scale, scale, 2 * n);
    for (size_t r = from; r < to; r += all ? n : 1) {
        const size_t rows = all ? n : 1;
        float *acc = total->acc + r * v_dim;
        const float *add = part->acc + r * v_dim;
        if (t->end[r] <= begin || t->first[r] >= begin + QRL_ATTN_SEGMENT)
            continue;
        if (t->first[r] / QRL_ATTN_SEGMENT == segment) {
            memcpy(acc, add, v_dim * sizeof *acc);
            total->max[r] = part->max[r];
            total->sum[r] = part->sum[r];
            continue;
        }
        k->mix(acc, add, rows, v_dim, keep + (r - from), by + (r - from));
        k->mix(total->sum + r, part->sum + r, rows, 1, keep + (r - from), by + (r - from));
        for (size_t i = r; i < r + rows; i++)
            total->max[i] = part->max[i] > total->max[i] ? part->max[i] : total->max[i];
    }
}

/* A row's sums to what attention gives. */
static void finish_row(const struct attention_job *j, const struct tile *t, size_t r, const struct sums *total) {
    const qrl_kv_layer *kv = &j->op->kv;
    float *out = j->op->out + row_offset(j, t, r, kv->v_dim), *acc = total->acc + r * kv->v_dim;
    if (qrl_kv_rotates(kv->type_v))
        j->b->kernels->rotate(acc, kv->v_dim);
    const float inv = 1.0f / total->sum[r];
    for (size_t d = 0; d < kv->v_dim; d++)
        out[d] = acc[d] * inv;
}

/* The row's own keys and values, before its positions are looked at. */
static void store_own(const struct attention_job *j, const struct tile *t, const struct qrl_attend_scratch *scratch) {
    const qrl_attention_op *op = j->op;
    const qrl_kv_store_op store = {op->kv, op->k, op->v, op->spans, op->n_spans};
    if (j->stores)
        qrl_cpu_kv_store_head(j->b->kernels, &store, t->span, t->span->row, t->head, scratch->floats);
}

/* A whole tile. */
static void tile_task(void *context, size_t task, int thread) {
    const struct attention_job *j = context;
    const struct qrl_attend_scratch scratch = qrl_cpu_attend_scratch(j->b, thread);
    float max[2][QRL_ATTN_ROWS], sum[2][QRL_ATTN_ROWS];
    const struct sums total = {scratch.acc, max[0], sum[0]}, part = {scratch.part, max[1], sum[1]};
    struct tile t;
    /* Head after head, so that its pages stay in caches; the last tiles see the most positions: begin with them, so
     * that none is left over at the end. */
    if (!find_tile(j, j->n_slots - 1 - task % j->n_slots, task / j->n_slots, &t))
        return;
    store_own(j, &t, &scratch);
    load_queries(j, &t, &scratch);
    for (size_t s = t.first_pos / QRL_ATTN_SEGMENT; s * QRL_ATTN_SEGMENT < t.last_pos; s++) {
        attend_segment(j, &t, s, &part);
        merge_rows(j, &t, s, 0, t.a.n_rows, &total, &part);
    }
    for (size_t r = 0; r < t.a.n_rows; r++)
        finish_row(j, &t, r, &total);
}

/* Where a tile's sums stand: part 0 is the total, part 1 + i segment i of the round. */
static struct sums sums_at(const struct attention_job *j, size_t slot, size_t head, size_t part) {
    const size_t v_dim = j->op->kv.v_dim;
    const size_t i = (slot * j->op->kv.n_head_kv + head) * j->room + part;
    float *acc = qrl_cpu_attend_sums(j->b) + i * j->most_rows * (v_dim + 2);
    return (struct sums){acc, acc + j->most_rows * v_dim, acc + j->most_rows * (v_dim + 1)};
}

/* Some segments of a tile. */
static void segments_task(void *context, size_t task, int thread) {
    const struct attention_job *j = context;
    const size_t head = task % j->op->kv.n_head_kv, rest = task / j->op->kv.n_head_kv;
    const size_t slot = rest / j->n_parts, from = rest % j->n_parts * j->each;
    const size_t to = from + j->each < j->n_segments ? from + j->each : j->n_segments;
    const struct qrl_attend_scratch scratch = qrl_cpu_attend_scratch(j->b, thread);
    struct tile t;
    if (!find_tile(j, slot, head, &t) || t.last_pos <= (j->first + from) * QRL_ATTN_SEGMENT ||
        t.first_pos >= (j->first + to) * QRL_ATTN_SEGMENT)
        return;
    const size_t own = t.span->pos / QRL_ATTN_SEGMENT;
    if (own >= j->first + from && own < j->first + to)
        store_own(j, &t, &scratch);
    load_queries(j, &t, &scratch);
    for (size_t i = from; i < to; i++) {
        const struct sums part = sums_at(j, slot, head, 1 + i);
        attend_segment(j, &t, j->first + i, &part);
    }
}

/* A round's segments of a row. */
static void merge_task(void *context, size_t task, int thread) {
    (void)thread;
    const struct attention_job *j = context;
    const size_t r = task % j->most_rows, rest = task / j->most_rows;
    const size_t head = rest % j->op->kv.n_head_kv, slot = rest / j->op->kv.n_head_kv;
    struct tile t;
    if (!find_tile(j, slot, head, &t) || r >= t.to - t.from)
        return;
    const struct sums total = sums_at(j, slot, head, 0);
    for (size_t i = 0; i < j->n_segments; i++) {
        const struct sums part = sums_at(j, slot, head, 1 + i);
        merge_rows(j, &t, j->first + i, r, r + 1, &total, &part);
    }
    if (j->ends)
        finish_row(j, &t, r, &total);
}

/* The segments that any row sees: [*first, *end). */
static void segments_seen(const qrl_attention_op *op, size_t *first, size_t *end) {
    *first = SIZE_MAX;
    *end = 0;
    for (size_t i = 0; i < op->n_spans; i++) {
        size_t from, to, last_from;
        set_view(op, &op->spans[i], 0, &from, &to);
        set_view(op, &op->spans[i], op->spans[i].n_rows - 1, &last_from, &to);
        *first = from / QRL_ATTN_SEGMENT < *first ? from / QRL_ATTN_SEGMENT : *first;
        to = (to + QRL_ATTN_SEGMENT - 1) / QRL_ATTN_SEGMENT;
        *end = to > *end ? to : *end;
    }
}

void qrl_cpu_attention(qrl_backend *b, const qrl_attention_op *op) {
    struct attention_job j = {.b = b, .op = op, .group = op->n_head / op->kv.n_head_kv};
    if (op->n_spans == 0)
        return;
    const size_t last = op->n_spans - 1, threads = (size_t)qrl_pool_threads(b->pool);
    const size_t n_rows = op->spans[last].row + op->spans[last].n_rows - op->spans[0].row;
    j.stores = op->k && n_rows == op->n_spans && j.group <= QRL_ATTN_ROWS;
    if (op->k && !j.stores)
        qrl_cpu_kv_store(b, &(qrl_kv_store_op){op->kv, op->k, op->v, op->spans, op->n_spans});
    j.n_slots = first_slot(&j, last) + (op->spans[last].n_rows * j.group + QRL_ATTN_ROWS - 1) / QRL_ATTN_ROWS;
    const size_t n_tiles = j.n_slots * op->kv.n_head_kv;
    for (size_t i = 0; i < op->n_spans; i++) {
        const size_t rows = op->spans[i].n_rows * j.group, some = rows < QRL_ATTN_ROWS ? rows : QRL_ATTN_ROWS;
        j.most_rows = some > j.most_rows ? some : j.most_rows;
    }
    size_t end;
    segments_seen(op, &j.first, &end);
    j.room = qrl_cpu_attend_sums_floats(b) / (n_tiles * j.most_rows * (op->kv.v_dim + 2));
    if (threads == 1 || n_tiles >= QRL_ATTN_TASKS * threads || end - j.first < 2 || j.room < 2) {
        qrl_pool_run(b->pool, n_tiles, tile_task, &j);
        return;
    }
    for (; !j.ends; j.first += j.n_segments) {
        j.n_segments = end - j.first < j.room - 1 ? end - j.first : j.room - 1;
        j.ends = j.first + j.n_segments == end;
        j.each = (n_tiles * j.n_segments + QRL_ATTN_TASKS * threads - 1) / (QRL_ATTN_TASKS * threads);
        j.n_parts = (j.n_segments + j.each - 1) / j.each;
        qrl_pool_run(b->pool, n_tiles * j.n_parts, segments_task, &j);
        qrl_pool_run(b->pool, n_tiles * j.most_rows, merge_task, &j);
    }
}
