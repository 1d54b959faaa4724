/* Loading: file, tokenizer, hyperparameters, binding, then weights, one tensor after the other in the
 * order of the layers, the file's pages being given back behind it. */
#include "model/model_int.h"
#include "model/vocab.h"

#include <stdlib.h>
#include <string.h>

typedef struct loader {
    qrl_model *m;
    const qrl_load_params *params;
    qrl_binding binding;
    uint64_t done, total; /* bytes of weights */
    size_t vectors_used;  /* floats of m->vectors */
    bool borrowed;        /* a weight of the tensor at hand reads the file's bytes later */
    qrl_error *err;
} loader;

/* A vector's room, in floats: whole vectors of the machine, for each part where it holds several. */
static size_t vector_room(const qrl_gguf_tensor *t) {
    return qrl_align_up((size_t)t->n_values, 16) + (QRL_MAX_PARTS - 1) * 16;
}

static void *field(loader *l, const qrl_tensor_row *row, int64_t layer) {
    char *base = layer < 0 ? (char *)&l->m->global : (char *)&l->m->layers[layer];
    return base + row->offset;
}

/* What is loaded at once: a tensor of the file, or the part of one that begins at a row. */
typedef struct slice {
    const qrl_gguf_tensor *t;
    const qrl_tensor_row *row;
    qrl_type type;
    int64_t layer;
    uint64_t rows, cols, depth;
    uint64_t first_row, whole_rows; /* of each of `depth` matrices */
} slice;

static const unsigned char *slice_data(const slice *s, uint64_t at) {
    return s->t->data + (at * s->whole_rows + s->first_row) * qrl_row_bytes(s->type, (size_t)s->cols);
}

/* [rows][cols] to [cols][rows], in memory of its own. */
static qrl_status transpose(float **data, size_t rows, size_t cols, const char *name, qrl_error *err) {
    float *turned;
    QRL_TRY(qrl_new_array(&turned, rows * cols, name, err));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            turned[c * rows + r] = (*data)[r * cols + c];
    free(*data);
    *data = turned;
    return QRL_OK;
}

static qrl_status load_vector(loader *l, const slice *s, const float **out) {
    const size_t n = (size_t)(s->rows * s->cols), block = qrl_quant_traits(s->type)->block_values;
    float *host;
    if (s->first_row % block || n % block)
        return qrl_fail(l->err, QRL_ERR_UNSUPPORTED,
                        "%s: tensor %s holds several vectors and is %s, whose blocks of %zu values lie across them",
                        qrl_gguf_path(l->m->gguf), s->t->name, qrl_quant_traits(s->type)->name, block);
    QRL_TRY(qrl_new_array(&host, n, s->t->name, l->err));
    const unsigned char *data = s->t->data;
    if (s->first_row) /* values before it, as a vector's row is one */
        data += qrl_row_bytes(s->type, (size_t)s->first_row);
    qrl_decode_row(s->type, data, host, n);
    if (s->row->kind == QRL_COLUMNS) {
        const qrl_status status = transpose(&host, (size_t)s->rows, (size_t)s->cols, s->t->name, l->err);
        if (status != QRL_OK) {
            free(host);
            return status;
        }
    }
    if (s->row->kind == QRL_HOST) {
        *out = host;
        return QRL_OK;
    }
    float *device = l->m->vectors + l->vectors_used;
    l->vectors_used += qrl_align_up(n, 16);
    l->m->ops->upload(l->m->backend, device, host, n * sizeof *host);
    free(host);
    *out = device;
    return QRL_OK;
}

/* Whether rows without logits pass this matrix: forward/ leaves out the rest for them. */
static bool every_row(const loader *l, const qrl_tensor_row *row, int64_t layer) {
    const bool feed_forward = row->rows == QRL_DIM_FF || row->cols == QRL_DIM_FF || row->depth == QRL_DIM_EXPERTS ||
                              row->rows == QRL_DIM_FF_SHARED || row->cols == QRL_DIM_FF_SHARED ||
                              row->rows == QRL_DIM_EXPERTS;
    return layer >= 0 && !(feed_forward && layer == (int64_t)l->m->hparams.n_layer - 1);
}

