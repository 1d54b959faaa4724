#include "kv/kv.h"

#include "base/mem.h"

#include <stdlib.h>

typedef struct layer {
    qrl_kv_shape shape;
    size_t offset;     /* floats of data: [pages or ring pages of all sequences][n_head_kv][QRL_PAGE][k_dim + v_dim] */
    uint32_t ring;     /* pages a sequence; 0: n_pages */
    size_t conv, scan; /* floats of states, where [n_seq] slots begin */
} layer;

struct qrl_kv {
    const qrl_backend_ops *ops;
    qrl_backend *backend;
    uint32_t n_ctx, n_layer, n_pages, n_ring; /* pages a sequence */
    uint32_t window;                          /* the greatest of any layer with a ring; 0: none */
    layer *layers;                            /* [n_layer] */
    float *data;
    qrl_kv_type type_k, type_v;
    float *states; /* NULL: no layer is recurrent */
    uint64_t bytes, state_bytes;
    uint32_t *tables; /* [n_seq][n_pages + n_ring]; NULL for a heap */
};

/* A page of a layer; 32-bit words, whatever the types. */
static size_t page_floats(const qrl_kv *kv, const layer *l) {
    return l->shape.n_head_kv *
           (qrl_kv_key_bytes(kv->type_k, l->shape.k_dim) + qrl_kv_value_bytes(kv->type_v, l->shape.v_dim)) /
           sizeof(float);
}

static bool place_layers(qrl_kv *kv, const qrl_kv_params *params, size_t *floats) {
    *floats = 0;
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        layer *l = &kv->layers[i];
        const bool own = l->shape.window && params->window_pages;
        l->ring = own ? kv->n_pages : l->shape.window ? kv->n_ring : 0;
        l->offset = *floats;
        const size_t pages = own                  ? params->window_pages
                             : params->heap_pages ? params->heap_pages
                                                  : (size_t)(l->ring ? l->ring : kv->n_pages) * params->n_seq;
        size_t size;
        if (!qrl_size_mul(pages, page_floats(kv, l), &size) || !qrl_size_add(*floats, size, floats))
            return false;
    }
    return *floats <= SIZE_MAX / 2 / sizeof(float);
}

static bool place_states(qrl_kv *kv, const qrl_kv_params *params, size_t *floats) {
    *floats = 0;
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        layer *l = &kv->layers[i];
        const size_t sizes[] = {l->shape.conv_floats, l->shape.scan_floats};
        size_t *const at[] = {&l->conv, &l->scan};
        for (int k = 0; k < 2; k++) {
            size_t size;
            *at[k] = *floats;
            if (!qrl_size_mul(sizes[k], params->n_states ? params->n_states : params->n_seq, &size) ||
                size > SIZE_MAX / 2 || !qrl_size_add(*floats, qrl_align_up(size, 16), floats))
                return false;
        }
    }
    return *floats <= SIZE_MAX / 4 / sizeof(float);
}

/* A window's positions before a step's first row, and the step's rows: as many pages as these can touch,
 * wherever in a page they begin. */
