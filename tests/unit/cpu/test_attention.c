/* Attention in every form: keys and values stored in pieces, then all rows attend; the same bits for every
 * instruction set, thread count and cut, with a page for each position and with a ring of pages; and right
 * against double arithmetic over a plain mask. */
#include "support.h"

#include "base/cpu.h"
#include "cpu/cpu.h"
#include "random.h"

#include <stdio.h>
#include <string.h>

enum { MAX_POS = 2128, MAX_DIM = 192 };

typedef struct attention_case {
    uint32_t n_head, n_head_kv, k_dim, v_dim, n_rows, window;
    float softcap;
    bool chunked, bidirectional, sinks, slopes;
    uint32_t skip; /* rows whose keys are stored but which do not attend, so that long cases are short */
} attention_case;

static const attention_case cases[] = {
    {.n_head = 1, .n_head_kv = 1, .k_dim = 16, .v_dim = 16, .n_rows = 70},
    {.n_head = 8, .n_head_kv = 2, .k_dim = 64, .v_dim = 64, .n_rows = 45},
    {.n_head = 6, .n_head_kv = 6, .k_dim = 24, .v_dim = 24, .n_rows = 33},
    {.n_head = 4, .n_head_kv = 1, .k_dim = 20, .v_dim = 12, .n_rows = 100},
    {.n_head = 3, .n_head_kv = 3, .k_dim = 7, .v_dim = 5, .n_rows = 9},
    {.n_head = 16, .n_head_kv = 2, .k_dim = 32, .v_dim = 48, .n_rows = 40},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 80, .v_dim = 160, .n_rows = 40},
    {.n_head = 3, .n_head_kv = 1, .k_dim = 128, .v_dim = 192, .n_rows = 35},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 70, .softcap = 5},
    {.n_head = 5, .n_head_kv = 1, .k_dim = 16, .v_dim = 16, .n_rows = 70, .slopes = true},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 20, .n_rows = 50, .sinks = true},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 75, .bidirectional = true},
    {.n_head = 4, .n_head_kv = 4, .k_dim = 16, .v_dim = 16, .n_rows = 75, .bidirectional = true, .slopes = true},
    /* contexts many times the window; windows within a page, of a page, across pages */
    {.n_head = 2, .n_head_kv = 1, .k_dim = 16, .v_dim = 16, .n_rows = 700, .window = 1},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 700, .window = 16},
    {.n_head = 2, .n_head_kv = 2, .k_dim = 8, .v_dim = 8, .n_rows = 700, .window = 32},
    {.n_head = 2, .n_head_kv = 1, .k_dim = 8, .v_dim = 24, .n_rows = 700, .window = 75},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 700, .window = 40, .chunked = true},
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 300, .window = 33, .softcap = 3},
    {.n_head = 8, .n_head_kv = 2, .k_dim = 16, .v_dim = 16, .n_rows = 300, .window = 20, .sinks = true},
    {.n_head = 4,
     .n_head_kv = 1,
     .k_dim = 16,
     .v_dim = 16,
     .n_rows = 300,
     .window = 64,
     .softcap = 9,
     .sinks = true,
     .slopes = true},
    /* several segments (of 256 positions): of few rows they are given out one by one, and here in rounds too */
    {.n_head = 4, .n_head_kv = 2, .k_dim = 16, .v_dim = 24, .n_rows = 620, .sinks = true, .skip = 590},
    {.n_head = 3, .n_head_kv = 1, .k_dim = 16, .v_dim = 16, .n_rows = 600, .window = 300, .skip = 570},
    {.n_head = 2, .n_head_kv = 1, .k_dim = 8, .v_dim = 8, .n_rows = 270, .bidirectional = true},
    {.n_head = 32, .n_head_kv = 1, .k_dim = 8, .v_dim = 8, .n_rows = 2100, .skip = 2094},
};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct inputs {
    float *q, *k, *v, *sinks, *slopes;
} inputs;

/* Of keys and values. */
typedef struct cache_types {
    qrl_kv_type k, v;
} cache_types;