static void count_cost(loader *l, const slice *s, size_t own) {
    qrl_model *m = l->m;
    const qrl_moe_params *moe = &m->hparams.moe;
    const bool quantized = qrl_quant_traits(s->type)->scales != 0;
    uint64_t macs = s->rows * s->cols, bytes = own ? own : macs / s->cols * qrl_row_bytes(s->type, (size_t)s->cols);
    if (s->row->depth == QRL_DIM_EXPERTS) { /* of all experts, a token meets n_used */
        macs = macs * moe->n_used / moe->n_expert;
        bytes = bytes * moe->n_used / moe->n_expert;
    }
    *(quantized ? &m->cost.macs_int8 : &m->cost.macs_float) += macs;
    if (every_row(l, s->row, s->layer)) {
        *(quantized ? &m->cost.prompt_macs_int8 : &m->cost.prompt_macs_float) += macs;
        m->cost.prompt_macs[s->type] += quantized ? macs : 0;
    }
    m->cost.read_bytes += bytes;
}

static qrl_status load_matrix(loader *l, const slice *s, uint64_t at, qrl_weight **out) {
    qrl_model *m = l->m;
    const qrl_matrix matrix = {s->type, (size_t)s->rows, (size_t)s->cols, slice_data(s, at)};
    unsigned use = s->row->kind == QRL_EMBED ? QRL_USE_EMBED : QRL_USE_LINEAR;
    const bool tied = s->row == &qrl_tensor_rows[QRL_T_token_embd] && !l->binding.global[QRL_T_output];
    if (tied && !m->arch->encoder)
        use |= QRL_USE_LINEAR;
    QRL_TRY(m->ops->weight_create(m->backend, &matrix, use, out, l->err));
    const size_t own = m->ops->weight_bytes(*out);
    m->cost.resident_bytes += own;
    if (use & QRL_USE_LINEAR)
        count_cost(l, s, own);
    l->borrowed = l->borrowed || m->ops->weight_borrows(*out);
    return QRL_OK;
}

static qrl_status load_slice(loader *l, const slice *s) {
    void *at = field(l, s->row, s->layer);
    if (s->row->kind == QRL_VECTOR || s->row->kind == QRL_COLUMNS || s->row->kind == QRL_HOST)
        return load_vector(l, s, at);
    if (s->row->kind != QRL_MATRICES)
        return load_matrix(l, s, 0, at);
    qrl_weight **list;
    QRL_TRY(qrl_new_array(&list, (size_t)s->depth, s->t->name, l->err));
    memcpy(at, &list, sizeof list); /* from here on the model frees it */
    for (uint64_t i = 0; i < s->depth; i++)
        QRL_TRY(load_matrix(l, s, i, &list[i]));
    return QRL_OK;
}

static qrl_status load_tensor(loader *l, qrl_tensor_id id, const qrl_gguf_tensor *t, int64_t layer) {
    if (!t)
        return QRL_OK;
    const qrl_tensor_row *row = &qrl_tensor_rows[id];
    slice s = {.t = t, .layer = layer};
    if (!qrl_type_from_file(t->type, &s.type))
        return qrl_fail(l->err, QRL_ERR_UNSUPPORTED, "%s: tensor %s has the unknown type %u", qrl_gguf_path(l->m->gguf),
                        t->name, t->type);
    uint64_t dims[QRL_DIM_COUNT];
    qrl_hparams_dims(&l->m->hparams, layer, dims);
    const qrl_tensor_id single[] = {id};
    const bool fused = row->kind == QRL_PARTS;
    const qrl_tensor_id *parts = fused ? row->parts : single;
    l->borrowed = false;
    for (int i = 0; i < (fused ? QRL_MAX_PARTS : 1) && parts[i] != QRL_T_OWN; i++) {
        s.row = &qrl_tensor_rows[parts[i]];
        s.rows = dims[s.row->rows];
        s.cols = dims[s.row->cols];
        s.depth = dims[s.row->depth];
        s.whole_rows = t->dims[1];
        QRL_TRY(load_slice(l, &s));
        s.first_row += s.row->kind == QRL_VECTOR ? s.rows * s.cols : s.rows;
    }
    if (l->borrowed)
        l->m->cost.mapped_bytes += t->bytes;
    else
        qrl_gguf_release_tensor(l->m->gguf, t);
    l->done += t->bytes;
    if (l->params->progress)
        l->params->progress(l->params->progress_context, l->done, l->total);
    return QRL_OK;
}