uint32_t qrl_kv_ring_pages(uint32_t window, uint32_t rows) {
    const uint64_t positions = (uint64_t)window - 1 + rows;
    const uint64_t pages = (positions + QRL_PAGE - 2) / QRL_PAGE + 1;
    return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

static qrl_status init(qrl_kv *kv, const qrl_kv_params *params, qrl_error *err) {
    QRL_TRY(qrl_new_array(&kv->layers, params->n_layer, "the cache's layers", err));
    if ((unsigned)params->type_k >= QRL_KV_TYPE_COUNT || (unsigned)params->type_v >= QRL_KV_TYPE_COUNT)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "cache types %d and %d were asked for; they go from 0 to %d",
                        (int)params->type_k, (int)params->type_v, QRL_KV_TYPE_COUNT - 1);
    for (uint32_t i = 0; i < params->n_layer; i++) {
        kv->layers[i].shape = params->layers[i];
        if (kv->layers[i].shape.n_head_kv && kv->layers[i].shape.window > kv->window)
            kv->window = kv->layers[i].shape.window;
    }
    kv->n_pages = (uint32_t)(((uint64_t)params->n_ctx + QRL_PAGE - 1) / QRL_PAGE);
    kv->n_ring = kv->window && !params->heap_pages ? qrl_kv_ring_pages(kv->window, params->max_rows) : 0;
    if (kv->n_ring >= kv->n_pages)
        kv->n_ring = 0; /* the context is no longer than the ring */
    size_t total_pages, floats, state_floats;
    if (!qrl_size_mul((size_t)kv->n_pages + kv->n_ring, params->n_seq, &total_pages) || total_pages > UINT32_MAX ||
        !place_layers(kv, params, &floats) || !place_states(kv, params, &state_floats))
        return qrl_fail(err, QRL_ERR_LIMIT,
                        "the cache for a context of %u positions is larger than this machine's address space; "
                        "ask for a smaller context",
                        params->n_ctx);
    kv->state_bytes = (uint64_t)state_floats * sizeof(float);
    kv->bytes = (uint64_t)floats * sizeof(float) + kv->state_bytes;
    if (!params->heap_pages)
        QRL_TRY(qrl_new_array(&kv->tables, total_pages, "the cache's page tables", err));
    void *data = NULL;
    QRL_TRY(kv->ops->alloc(kv->backend, (floats ? floats : 1) * sizeof(float), "the key-value cache", &data, err));
    kv->data = data;
    if (state_floats) {
        QRL_TRY(kv->ops->alloc(kv->backend, state_floats * sizeof(float), "the recurrent state", &data, err));
        kv->states = data;
    }
    uint32_t *at = kv->tables;
    for (uint32_t s = 0; kv->tables && s < params->n_seq; s++) {
        for (uint32_t i = 0; i < kv->n_pages; i++)
            *at++ = s * kv->n_pages + i;
        for (uint32_t i = 0; i < kv->n_ring; i++)
            *at++ = s * kv->n_ring + i;
    }
    return QRL_OK;
}

qrl_status qrl_kv_create(const qrl_backend_ops *ops, qrl_backend *backend, const qrl_kv_params *params, qrl_kv **out,
                         qrl_error *err) {
    *out = NULL;
    if (!params->n_layer || !params->n_ctx || !params->n_seq || !params->max_rows)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "a cache of no layers, positions, rows or sequences was asked for");
    qrl_kv *kv;
    QRL_TRY(qrl_new_array(&kv, 1, "the cache's state", err));
    *kv = (qrl_kv){.ops = ops,
                   .backend = backend,
                   .n_ctx = params->n_ctx,
                   .n_layer = params->n_layer,
                   .type_k = params->type_k,
                   .type_v = params->type_v};
    const qrl_status status = init(kv, params, err);
    if (status != QRL_OK) {
        qrl_kv_destroy(kv);
        return status;
    }
    *out = kv;
    return QRL_OK;
}

void qrl_kv_destroy(qrl_kv *kv) {
    if (!kv)
        return;
    if (kv->data)
        kv->ops->release(kv->backend, kv->data);
    if (kv->states)
        kv->ops->release(kv->backend, kv->states);
    free(kv->layers);
    free(kv->tables);
    free(kv);
}

uint32_t qrl_kv_n_ctx(const qrl_kv *kv) {
    return kv->n_ctx;
}

uint64_t qrl_kv_bytes(const qrl_kv *kv) {
    return kv->bytes;
}

uint64_t qrl_kv_state_bytes(const qrl_kv *kv) {
    return kv->state_bytes;
}

uint64_t qrl_kv_token_bytes(const qrl_kv *kv) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < kv->n_layer; i++)
        bytes += kv->layers[i].ring ? 0 : page_floats(kv, &kv->layers[i]) * sizeof(float) / QRL_PAGE;
    return bytes;
}

qrl_kv_layer qrl_kv_layer_at(const qrl_kv *kv, uint32_t i) {
    const layer *l = &kv->layers[i];
    return (qrl_kv_layer){.data = kv->data + l->offset,
                          .n_head_kv = l->shape.n_head_kv,
                          .k_dim = l->shape.k_dim,
                          .v_dim = l->shape.v_dim,
                          .ring = l->ring,
                          .type_k = kv->type_k,
                          .type_v = kv->type_v};
}

void qrl_kv_copy_page(qrl_kv *kv, uint32_t from, uint32_t to) {
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        const layer *l = &kv->layers[i];
        const size_t page = page_floats(kv, l);
        float *data = kv->data + l->offset;
        const qrl_copy_op op = {data + from * page, data + to * page, 1, page, page, page};
        if (page && !l->ring)
            kv->ops->copy(kv->backend, &op);
    }
}

