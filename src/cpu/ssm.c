/* Recurrent layers: what of a convolution, a state space or a delta rule is one task. Rows of a span
 * follow each other, so the tasks are columns or heads, of every span. */
#include "cpu/cpu_int.h"
#include "cpu/ssm_kernels.h"

#include <string.h>

enum {
    CONV_COLUMNS = 256,
    GRAIN = 16384,           /* multiply-adds of a piece, about 5 us of work */
    STATE_FLOATS = 64 * 1024 /* of the heads that go through the rows together: half of a usual second-level cache */
};

static const qrl_ssm_kernels *kernels(const qrl_backend *b) {
    static const qrl_ssm_kernels *const tables[QRL_ISA_COUNT] = {
        [QRL_ISA_SCALAR] = &qrl_ssm_kernels_scalar,
#if defined(__x86_64__)
        [QRL_ISA_AVX2] = &qrl_ssm_kernels_avx2,
        [QRL_ISA_AVXVNNI] = &qrl_ssm_kernels_avx2,
        [QRL_ISA_AVX512] = &qrl_ssm_kernels_avx512,
        [QRL_ISA_AVX512VNNI] = &qrl_ssm_kernels_avx512,
        [QRL_ISA_AMX] = &qrl_ssm_kernels_avx512,
#endif
    };
    return tables[b->isa];
}

/* Of tasks [from, to), n_parts a span, those that can be done in one call: heads of one span. */
static size_t together(size_t from, size_t to, size_t n_parts, size_t floats) {
    const size_t most = STATE_FLOATS / (floats + 1) + 1, left = n_parts - from % n_parts;
    const size_t n = to - from < left ? to - from : left;
    return n < most ? n : most;
}

/* Runs fn over n_spans * n_parts tasks; `work`: multiply-adds of a part for one row. */
static void run(qrl_backend *b, const qrl_span *spans, size_t n_spans, size_t n_parts, size_t work, qrl_range_fn *fn,
                void *context) {
    size_t n_rows = 0;
    for (size_t s = 0; s < n_spans; s++)
        n_rows += spans[s].n_rows;
    const size_t per_task = work * (n_spans ? n_rows / n_spans + 1 : 1);
    qrl_cpu_range(b, n_spans * n_parts, GRAIN / (per_task + 1) + 1, fn, context);
}

/* A span whose state is kept somewhere is two spans, one after the other. Returns how many. */
static size_t parts_of(const qrl_span *span, qrl_span parts[2]) {
    parts[0] = parts[1] = *span;
    if (!span->keep_rows)
        return 1;
    parts[0].n_rows = span->keep_rows;
    parts[1].row += span->keep_rows;
    parts[1].pos += span->keep_rows;
    parts[1].n_rows -= span->keep_rows;
    return 2;
}

/* n floats of a slot from `at` on, behind the first part. */
static void keep(const qrl_span *span, const qrl_state *state, size_t at, size_t n) {
    const float *slot = state->data + span->slot * state->floats;
    memcpy(state->data + span->keep_slot * state->floats + at, slot + at, n * sizeof *slot);
}

struct conv_job {
    const qrl_ssm_kernels *k;
    const qrl_conv1d_op *op;
    size_t n_parts;
};

static void conv_tasks(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct conv_job *j = context;
    for (size_t i = from; i < to; i++) {
        const size_t first = i % j->n_parts * CONV_COLUMNS, left = j->op->n_cols - first;
        const size_t n = left < CONV_COLUMNS ? left : CONV_COLUMNS;
        qrl_span spans[2];
        const size_t n_spans = parts_of(&j->op->spans[i / j->n_parts], spans);
        for (size_t s = 0; s < n_spans; s++) {
            j->k->conv1d(j->op, &spans[s], first, first + n);
            for (size_t row = 0; s + 1 < n_spans && row + 1 < j->op->d_conv; row++)
                keep(&spans[0], &j->op->state, row * j->op->n_cols + first, n);
        }
    }
}

void qrl_cpu_conv1d(qrl_backend *b, const qrl_conv1d_op *op) {
    struct conv_job j = {kernels(b), op, (op->n_cols + CONV_COLUMNS - 1) / CONV_COLUMNS};
    run(b, op->spans, op->n_spans, j.n_parts, (size_t)CONV_COLUMNS * (op->d_conv + 4), conv_tasks, &j);
}

struct scan_job {
    const qrl_ssm_kernels *k;
    const qrl_ssm_scan_op *op;
    size_t n_parts;
};

static void scan_tasks(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct scan_job *j = context;
    for (size_t i = from, n; i < to; i += n) {
        const size_t part = i % j->n_parts, width = j->op->own_decay ? QRL_SSM_TILE : j->op->head_dim;
        const size_t floats = width * j->op->d_state; /* of a part; the last may have fewer */
        n = together(i, to, j->n_parts, floats);
        qrl_span spans[2];
        const size_t n_spans = parts_of(&j->op->spans[i / j->n_parts], spans);
        for (size_t s = 0; s < n_spans; s++) {
            (j->op->own_decay ? j->k->scan_own : j->k->scan)(j->op, &spans[s], part, part + n);
            const size_t left = j->op->state.floats - part * floats;
            if (s + 1 < n_spans)
                keep(&spans[0], &j->op->state, part * floats, n * floats < left ? n * floats : left);
        }
    }
}

void qrl_cpu_ssm_scan(qrl_backend *b, const qrl_ssm_scan_op *op) {
    struct scan_job j = {kernels(b), op, op->own_decay ? (op->n_head + QRL_SSM_TILE - 1) / QRL_SSM_TILE : op->n_head};
    /* an exponential costs about eight multiply-adds */
    const size_t work = op->d_state * (op->own_decay ? (size_t)QRL_SSM_TILE * 8 : op->head_dim * 2);
    run(b, op->spans, op->n_spans, j.n_parts, work, scan_tasks, &j);
}

struct delta_job {
    const qrl_ssm_kernels *k;
    const qrl_delta_op *op;
};

static void delta_tasks(void *context, size_t from, size_t to, int thread) {
    (void)thread;
    const struct delta_job *j = context;
    for (size_t i = from, n; i < to; i += n) {
        const size_t n_head = j->op->n_head, head = i % n_head;
        const size_t floats = j->op->k_dim * j->op->v_dim;
        n = together(i, to, n_head, floats);
        qrl_span spans[2];
        const size_t n_spans = parts_of(&j->op->spans[i / n_head], spans);
        for (size_t s = 0; s < n_spans; s++) {
            j->k->delta(j->op, &spans[s], head, head + n);
            if (s + 1 < n_spans)
                keep(&spans[0], &j->op->state, head * floats, n * floats);
        }
    }
}

void qrl_cpu_delta(qrl_backend *b, const qrl_delta_op *op) {
    struct delta_job j = {kernels(b), op};
    run(b, op->spans, op->n_spans, op->n_head, op->k_dim * op->v_dim * 4, delta_tasks, &j);
}