/* One block of memory for all vectors. */
static qrl_status reserve_vectors(loader *l) {
    qrl_model *m = l->m;
    size_t floats = 0;
    for (int64_t layer = -1; layer < (int64_t)m->hparams.n_layer; layer++)
        for (int id = 0; id < QRL_T_COUNT; id++) {
            const qrl_gguf_tensor *t = layer < 0 ? l->binding.global[id] : l->binding.layer[layer][id];
            const qrl_tensor_row *row = &qrl_tensor_rows[id];
            const qrl_tensor_kind kind = row->kind == QRL_PARTS ? qrl_tensor_rows[row->parts[0]].kind : row->kind;
            if (t && (kind == QRL_VECTOR || kind == QRL_COLUMNS))
                floats += vector_room(t); /* bounded by the file's size */
        }
    void *p;
    QRL_TRY(m->ops->alloc(m->backend, floats * sizeof(float), "the norms and biases", &p, l->err));
    m->vectors = p;
    m->cost.vector_bytes = floats * sizeof(float);
    return QRL_OK;
}

static qrl_status load_weights(loader *l) {
    qrl_model *m = l->m;
    for (size_t i = 0; i < qrl_gguf_tensor_count(m->gguf); i++) {
        const qrl_gguf_tensor *t = qrl_gguf_tensor_at(m->gguf, i);
        m->cost.n_params += t->n_values;
        m->cost.weight_bytes += t->bytes;
    }
    l->total = m->cost.weight_bytes;
    QRL_TRY(qrl_new_array(&m->layers, m->hparams.n_layer, "the layers", l->err));
    QRL_TRY(reserve_vectors(l));
    for (int64_t layer = -1; layer < (int64_t)m->hparams.n_layer; layer++)
        for (int id = 0; id < QRL_T_COUNT; id++)
            QRL_TRY(load_tensor(l, (qrl_tensor_id)id, layer < 0 ? l->binding.global[id] : l->binding.layer[layer][id],
                                layer));
    if (!m->global.output && !m->arch->encoder)
        m->global.output = m->global.token_embd;
    return QRL_OK;
}

/* A zero terminated copy of a string of the file; "" when the key is absent. */
static qrl_status copy_text(const qrl_gguf *g, const char *key, char **out, qrl_error *err) {
    qrl_str s = {"", 0};
    if (qrl_gguf_find(g, key))
        QRL_TRY(qrl_gguf_get_str(g, key, &s, err));
    QRL_TRY(qrl_new_array(out, s.size + 1, key, err));
    memcpy(*out, s.data, s.size);
    return QRL_OK;
}