void qrl_kv_copy_state(qrl_kv *kv, uint32_t from, uint32_t to) {
    for (uint32_t i = 0; kv->states && i < kv->n_layer; i++) {
        const qrl_state states[] = {qrl_kv_conv_state(kv, i), qrl_kv_scan_state(kv, i)};
        for (int k = 0; k < 2; k++) {
            const size_t n = states[k].floats;
            if (n)
                kv->ops->copy(kv->backend, &(qrl_copy_op){.x = states[k].data + from * n,
                                                          .out = states[k].data + to * n,
                                                          .n_rows = 1,
                                                          .n_cols = n,
                                                          .x_row = n,
                                                          .out_row = n});
        }
    }
}

/* Floats of a page of the layer, if it is of that kind. */
static size_t floats_of(const qrl_kv *kv, const layer *l, bool window) {
    return (l->ring != 0) == window ? page_floats(kv, l) : 0;
}

size_t qrl_kv_page_bytes(const qrl_kv *kv, bool window) {
    size_t floats = 0;
    for (uint32_t i = 0; i < kv->n_layer; i++)
        floats += floats_of(kv, &kv->layers[i], window);
    return floats * sizeof(float);
}

void qrl_kv_read_page(const qrl_kv *kv, bool window, uint32_t page, void *out) {
    char *to = out;
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        const layer *l = &kv->layers[i];
        const size_t n = floats_of(kv, l, window), bytes = n * sizeof(float);
        if (bytes)
            kv->ops->download(kv->backend, to, kv->data + l->offset + page * n, bytes);
        to += bytes;
    }
}

void qrl_kv_write_page(qrl_kv *kv, bool window, uint32_t page, const void *in) {
    const char *from = in;
    for (uint32_t i = 0; i < kv->n_layer; i++) {
        const layer *l = &kv->layers[i];
        const size_t n = floats_of(kv, l, window), bytes = n * sizeof(float);
        if (bytes)
            kv->ops->upload(kv->backend, kv->data + l->offset + page * n, from, bytes);
        from += bytes;
    }
}

size_t qrl_kv_slot_bytes(const qrl_kv *kv) {
    size_t floats = 0;
    for (uint32_t i = 0; i < kv->n_layer; i++)
        floats += kv->layers[i].shape.conv_floats + kv->layers[i].shape.scan_floats;
    return floats * sizeof(float);
}

void qrl_kv_read_state(const qrl_kv *kv, uint32_t slot, void *out) {
    char *to = out;
    for (uint32_t i = 0; kv->states && i < 2 * kv->n_layer; i++) {
        const qrl_state s = (i % 2 ? qrl_kv_scan_state : qrl_kv_conv_state)(kv, i / 2);
        if (s.floats)
            kv->ops->download(kv->backend, to, s.data + slot * s.floats, s.floats * sizeof(float));
        to += s.floats * sizeof(float);
    }
}

void qrl_kv_write_state(qrl_kv *kv, uint32_t slot, const void *in) {
    const char *from = in;
    for (uint32_t i = 0; kv->states && i < 2 * kv->n_layer; i++) {
        const qrl_state s = (i % 2 ? qrl_kv_scan_state : qrl_kv_conv_state)(kv, i / 2);
        if (s.floats)
            kv->ops->upload(kv->backend, s.data + slot * s.floats, from, s.floats * sizeof(float));
        from += s.floats * sizeof(float);
    }
}

qrl_state qrl_kv_conv_state(const qrl_kv *kv, uint32_t i) {
    return (qrl_state){kv->states + kv->layers[i].conv, kv->layers[i].shape.conv_floats};
}

qrl_state qrl_kv_scan_state(const qrl_kv *kv, uint32_t i) {
    return (qrl_state){kv->states + kv->layers[i].scan, kv->layers[i].shape.scan_floats};
}

const uint32_t *qrl_kv_pages(const qrl_kv *kv, uint32_t seq) {
    return kv->tables + (size_t)seq * (kv->n_pages + kv->n_ring);
}

const uint32_t *qrl_kv_ring(const qrl_kv *kv, uint32_t seq) {
    return qrl_kv_pages(kv, seq) + kv->n_pages;
}

uint32_t qrl_kv_keep(const qrl_kv *kv, uint32_t seq, uint32_t had, uint32_t length) {
    (void)seq;
    if (kv->states && length < had)
        return 0;
    if (!kv->n_ring || length >= had)
        return length < had ? length : had;
    /* the ring holds the pages up to that of position had - 1; the next row looks back to length - window + 1 */
    const uint32_t end = (had + QRL_PAGE - 1) / QRL_PAGE, oldest = end > kv->n_ring ? (end - kv->n_ring) * QRL_PAGE : 0;
    const uint32_t back = length + 1 > kv->window ? length + 1 - kv->window : 0;
    return back >= oldest ? length : 0;
}
