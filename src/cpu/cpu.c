/* The CPU backend: its life, its memory, and the operations on rows. linear.c and attention.c hold the
 * two that take the time. All numbers come from the kernel table or from plain float arithmetic whose
 * order stands here. */
#include "cpu/cpu_int.h"
#include "cpu/kv_pages.h"
#include "cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const qrl_kernels *qrl_kernels_get(qrl_isa isa) {
    static const qrl_kernels *const tables[QRL_ISA_COUNT] = {
        [QRL_ISA_SCALAR] = &qrl_kernels_scalar,
#if defined(__x86_64__)
        [QRL_ISA_AVX2] = &qrl_kernels_avx2,
        [QRL_ISA_AVXVNNI] = &qrl_kernels_avxvnni,
        [QRL_ISA_AVX512] = &qrl_kernels_avx512,
        [QRL_ISA_AVX512VNNI] = &qrl_kernels_avx512vnni,
        [QRL_ISA_AMX] = &qrl_kernels_amx,
#endif
    };
    return (unsigned)isa < QRL_ISA_COUNT ? tables[isa] : NULL;
}

static void cpu_destroy(qrl_backend *b) {
    if (!b)
        return;
    qrl_pool_destroy(b->pool);
    qrl_free_aligned(b->qacts);
    qrl_free_aligned(b->facts);
    qrl_free_aligned(b->attend);
    qrl_free_aligned(b->product);
    qrl_cpu_moe_release(b);
    free(b);
}

/* Pieces of weights and blocks of rows lie in the second-level cache together. Larger blocks have weights unpacked less
 * often, larger pieces have rows come from farther away less often. */
static void fit_caches(qrl_backend *b) {
    enum { LEAST = 128 * 1024, MOST = 512 * 1024, ROW = 4096 }; /* ROW: 2,048 quantized activations */
    long cache = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    const size_t quarter = cache > 0 ? (size_t)cache / 4 : 0, rows = 2 * quarter / ROW / QRL_TILE_MAX * QRL_TILE_MAX;
    b->piece_bytes = quarter < LEAST ? LEAST : quarter > MOST ? MOST : quarter;
    b->row_block = rows < QRL_ROW_BLOCK ? QRL_ROW_BLOCK : rows > QRL_MOST_ROWS ? QRL_MOST_ROWS : rows;
}

/* Measured (docs/speed.md): cores of AMD lose by more than 16 lines under way, those of Intel want the second-level
 * cache to begin early. */
static qrl_ahead find_ahead(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_is("intel"))
        return (qrl_ahead){2048, 8192};
#endif
    return (qrl_ahead){1024, 0};
}

static qrl_status cpu_create(const qrl_backend_params *params, qrl_backend **out, qrl_error *err) {
    *out = NULL;
    qrl_backend *b = calloc(1, sizeof *b);
    if (!b)
        return qrl_fail_memory(err, "the CPU backend", sizeof *b);
    b->isa = params->isa;
    b->measure = params->measure;
    b->ahead = find_ahead();
    fit_caches(b);
    b->kernels = qrl_kernels_get(params->isa);
    qrl_status status = b->kernels ? qrl_pool_create(params->n_threads, &b->pool, err)
                                   : qrl_fail(err, QRL_ERR_UNSUPPORTED,
                                              "instruction set %s is not part of this build; use auto or scalar",
                                              qrl_isa_name(params->isa));
    if (status == QRL_OK) {
        const size_t bytes = (size_t)qrl_pool_threads(b->pool) * sizeof *b->product;
        b->product = qrl_alloc_aligned(bytes);
        if (b->product)
            memset(b->product, 0, bytes); /* a panel's second half may be computed on and not used */
        else
            status = qrl_fail_memory(err, "scratch of the CPU backend", bytes);
    }
    if (status != QRL_OK) {
        cpu_destroy(b);
        return status;
    }
    *out = b;
    return QRL_OK;
}

static int cpu_threads(const qrl_backend *b) {
    return qrl_pool_threads(b->pool);
}

static qrl_isa cpu_isa(const qrl_backend *b) {
    return b->isa;
}

static qrl_status cpu_alloc(qrl_backend *b, size_t bytes, const char *what, void **out, qrl_error *err) {
    *out = b->measure ? qrl_reserve_space(bytes) : qrl_alloc_aligned(bytes);
    return *out ? QRL_OK : qrl_fail_memory(err, what, bytes);
}

static void cpu_release(qrl_backend *b, void *p) {
    if (b->measure)
        qrl_release_space(p);
    else
        qrl_free_aligned(p);
}