/* ring: pages of it, 0: a page for each position. */
static float *run(qrl_isa isa, int threads, const attention_case *c, cache_types type, uint32_t chunk, uint32_t ring,
                  const inputs *in) {
    const uint32_t n_pages = ring ? ring : (c->n_rows + QRL_PAGE - 1) / QRL_PAGE;
    uint32_t pages[MAX_POS / QRL_PAGE + 2];
    assert_true(n_pages <= sizeof pages / sizeof *pages);
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = n_pages - 1 - i; /* out of order, as a pool hands them out */
    const size_t bytes =
        n_pages * c->n_head_kv * (qrl_kv_key_bytes(type.k, c->k_dim) + qrl_kv_value_bytes(type.v, c->v_dim));
    float *data = malloc(bytes), *out = calloc(c->n_rows * c->n_head * c->v_dim, sizeof *out);
    assert_true(data && out);
    memset(data, 0xff, bytes); /* NaN: what was not stored must not be used */
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = threads, .isa = isa}, &b, &err), &err);
    const size_t dim = c->k_dim > c->v_dim ? c->k_dim : c->v_dim;
    assert_ok(qrl_cpu_ops.reserve(b, &(qrl_reserve){.max_rows = c->n_rows, .max_cols = 32, .max_head_dim = dim}, &err),
              &err);
    const qrl_kv_layer kv = {.data = data,
                             .n_head_kv = c->n_head_kv,
                             .k_dim = c->k_dim,
                             .v_dim = c->v_dim,
                             .ring = ring,
                             .type_k = type.k,
                             .type_v = type.v};
    for (uint32_t from = 0; from < c->n_rows; from += chunk) {
        const uint32_t n = c->n_rows - from < chunk ? c->n_rows - from : chunk;
        const uint32_t at = from > c->skip ? from : c->skip;
        qrl_span span = {.n_rows = n, .pos = from, .pages = ring ? NULL : pages, .ring = ring ? pages : NULL};
        const float *k = in->k + (size_t)from * c->n_head_kv * c->k_dim;
        const float *v = in->v + (size_t)from * c->n_head_kv * c->v_dim;
        const bool all = at == from; /* every row attends: then attention stores them */
        if (!all)
            qrl_cpu_ops.kv_store(b, &(qrl_kv_store_op){kv, k, v, &span, 1});
        if (from + n <= at)
            continue;
        span.n_rows = from + n - at;
        span.pos = at;
        qrl_cpu_ops.attention(b, &(qrl_attention_op){.kv = kv,
                                                     .k = all ? k : NULL,
                                                     .v = v,
                                                     .q = in->q + (size_t)at * c->n_head * c->k_dim,
                                                     .out = out + (size_t)at * c->n_head * c->v_dim,
                                                     .spans = &span,
                                                     .n_spans = 1,
                                                     .n_head = c->n_head,
                                                     .scale = 0.125f,
                                                     .softcap = c->softcap,
                                                     .window = c->window,
                                                     .chunked = c->chunked,
                                                     .bidirectional = c->bidirectional,
                                                     .sinks = c->sinks ? in->sinks : NULL,
                                                     .slopes = c->slopes ? in->slopes : NULL});
    }
    qrl_cpu_ops.destroy(b);
    free(data);
    return out;
}

/* The least ring for steps of chunk rows. */
static uint32_t ring_for(const attention_case *c, uint32_t chunk) {
    return (c->window - 1 + chunk + QRL_PAGE - 2) / QRL_PAGE + 1;
}

static bool sees(const attention_case *c, uint32_t row, uint32_t key) {
    if (key > row && !c->bidirectional)
        return false;
    if (c->window && c->chunked)
        return key / c->window == row / c->window;
    return !c->window || key + c->window > row;
}

/* One row of one head in double; the size that rounding errors are relative to. */
static double reference(const attention_case *c, const inputs *in, uint32_t t, uint32_t h, double *want) {
    const uint32_t g = h / (c->n_head / c->n_head_kv);
    double p[MAX_POS], size = 1, sum = c->sinks ? exp((double)in->sinks[h]) : 0;
    memset(want, 0, MAX_DIM * sizeof *want);
    for (uint32_t j = 0; j < c->n_rows; j++) {
        p[j] = 0;
        if (!sees(c, t, j))
            continue;
        double s = 0, abs_s = 0;
        for (uint32_t d = 0; d < c->k_dim; d++) {
            const double qk = (double)in->q[(t * c->n_head + h) * c->k_dim + d] *
                              (double)in->k[(j * c->n_head_kv + g) * c->k_dim + d];
            s += 0.125 * qk;
            abs_s += 0.125 * fabs(qk);
        }
        if (c->softcap > 0)
            s = (double)c->softcap * tanh(s / (double)c->softcap);
        const double away = fabs((double)j - (double)t) * (c->slopes ? (double)in->slopes[h] : 0);
        size = fmax(size, 1 + abs_s + away); /* e^s turns the rounding of s into a relative error of p */
        sum += p[j] = exp(s - away);
    }
    for (uint32_t d = 0; d < c->v_dim; d++)
        for (uint32_t j = 0; j < c->n_rows; j++)
            if (p[j] > 0)
                want[d] += p[j] / sum * (double)in->v[(j * c->n_head_kv + g) * c->v_dim + d];
    return size;
}

