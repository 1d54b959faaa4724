/* quarrel.h over the library: arguments are checked here, then handed to the module that does the work. */
#include "base/mem.h"
#include "engine/engine.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

void qrl_free(void *p) {
    free(p);
}

static qrl_status null_argument(const char *function, qrl_error *err) {
    return qrl_fail(err, QRL_ERR_ARGUMENT, "%s was given a null pointer where it needs a value", function);
}

/* ---- models ---- */

qrl_model_params qrl_model_default_params(void) {
    return (qrl_model_params){0};
}

static qrl_status check_threads(int n_threads, qrl_error *err) {
    if (n_threads < 0)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%d threads were asked for; use 0 for one a core, or a number above it",
                        n_threads);
    return QRL_OK;
}

static qrl_status load_params(const qrl_model_params *params, qrl_load_params *out, qrl_error *err) {
    const qrl_model_params defaults = {0};
    if (!params)
        params = &defaults;
    *out = (qrl_load_params){.backend = "cpu",
                             .backend_params = {.n_threads = params->n_threads},
                             .override_pre = params->override_pre,
                             .arch_file = params->arch_file,
                             .vocab_only = params->vocab_only,
                             .progress = params->progress,
                             .progress_context = params->progress_context};
    QRL_TRY(check_threads(params->n_threads, err));
    return qrl_isa_parse(params->isa, &out->backend_params.isa, err);
}

qrl_status qrl_model_open(const char *path, const qrl_model_params *params, qrl_model **out, qrl_error *err) {
    qrl_load_params load;
    if (!path || !out)
        return null_argument(__func__, err);
    *out = NULL;
    QRL_TRY(load_params(params, &load, err));
    return qrl_model_load(path, &load, out, err);
}

qrl_status qrl_plan_memory(const char *path, const qrl_model_params *model, const qrl_plan_params *params,
                           qrl_memory_plan *out, qrl_error *err) {
    const qrl_plan_params defaults = {0};
    qrl_load_params load;
    if (!path || !out)
        return null_argument(__func__, err);
    QRL_TRY(load_params(model, &load, err));
    load.progress = NULL;
    load.vocab_only = false;
    return qrl_plan_measure(path, &load, params ? params : &defaults, out, err);
}

void qrl_model_close(qrl_model *m) {
    qrl_model_unload(m);
}

void qrl_model_get_info(const qrl_model *m, qrl_model_info *out) {
    const qrl_hparams *h = &m->hparams;
    *out = (qrl_model_info){.path = qrl_gguf_path(m->gguf),
                            .name = m->name,
                            .architecture = m->arch_name,
                            .n_vocab = h->n_vocab,
                            .n_ctx_train = h->n_ctx,
                            .n_embd = h->n_embd,
                            .n_layer = h->n_layer,
                            .n_head = h->n_head,
                            .n_head_kv = h->n_head_kv,
                            .file_bytes = qrl_gguf_file_bytes(m->gguf),
                            .isa = ""};
    if (!m->backend)
        return;
    out->n_params = m->cost.n_params;
    out->weight_bytes = m->cost.weight_bytes;
    out->resident_bytes = m->cost.resident_bytes;
    out->macs_int8 = m->cost.macs_int8;
    out->macs_float = m->cost.macs_float;
    out->prompt_macs_int8 = m->cost.prompt_macs_int8;
    out->prompt_macs_float = m->cost.prompt_macs_float;
    out->read_bytes = m->cost.read_bytes;
    for (uint32_t i = 0; i < h->n_layer; i++) {
        const qrl_layer_params *l = &h->layers[i];
        if (!l->attention || l->window) /* what a window reads does not grow with the position */
            continue;
        out->kv_read_bytes += (uint64_t)l->n_head_kv * (h->k_dim + h->v_dim) * sizeof(uint16_t);
        out->kv_macs += (uint64_t)l->n_head * (h->k_dim + h->v_dim);
    }
    out->n_out = h->n_out;
    out->encoder = h->encoder;
    out->pooling = (qrl_pooling)h->pooling;
    out->n_threads = m->ops->threads(m->backend);
    out->isa = qrl_isa_name(m->ops->isa(m->backend));
}

/* ---- text and tokens ---- */

qrl_status qrl_model_tokenize(const qrl_model *m, const char *text, size_t size, unsigned flags, int32_t **out,
                              size_t *n, qrl_error *err) {
    if (!m || (!text && size) || !out || !n)
        return null_argument(__func__, err);
    qrl_ids ids = {0};
    *out = NULL;
    *n = 0;
    qrl_status status = qrl_tokenizer_encode(m->tokenizer, text ? text : "", size, flags, &ids, err);
    if (status == QRL_OK && !ids.data) /* no ids are a list too */
        status = qrl_new_array(&ids.data, 1, "token ids", err);
    if (status != QRL_OK) {
        qrl_ids_free(&ids); /* what had grown before it failed */
        return status;
    }
    *out = ids.data;
    *n = ids.size;
    return QRL_OK;
}

