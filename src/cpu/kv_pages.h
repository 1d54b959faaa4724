/* Inside cpu/: where a page's parts lie, and scratch for them. */
#ifndef QRL_CPU_KV_PAGES_H
#define QRL_CPU_KV_PAGES_H

#include "cpu/cpu_int.h"

enum {
    QRL_ATTN_SEGMENT = 256, /* positions whose sums are merged as a whole (docs/numerics.md) */
    QRL_ATTN_TASKS = 4      /* a thread should have at least, for which segments are given out */
};

/* Scratch of a thread; store_row uses `floats` too. */
struct qrl_attend_scratch {
    float *acc, *part; /* [QRL_ATTN_ROWS][dim] sums of all segments, and of one */
    float *q;          /* [dim][QRL_ATTN_ROWS], or quantized: qrl_cpu_query8 */
    float *floats;     /* [2 * QRL_PAGE][dim] a page's keys and values unpacked */
};

/* Of a thread for heads of `dim` at most: what stands above, and its share of the sums of segments. */
static inline size_t qrl_cpu_attend_own(size_t dim) {
    return (3 * QRL_ATTN_ROWS + 2 * QRL_PAGE) * ((dim + 31) / 32 * 32);
}
static inline size_t qrl_cpu_attend_floats(size_t dim) {
    return qrl_cpu_attend_own(dim) + QRL_ATTN_TASKS * QRL_ATTN_ROWS * (dim + 2);
}
static inline struct qrl_attend_scratch qrl_cpu_attend_scratch(const qrl_backend *b, int thread) {
    const size_t dim = b->reserved.max_head_dim, rows = QRL_ATTN_ROWS * ((dim + 31) / 32 * 32);
    float *p = b->attend + (size_t)thread * qrl_cpu_attend_own(dim);
    return (struct qrl_attend_scratch){p, p + rows, p + 2 * rows, p + 3 * rows};
}

/* Quantized queries in the place of `q`; a block of 32 dimensions is 10 floats a row. */
static inline qrl_query8 qrl_cpu_query8(const struct qrl_attend_scratch *s, size_t dim) {
    const size_t n = (dim + 31) / 32 * QRL_ATTN_ROWS;
    return (qrl_query8){(int8_t *)s->q, s->q + 8 * n, (int32_t *)(void *)(s->q + 9 * n)};
}

/* Sums of segments, behind the scratch of all threads. */
static inline float *qrl_cpu_attend_sums(const qrl_backend *b) {
    return b->attend + (size_t)qrl_pool_threads(b->pool) * qrl_cpu_attend_own(b->reserved.max_head_dim);
}
static inline size_t qrl_cpu_attend_sums_floats(const qrl_backend *b) {
    const size_t dim = b->reserved.max_head_dim;
    return (size_t)qrl_pool_threads(b->pool) * (qrl_cpu_attend_floats(dim) - qrl_cpu_attend_own(dim));
}

/* The keys of a head in the page of a position; its values stand behind them. */
static inline unsigned char *qrl_kv_page(const qrl_kv_layer *kv, const qrl_span *span, size_t pos, size_t head) {
    const size_t at = pos / QRL_PAGE;
    const size_t page = kv->ring ? span->ring[at % kv->ring] : span->pages[at];
    const size_t bytes = qrl_kv_key_bytes(kv->type_k, kv->k_dim) + qrl_kv_value_bytes(kv->type_v, kv->v_dim);
    return (unsigned char *)kv->data + (page * kv->n_head_kv + head) * bytes;
}

#endif