static qrl_status load_into(qrl_model *m, const char *path, const qrl_load_params *params, qrl_error *err) {
    QRL_TRY(qrl_gguf_open(path, qrl_quant_block_lookup, &m->gguf, err));
    qrl_str arch_name;
    QRL_TRY(qrl_gguf_get_str(m->gguf, "general.architecture", &arch_name, err));
    QRL_TRY(copy_text(m->gguf, "general.architecture", &m->arch_name, err));
    QRL_TRY(copy_text(m->gguf, "general.name", &m->name, err));
    if (params->arch_file)
        QRL_TRY(qrl_arch_set_load(params->arch_file, &m->arch_set, err));
    m->arch = qrl_arch_set_find(m->arch_set, arch_name.data, arch_name.size);
    if (!m->arch)
        m->arch = qrl_arch_find(arch_name.data, arch_name.size);
    QRL_TRY(qrl_vocab_load_tokenizer(m->gguf, params->override_pre, &m->tokenizer, err));
    const uint32_t n_vocab = (uint32_t)qrl_tokenizer_size(m->tokenizer);
    if (params->vocab_only) {
        m->hparams.n_vocab = n_vocab;
        return QRL_OK; /* the other hyperparameters may be absent from such a file */
    }
    if (!m->arch)
        return qrl_arch_unknown(m->gguf, m->arch_name, err);
    QRL_TRY(qrl_hparams_read(m->gguf, m->arch, n_vocab, &m->hparams, err));
    loader l = {.m = m, .params = params, .err = err};
    QRL_TRY(qrl_bind(m->gguf, m->arch, &m->hparams, &l.binding, err));
    m->ops = qrl_backend_find(params->backend);
    qrl_status status = QRL_OK;
    if (!m->ops)
        status = qrl_fail(err, QRL_ERR_UNSUPPORTED, "backend \"%s\" is not part of this build", params->backend);
    if (status == QRL_OK)
        status = m->ops->create(&params->backend_params, &m->backend, err);
    if (status == QRL_OK)
        status = load_weights(&l);
    qrl_binding_free(&l.binding);
    return status;
}

qrl_status qrl_model_load(const char *path, const qrl_load_params *params, qrl_model **out, qrl_error *err) {
    *out = NULL;
    qrl_model *m;
    QRL_TRY(qrl_new_array(&m, 1, "a model", err));
    m->measured = params->backend_params.measure;
    qrl_status status = qrl_new_array(&m->extra, 1, "a model", err);
    if (status == QRL_OK) {
        pthread_mutex_init(&m->extra->lock, NULL);
        status = load_into(m, path, params, err);
    }
    if (status != QRL_OK) {
        qrl_model_unload(m);
        return status;
    }
    *out = m;
    return QRL_OK;
}

/* Releases what one field holds. */
static void unload_field(qrl_model *m, const qrl_tensor_row *row, int64_t layer) {
    char *base = layer < 0 ? (char *)&m->global : (char *)&m->layers[layer];
    void *held;
    memcpy(&held, base + row->offset, sizeof held);
    if (!held)
        return;
    if (row->kind == QRL_MATRIX || row->kind == QRL_EMBED)
        m->ops->weight_destroy(m->backend, held);
    if (row->kind == QRL_MATRICES) {
        qrl_weight **list = held;
        uint64_t dims[QRL_DIM_COUNT];
        qrl_hparams_dims(&m->hparams, layer, dims);
        for (uint64_t i = 0; i < dims[row->depth] && list[i]; i++)
            m->ops->weight_destroy(m->backend, list[i]);
    }
    if (row->kind == QRL_MATRICES || row->kind == QRL_HOST)
        free(held);
}

static void unload_weights(qrl_model *m) {
    if (m->global.output == m->global.token_embd)
        m->global.output = NULL;
    for (int64_t layer = -1; m->layers && layer < (int64_t)m->hparams.n_layer; layer++)
        for (int id = 0; id < QRL_T_OWN; id++)
            if ((qrl_tensor_rows[id].scope == QRL_LAYER) == (layer >= 0))
                unload_field(m, &qrl_tensor_rows[id], layer);
    if (m->vectors)
        m->ops->release(m->backend, m->vectors);
}

void qrl_model_unload(qrl_model *m) {
    if (!m)
        return;
    if (m->backend) {
        unload_weights(m);
        m->ops->destroy(m->backend);
    }
    free(m->layers);
    free(m->hparams.layers);
    qrl_arch_set_free(m->arch_set);
    qrl_tokenizer_destroy(m->tokenizer);
    qrl_gguf_close(m->gguf);
    free(m->name);
    free(m->arch_name);
    if (m->extra) {
        if (m->extra->data)
            m->extra->destroy(m->extra->data);
        pthread_mutex_destroy(&m->extra->lock);
        free(m->extra);
    }
    free(m);
}