qrl_status qrl_model_detokenize(const qrl_model *m, const int32_t *ids, size_t n, unsigned flags, char **out,
                                size_t *size, qrl_error *err) {
    if (!m || (!ids && n) || !out || !size)
        return null_argument(__func__, err);
    qrl_buf text = {0};
    qrl_detok detok;
    qrl_detok_init(&detok, m->tokenizer, flags);
    *out = NULL;
    *size = 0;
    qrl_buf_append(&text, "", 0); /* so that there is a text, if an empty one */
    qrl_status status = QRL_OK;
    for (size_t i = 0; status == QRL_OK && i < n; i++)
        status = qrl_detok_push(&detok, ids[i], &text, err);
    if (status == QRL_OK)
        status = qrl_detok_finish(&detok, &text, err);
    if (status == QRL_OK)
        status = qrl_buf_status(&text, err);
    if (status != QRL_OK) {
        qrl_buf_free(&text);
        return status;
    }
    *out = text.data;
    *size = text.size;
    return QRL_OK;
}

const char *qrl_model_token_piece(const qrl_model *m, int32_t id, size_t *size) {
    const qrl_vocab_str s = qrl_token_piece(m->tokenizer, id);
    *size = s.size;
    return s.data;
}

const char *qrl_model_token_text(const qrl_model *m, int32_t id, size_t *size) {
    const qrl_vocab_str s = qrl_token_text(m->tokenizer, id);
    *size = s.size;
    return s.data;
}

bool qrl_model_token_is_eog(const qrl_model *m, int32_t id) {
    return qrl_token_is_eog(m->tokenizer, id);
}

/* ---- sessions ---- */

qrl_session_params qrl_session_default_params(void) {
    return (qrl_session_params){0};
}

qrl_status qrl_session_create(qrl_model *m, const qrl_session_params *params, qrl_session **out, qrl_error *err) {
    const qrl_session_params defaults = {0};
    if (!m || !out)
        return null_argument(__func__, err);
    return qrl_sequence_create(m, params ? params : &defaults, out, err);
}

void qrl_session_close(qrl_session *s) {
    qrl_sequence_destroy(s);
}

uint32_t qrl_session_length(const qrl_session *s) {
    return qrl_sequence_length(s);
}

uint32_t qrl_session_n_ctx(const qrl_session *s) {
    return qrl_sequence_n_ctx(s);
}

void qrl_session_truncate(qrl_session *s, uint32_t length) {
    qrl_sequence_truncate(s, length);
}

qrl_status qrl_session_eval(qrl_session *s, const int32_t *tokens, size_t n, qrl_want want, float *logits,
                            qrl_error *err) {
    if (!s || (!tokens && n) || (!logits && want != QRL_WANT_NONE))
        return null_argument(__func__, err);
    return qrl_sequence_eval(s, tokens, n, want, logits, err);
}

qrl_generate_params qrl_generate_default_params(void) {
    return (qrl_generate_params){.sampler = qrl_sampler_default_params(), .max_tokens = UINT32_MAX};
}

void qrl_session_expert_stats(qrl_session *s, qrl_expert_stats *out) {
    qrl_sequence_expert_stats(s, out);
}

qrl_status qrl_session_generate(qrl_session *s, const int32_t *prompt, size_t n_prompt,
                                const qrl_generate_params *params, qrl_token_fn *on_token, void *context,
                                qrl_generate_result *result, qrl_error *err) {
    const qrl_generate_params defaults = qrl_generate_default_params();
    if (!s || (!prompt && n_prompt))
        return null_argument(__func__, err);
    return qrl_sequence_generate(s, prompt, n_prompt, params ? params : &defaults, on_token, context, result, err);
}

/* ---- the machine ---- */

qrl_status qrl_measure_limits(int n_threads, const char *isa, qrl_limits *out, qrl_error *err) {
    if (!out)
        return null_argument(__func__, err);
    qrl_backend_params params = {.n_threads = n_threads};
    QRL_TRY(check_threads(n_threads, err));
    QRL_TRY(qrl_isa_parse(isa, &params.isa, err));
    return qrl_cpu_measure_limits(&params, NULL, out, err);
}

qrl_status qrl_model_measure_limits(const qrl_model *model, qrl_limits *out, qrl_error *err) {
    if (!model || !out)
        return null_argument(__func__, err);
    if (!model->backend)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%s was opened for its vocabulary alone: nothing computes with it",
                        qrl_gguf_path(model->gguf));
    const qrl_backend_params params = {.n_threads = model->ops->threads(model->backend),
                                       .isa = model->ops->isa(model->backend)};
    return qrl_cpu_measure_limits(&params, model->cost.prompt_macs, out, err);
}