static void cpu_copy(qrl_backend *b, void *to, const void *from, size_t bytes) {
    (void)b;
    memcpy(to, from, bytes);
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Grows only: several forward passes may share a backend, and each keeps what it asked for. On failure
 * everything is as before. */
static qrl_status cpu_reserve(qrl_backend *b, const qrl_reserve *wanted, qrl_error *err) {
    const qrl_reserve *had = &b->reserved;
    const qrl_reserve r = {.max_rows = larger(wanted->max_rows, had->max_rows),
                           .max_cols = larger(wanted->max_cols, had->max_cols),
                           .fine_cols = larger(wanted->fine_cols, had->fine_cols),
                           .max_head_dim = larger(wanted->max_head_dim, had->max_head_dim),
                           .max_experts = larger(wanted->max_experts, had->max_experts),
                           .max_experts_used = larger(wanted->max_experts_used, had->max_experts_used),
                           .max_expert_cols = larger(wanted->max_expert_cols, had->max_expert_cols),
                           .max_expert_ff = larger(wanted->max_expert_ff, had->max_expert_ff),
                           .max_each_cols = larger(wanted->max_each_cols, had->max_each_cols)};
    /* 64 bytes for each unit of quantized activations, 4 for each float value; whole units */
    const size_t cols = qrl_align_up(r.max_cols, QRL_UNIT);
    size_t qcols, qbytes, fbytes, abytes;
    if (!qrl_size_mul(2, qrl_align_up(r.fine_cols, QRL_UNIT), &qcols))
        qcols = SIZE_MAX;
    qcols = larger(qcols, cols);
    if (!qrl_size_mul(r.max_rows, qcols / QRL_UNIT * QRL_QACT_BYTES(1), &qbytes) ||
        !qrl_size_mul(r.max_rows, cols * sizeof(float), &fbytes) ||
        !qrl_size_mul((size_t)cpu_threads(b) * sizeof(float), qrl_cpu_attend_floats(r.max_head_dim), &abytes))
        return qrl_fail(err, QRL_ERR_LIMIT, "a step of %zu rows of %zu values is too large; use a smaller chunk",
                        r.max_rows, r.max_cols);
    unsigned char *qacts = qrl_alloc_aligned(qbytes);
    float *facts = qrl_alloc_aligned(fbytes), *attend = qrl_alloc_aligned(abytes);
    const bool taken = qacts && facts && attend;
    const qrl_status status = taken ? qrl_cpu_moe_reserve(b, &r, err)
                                    : qrl_fail_memory(err, "scratch of the CPU backend", qbytes + fbytes + abytes);
    const bool ok = status == QRL_OK;
    qrl_free_aligned(ok ? b->qacts : qacts);
    qrl_free_aligned(ok ? (void *)b->facts : facts);
    qrl_free_aligned(ok ? (void *)b->attend : attend);
    if (!ok)
        return status;
    b->qacts = qacts;
    b->facts = facts;
    b->attend = attend;
    b->reserved = r;
    b->scratch_bytes = qbytes + fbytes + abytes;
    return QRL_OK;
}

static size_t cpu_reserved_bytes(const qrl_backend *b) {
    return b->scratch_bytes + qrl_cpu_moe_bytes(b);
}

struct pack_job {
    qrl_weight *w;
};

static void pack_task(void *context, size_t task, int thread) {
    (void)thread;
    qrl_weight *w = ((struct pack_job *)context)->w;
    qrl_pack_group(w->m.type, w->m.data, w->m.n_rows, w->m.n_cols, task * QRL_GROUP, w->packed + task * w->group_bytes);
}

static void cpu_weight_destroy(qrl_backend *b, qrl_weight *w) {
    (void)b;
    if (!w)
        return;
    qrl_free_aligned(w->packed);
    free(w);
}

static qrl_status cpu_weight_create(qrl_backend *b, const qrl_matrix *m, unsigned use, qrl_weight **out,
                                    qrl_error *err) {
    *out = NULL;
    const qrl_traits *t = qrl_quant_traits(m->type);
    if (m->n_rows == 0 || m->n_cols == 0 || m->n_cols % t->block_values != 0)
        return qrl_fail(err, QRL_ERR_INTERNAL, "a %s matrix of %zu x %zu values cannot be prepared", t->name, m->n_rows,
                        m->n_cols);
    qrl_weight *w = calloc(1, sizeof *w);
    if (!w)
        return qrl_fail_memory(err, "a weight", sizeof *w);
    w->m = *m;
    w->n_groups = (m->n_rows + QRL_GROUP - 1) / QRL_GROUP;
    if ((use & QRL_USE_LINEAR) && b->kernels->gemm) {
        w->group_bytes = qrl_group_bytes(m->type, m->n_cols);
        w->packed = b->measure ? NULL : qrl_alloc_aligned(w->n_groups * w->group_bytes);
        if (!w->packed && !b->measure) {
            const size_t bytes = w->n_groups * w->group_bytes;
            cpu_weight_destroy(b, w);
            return qrl_fail_memory(err, "packed weights", bytes);
        }
        if (w->packed)
            qrl_pool_run(b->pool, w->n_groups, pack_task, &(struct pack_job){w});
        if (!(use & QRL_USE_EMBED))
            w->m.data = NULL;
    }
    *out = w;
    return QRL_OK;
}

static size_t cpu_weight_bytes(const qrl_weight *w) {
    return w->n_groups * w->group_bytes;
}

static bool cpu_weight_borrows(const qrl_weight *w) {
    return w->m.data != NULL;
}

/* A loop over [0, n), cut into pieces. */
struct range_job {
    qrl_range_fn *fn;
    void *context;
    size_t n, grain;
};

static void range_task(void *context, size_t task, int thread) {
    const struct range_job *j = context;
    const size_t from = task * j->grain, to = from + j->grain < j->n ? from + j->grain : j->n;
    j->fn(j->context, from, to, thread);
}

void qrl_cpu_range(qrl_backend *b, size_t n, size_t grain, qrl_range_fn *fn, void *context) {
    /* about four pieces a thread, so that a slow thread does not hold up the rest */
    const size_t even = n / (4 * (size_t)cpu_threads(b)) + 1;
    struct range_job job = {fn, context, n, even > grain ? even : grain};
    qrl_pool_run(b->pool, (n + job.grain - 1) / job.grain, range_task, &job);
}

/* Values an elementwise piece should have at least: about 10 us of work. */
enum { GRAIN = 16384 };

static size_t row_grain(size_t n_cols) {
    return GRAIN / (n_cols ? n_cols : 1) + 1;
}

struct embed_job {
    const qrl_weight *w;
    const int32_t *tokens;
    float *out;
};

static void embed_rows(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct embed_job *j = context;
    const qrl_matrix *m = &j->w->m;
    const size_t row_bytes = qrl_row_bytes(m->type, m->n_cols);
    for (size_t i = from; i < to; i++)
        qrl_decode_row(m->type, m->data + (size_t)j->tokens[i] * row_bytes, j->out + i * m->n_cols, m->n_cols);
}

static void cpu_embed(qrl_backend *b, const qrl_weight *w, const int32_t *tokens, size_t n_tokens, float *out) {
    struct embed_job j = {w, tokens, out};
    qrl_cpu_range(b, n_tokens, row_grain(w->m.n_cols), embed_rows, &j);
}

struct norm_job {
    const qrl_norm_op *op;
    const qrl_kernels *k;
};

static void norm_rows(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct norm_job *j = context;
    const qrl_norm_op *op = j->op;
    const size_t groups = op->groups ? op->groups : 1, n = op->n_cols / groups;
    for (size_t i = from * groups; i < to * groups; i++) {
        const float *x = op->x + i * n;
        float *out = op->out + i * n;
        const size_t own = op->each ? i % groups * n : 0;
        const float *weight = op->weight ? op->weight + own : NULL, *bias = op->bias ? op->bias + own : NULL;
        if (op->kind == QRL_NORM_RMS)
            j->k->norm_rms(x, weight, out, n, op->eps);
        else
            j->k->norm_layer(x, weight, bias, out, n, op->eps);
    }
}

static void cpu_norm(qrl_backend *b, const qrl_norm_op *op) {
    struct norm_job j = {op, b->kernels};
    qrl_cpu_range(b, op->n_rows, row_grain(op->n_cols), norm_rows, &j);
}

struct rope_job {
    const qrl_rope_op *op;
    const qrl_kernels *k;
};

static void rope_rows(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct rope_job *j = context;
    const qrl_rope_op *op = j->op;
    for (size_t r = from; r < to; r++)
        for (size_t h = 0; h < op->n_head; h++)
            j->k->rope(op->kind, op->x + (r * op->n_head + h) * op->head_dim, op->cossin + r * op->n_rot, op->n_rot);
}

static void cpu_rope(qrl_backend *b, const qrl_rope_op *op) {
    qrl_cpu_range(b, op->n_rows, row_grain(op->n_head * op->head_dim), rope_rows, &(struct rope_job){op, b->kernels});
}

struct glu_job {
    const qrl_glu_op *op;
    const qrl_kernels *k;
};

static void glu_range(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct glu_job *j = context;
    const float *gate = j->op->gate ? j->op->gate + from : NULL;
    qrl_cpu_activate(j->k, j->op->act, gate, j->op->up + from, j->op->out + from, to - from);
}

static void cpu_glu(qrl_backend *b, const qrl_glu_op *op) {
    struct glu_job j = {op, b->kernels};
    qrl_cpu_range(b, op->n, GRAIN, glu_range, &j);
}

struct map_job {
    const qrl_map_op *op;
    const qrl_kernels *k;
};

static void map_range(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct map_job *j = context;
    float *x = j->op->x;
    const float a = j->op->a;
    switch (j->op->kind) {
    case QRL_MAP_SCALE:
        for (size_t i = from; i < to; i++)
            x[i] *= a;
        break;
    case QRL_MAP_SOFTCAP:
        j->k->softcap(x + from, x + from, to - from, a);
        break;
    case QRL_MAP_CLAMP:
        for (size_t i = from; i < to; i++)
            x[i] = x[i] > a ? a : x[i] < -a ? -a : x[i];
        break;
    }
}

static void cpu_map(qrl_backend *b, const qrl_map_op *op) {
    qrl_cpu_range(b, op->n, GRAIN, map_range, &(struct map_job){op, b->kernels});
}

struct add_job {
    float *x;
    const float *y;
};

static void add_range(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct add_job *j = context;
    for (size_t i = from; i < to; i++)
        j->x[i] += j->y[i];
}

static void cpu_add(qrl_backend *b, float *x, const float *y, size_t n) {
    qrl_cpu_range(b, n, GRAIN, add_range, &(struct add_job){x, y});
}

/* One vector for all rows (cols), or one number a row. */
struct row_job {
    float *x;
    const float *y;
    size_t n_cols;
};

static void add_row_range(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct row_job *j = context;
    for (size_t r = from; r < to; r++)
        for (size_t c = 0; c < j->n_cols; c++)
            j->x[r * j->n_cols + c] += j->y[c];
}

static void cpu_add_row(qrl_backend *b, float *x, const float *y, size_t n_rows, size_t n_cols) {
    qrl_cpu_range(b, n_rows, row_grain(n_cols), add_row_range, &(struct row_job){x, y, n_cols});
}

static void scale_rows_range(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct row_job *j = context;
    for (size_t r = from; r < to; r++)
        for (size_t c = 0; c < j->n_cols; c++)
            j->x[r * j->n_cols + c] *= j->y[r];
}

static void cpu_scale_rows(qrl_backend *b, float *x, const float *s, size_t n_rows, size_t n_cols) {
    qrl_cpu_range(b, n_rows, row_grain(n_cols), scale_rows_range, &(struct row_job){x, s, n_cols});
}

static void cpu_gather(qrl_backend *b, const float *x, const uint32_t *rows, size_t n, size_t n_cols, float *out) {
    (void)b;
    for (size_t i = 0; i < n; i++)
        memmove(out + i * n_cols, x + rows[i] * n_cols, n_cols * sizeof *out);
}

const qrl_backend_ops qrl_cpu_ops = {
    .name = "cpu",
    .create = cpu_create,
    .destroy = cpu_destroy,
    .threads = cpu_threads,
    .isa = cpu_isa,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .reserve = cpu_reserve,
    .reserved_bytes = cpu_reserved_bytes,
    .weight_create = cpu_weight_create,
    .weight_destroy = cpu_weight_destroy,
    .weight_bytes = cpu_weight_bytes,
    .weight_borrows = cpu_weight_borrows,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .linear = qrl_cpu_linear,
    .ffn = qrl_cpu_ffn,
    .rope = cpu_rope,
    .kv_store = qrl_cpu_kv_store,
    .attention = qrl_cpu_attention,
    .glu = cpu_glu,
    .map = cpu_map,
    .add = cpu_add,
    .add_row = cpu_add_row,
    .scale_rows = cpu_scale_rows,
    .moe_route = qrl_cpu_moe_route,
    .moe_ffn = qrl_cpu_moe_ffn,
    .linear_each = qrl_cpu_linear_each,
    .copy = qrl_cpu_copy_rows,
    .gate_rows = qrl_cpu_gate_rows,
    .conv1d = qrl_cpu_conv1d,
    .ssm_scan = qrl_cpu_ssm_scan,
    .delta = qrl_cpu_delta,
    .gather = cpu_gather,
};