static int check_right(size_t i, const attention_case *c, const inputs *in, const float *spec) {
    int bad = 0;
    for (uint32_t t = c->skip; t < c->n_rows; t++)
        for (uint32_t h = 0; h < c->n_head; h++) {
            double want[MAX_DIM];
            const double size = reference(c, in, t, h, want);
            for (uint32_t d = 0; d < c->v_dim; d++) {
                const double got = (double)spec[(t * c->n_head + h) * c->v_dim + d];
                if (!(fabs(got - want[d]) < 3e-7 * size * (1 + fabs(want[d]))) && bad++ < 3)
                    printf("case %zu, row %u, head %u: %g, not %g\n", i, t, h, got, want[d]);
            }
        }
    return bad;
}

static inputs random_inputs(const attention_case *c) {
    inputs in = {.q = random_floats((size_t)c->n_rows * c->n_head * c->k_dim),
                 .k = random_floats((size_t)c->n_rows * c->n_head_kv * c->k_dim),
                 .v = random_floats((size_t)c->n_rows * c->n_head_kv * c->v_dim),
                 .sinks = random_floats(c->n_head),
                 .slopes = random_floats(c->n_head)};
    for (uint32_t h = 0; h < c->n_head; h++)
        in.slopes[h] = 0.5f / (float)(h + 1);
    return in;
}

static void free_inputs(inputs *in) {
    free(in->q);
    free(in->k);
    free(in->v);
    free(in->sinks);
    free(in->slopes);
}

static void attention_is_right_and_the_same(void **state) {
    (void)state;
    static const cache_types floats = {QRL_KV_F32, QRL_KV_F32};
    static const uint32_t chunks[] = {1, 7, 64, 1000};
    int bad = 0;
    for (size_t i = 0; i < N_CASES; i++) {
        const attention_case *c = &cases[i];
        inputs in = random_inputs(c);
        const size_t row = (size_t)c->n_head * c->v_dim, bytes = (c->n_rows - c->skip) * row * sizeof(float);
        float *spec = run(QRL_ISA_SCALAR, 1, c, floats, 1000, 0, &in);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (size_t j = 0; j < (c->bidirectional ? 1 : 4); j++)
                for (int threads = 1; threads <= 3; threads += c->n_rows > 100 && !c->skip ? 2 : 1)
                    for (int ring = 0; ring <= (c->window > 0); ring++) {
                        /* a chunk of all positions would need a ring as long as the context */
                        const uint32_t chunk = c->bidirectional ? c->n_rows : ring && j == 3 ? 100 : chunks[j];
                        float *out = run(isa, threads, c, floats, chunk, ring ? ring_for(c, chunk) : 0, &in);
                        if (memcmp(out + c->skip * row, spec + c->skip * row, bytes) != 0 && bad++ < 10)
                            printf("case %zu, %s, chunk %u, %d threads, %s: other bits\n", i, qrl_isa_name(isa), chunk,
                                   threads, ring ? "ring" : "pages");
                        free(out);
                    }
        bad += check_right(i, c, &in, spec);
        free(spec);
        free_inputs(&in);
    }
    assert_int_equal(bad, 0);
}

/* Packed pages: some forms read them as they lie, others unpack them first; keys and values choose by themselves. */
static void packed_types_too(void **state) {
    (void)state;
    static const cache_types types[] = {{QRL_KV_F16, QRL_KV_F16},   {QRL_KV_Q8_0, QRL_KV_Q8_0},
                                        {QRL_KV_Q4_0, QRL_KV_Q4_0}, {QRL_KV_Q8_0, QRL_KV_Q4_0},
                                        {QRL_KV_F16, QRL_KV_Q8_0},  {QRL_KV_Q8_0, QRL_KV_F32}};
    int bad = 0;
    for (size_t i = 0; i < N_CASES; i++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            const attention_case *c = &cases[i];
            if ((types[t].k == QRL_KV_Q4_0 || types[t].v == QRL_KV_Q4_0) && (c->k_dim % 2 || c->v_dim % 2))
                continue;
            const size_t row = (size_t)c->n_head * c->v_dim;
            inputs in = random_inputs(c);
            float *spec = run(QRL_ISA_SCALAR, 1, c, types[t], 1000, 0, &in);
            for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
                for (uint32_t chunk = 1; chunk < 10; chunk += 6) {
                    float *out = run(isa, 2, c, types[t], c->bidirectional ? c->n_rows : chunk, 0, &in);
                    if (memcmp(out + c->skip * row, spec + c->skip * row, (c->n_rows - c->skip) * row * sizeof *out) !=
                            0 &&
                        bad++ < 10)
                        printf("case %zu, type %zu, %s, chunk %u: other bits\n", i, t, qrl_isa_name(isa), chunk);
                    free(out);
                }
            free(spec);
            free_inputs(&in);
        }
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(attention_is_right_and_the_same),
                                       cmocka_unit_test(packed_types_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
