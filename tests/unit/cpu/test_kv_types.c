/* Types of the key-value cache: what is stored comes back within half a step of its block, the same bits
 * with every instruction set, and attention over packed pages is attention over what they hold. */
#include "support.h"

#include "base/half.h"
#include "base/rng.h"
#include "cpu/cpu.h"
#include "cpu/kv_pages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t n_heads = 2;
enum { N_POS = 70, N_PAGES = 3, MAX_DIM = 160, HEADS = 2, GROUP = 2 };

static const struct { size_t k_dim, v_dim; } shapes[] = {{8, 8}, {32, 32}, {64, 64}, {80, 80}, {128, 160}, {6, 2}};
static const char *const names[] = {"f16", "f32", "q8_0", "q4_0"};

static float unit(uint64_t i) {
    return (float)(2 * qrl_rng_unit(3, i) - 1);
}

static void make_backend(qrl_isa isa, int threads, const qrl_backend_ops **ops, qrl_backend **b) {
    qrl_error err;
    const qrl_backend_params params = {.n_threads = threads, .isa = isa};
    const qrl_reserve reserve = {.max_rows = N_POS, .max_cols = 64, .max_head_dim = MAX_DIM};
    *ops = &qrl_cpu_ops;
    assert_ok((*ops)->create(&params, b, &err), &err);
    assert_ok((*ops)->reserve(*b, &reserve, &err), &err);
}

typedef struct data {
    float k[N_POS * HEADS * MAX_DIM], v[N_POS * HEADS * MAX_DIM];
    float q[N_POS * HEADS * GROUP * MAX_DIM], out[N_POS * HEADS * GROUP * MAX_DIM];
} data;

static data *make_data(void) {
    data *d = calloc(1, sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < sizeof d->k / sizeof *d->k; i++) {
        d->k[i] = unit(2 * i) * (i % 13 == 0 ? 20.0f : 1.0f);
        d->v[i] = unit(2 * i + 1);
        d->q[i] = unit(i + 1000000);
    }
    return d;
}

static const uint32_t pages[N_PAGES] = {2, 0, 1};
static const qrl_span span = {.row = 0, .n_rows = N_POS, .pos = 0, .pages = pages};

static qrl_kv_layer make_cache(qrl_kv_type type, size_t s) {
    qrl_kv_layer kv = {.n_head_kv = HEADS,
                       .k_dim = (uint32_t)shapes[s].k_dim,
                       .v_dim = (uint32_t)shapes[s].v_dim,
                       .type_k = type,
                       .type_v = type};
    kv.data = calloc(N_PAGES * n_heads, qrl_kv_key_bytes(type, kv.k_dim) + qrl_kv_value_bytes(type, kv.v_dim));
    assert_non_null(kv.data);
    return kv;
}

/* Keys and values into the cache and attention over it, chunk rows at a time. */
static void attend(const qrl_backend_ops *ops, qrl_backend *b, data *d, const qrl_kv_layer *kv, uint32_t chunk) {
    memset(d->out, 0, sizeof d->out);
    for (uint32_t pos = 0; pos < N_POS; pos += chunk) {
        const qrl_span part = {.n_rows = N_POS - pos < chunk ? N_POS - pos : chunk, .pos = pos, .pages = pages};
        ops->attention(b, &(qrl_attention_op){.kv = *kv,
                                              .k = d->k + (size_t)pos * HEADS * kv->k_dim,
                                              .v = d->v + (size_t)pos * HEADS * kv->v_dim,
                                              .q = d->q + (size_t)pos * HEADS * GROUP * kv->k_dim,
                                              .out = d->out + (size_t)pos * HEADS * GROUP * kv->v_dim,
                                              .spans = &part,
                                              .n_spans = 1,
                                              .n_head = HEADS * GROUP,
                                              .scale = 0.2f});
    }
}

/* How far a value may be off: half a step of its block of turned values, for 8 bits. */
static double allowed(qrl_kv_type type, bool keys, const float *turned, size_t dim, size_t i) {
    const size_t block = type == QRL_KV_Q8_0 && !keys ? dim % 128 == 0 ? 128 : dim % 64 == 0 ? 64 : 32 : 32;
    float most = 0;
    for (size_t k = i / block * block; k < dim && k < i / block * block + block; k++)
        most = fabsf(turned[k]) > most ? fabsf(turned[k]) : most;
    switch (type) {
    case QRL_KV_F16:
        return fabs((double)turned[i]) * 0x1p-11 + 0x1p-25;
    case QRL_KV_Q8_0:
        return (double)most * (0.5 / 127 + 0x1p-11);
    case QRL_KV_Q4_0: /* the greatest may be 9 steps, and the end that 7 does not reach two steps off */
        return (double)most * (2.0 / 9 + 0.03);
    default:
        return 0;
    }
}

static float half_at(const unsigned char *p, size_t i) {
    uint16_t h;
    memcpy(&h, p + 2 * i, 2);
    return qrl_f16_to_f32(h);
}

/* A head's keys or values of Q8_0 of a page as backend.h describes them: out as the kernels' unpack_kv has it. */
static void unpack_q8(bool keys, const unsigned char *page, size_t dim, float *out) {
    const size_t block = keys ? 32 : dim % 128 == 0 ? 128 : dim % 64 == 0 ? 64 : 32;
    const unsigned char *scale = page + QRL_PAGE * (keys ? (dim + 3) / 4 * 4 : dim);
    /* positions of values by four and place */
    static const uint8_t order[8][4] = {{0, 8, 4, 12},    {1, 9, 5, 13},    {2, 10, 6, 14},   {3, 11, 7, 15},
                                        {16, 24, 20, 28}, {17, 25, 21, 29}, {18, 26, 22, 30}, {19, 27, 23, 31}};
    for (size_t d = 0; d < dim; d++)
        for (size_t i = 0; i < QRL_PAGE; i++) {
            const size_t j = keys ? i : order[i / 4][i % 4];
            const size_t at = keys ? (d / 4 * QRL_PAGE + i) * 4 + d % 4 : (i / 4 * dim + d) * 4 + i % 4;
            const float x = (float)(int8_t)(page[at] ^ (keys ? 128 : 0)) * half_at(scale, d / block * QRL_PAGE + j);
            out[keys ? d * QRL_PAGE + j : j * dim + d] = x;
        }
}

/* What the cache holds of a head at the page of a position: [dim][QRL_PAGE] keys, [QRL_PAGE][dim] values. */
static void read_page(const qrl_backend *b, const qrl_kv_layer *kv, size_t pos, size_t h, bool keys, float *out) {
    const size_t dim = keys ? kv->k_dim : kv->v_dim;
    const qrl_kv_type type = keys ? kv->type_k : kv->type_v;
    const unsigned char *at = qrl_kv_page(kv, &span, pos, h) + (keys ? 0 : qrl_kv_key_bytes(kv->type_k, kv->k_dim));
    if (type == QRL_KV_Q8_0)
        unpack_q8(keys, at, dim, out);
    else
        b->kernels->unpack_kv(type, keys, at, dim, out);
}

static void check_values(const qrl_backend *b, const qrl_kv_layer *kv, const data *d, bool keys, size_t *bad) {
    const size_t dim = keys ? kv->k_dim : kv->v_dim;
    const qrl_kv_type type = keys ? kv->type_k : kv->type_v;
    float out[QRL_PAGE * MAX_DIM], turned[MAX_DIM];
    for (size_t pos = 0; pos < N_POS; pos++)
        for (size_t h = 0; h < HEADS; h++) {
            read_page(b, kv, pos, h, keys, out);
            memcpy(turned, (keys ? d->k : d->v) + (pos * HEADS + h) * dim, dim * sizeof *turned);
            if (qrl_kv_rotates(type))
                qrl_kernels_scalar.rotate(turned, dim);
            for (size_t i = 0; i < dim; i++) {
                const size_t j = pos % QRL_PAGE;
                const double x = (double)out[keys ? i * QRL_PAGE + j : j * dim + i];
                if (!(fabs(x - (double)turned[i]) <= allowed(type, keys, turned, dim, i)))
                    (*bad)++;
            }
        }
}

static void test_values(void **state) {
    (void)state;
    const qrl_backend_ops *ops;
    qrl_backend *b;
    data *d = make_data();
    make_backend(qrl_isa_best(), 2, &ops, &b);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int type = 0; type < (int)QRL_KV_TYPE_COUNT; type++) {
            if (type == QRL_KV_F32) /* nothing to unpack */
                continue;
            qrl_kv_layer kv = make_cache((qrl_kv_type)type, s);
            attend(ops, b, d, &kv, type % 2 ? N_POS : 1);
            size_t bad = 0;
            check_values(b, &kv, d, true, &bad);
            check_values(b, &kv, d, false, &bad);
            if (bad)
                fail_msg("%s, dims %zu and %zu: %zu values are too far off", names[type], shapes[s].k_dim,
                         shapes[s].v_dim, bad);
            free(kv.data);
        }
    ops->destroy(b);
    free(d);
}

static void test_attention(void **state) {
    (void)state;
    /* relative squared distance from attention with F32 */
    static const double limits[] = {[QRL_KV_F16] = 1e-6, [QRL_KV_F32] = 0, [QRL_KV_Q8_0] = 3e-4, [QRL_KV_Q4_0] = 3e-2};
    static const qrl_kv_type order[] = {QRL_KV_F32, QRL_KV_F16, QRL_KV_Q8_0, QRL_KV_Q4_0};
    data *d = make_data();
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const size_t n = N_POS * GROUP * n_heads * shapes[s].v_dim;
        float *exact = calloc(n, sizeof *exact), *first = calloc(n, sizeof *first);
        assert_true(exact && first);
        for (size_t t = 0; t < sizeof order / sizeof *order; t++)
            for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
                const qrl_backend_ops *ops;
                qrl_backend *b;
                const qrl_kv_type type = order[t];
                make_backend(isa, 1 + (int)isa % 3, &ops, &b);
                qrl_kv_layer kv = make_cache(type, s);
                attend(ops, b, d, &kv, N_POS);
                if (isa == 0)
                    memcpy(first, d->out, n * sizeof *first);
                if (isa == 0 && type == QRL_KV_F32)
                    memcpy(exact, d->out, n * sizeof *exact);
                assert_memory_equal(first, d->out, n * sizeof *first);
                attend(ops, b, d, &kv, 1); /* row by row */
                assert_memory_equal(first, d->out, n * sizeof *first);
                double error = 0, total = 0;
                for (size_t i = 0; i < n; i++) {
                    error += pow((double)d->out[i] - (double)exact[i], 2);
                    total += pow((double)exact[i], 2);
                }
                if (!(error <= limits[type] * total))
                    fail_msg("%s, dims %zu and %zu: off by %g", names[type], shapes[s].k_dim, shapes[s].v_dim,
                             error / total);
                free(kv.data);
                ops->destroy(b);
            }
        free(exact);
        free(first);
    }
    free(d);
}

/* One row of a head over a Q8_0 cache in double arithmetic, in the space where rows are turned: over what the cache
 * holds, with the query as it was. limit: what rounding queries and weights can do. Returns nothing: want, limit
 * [v_dim].
 *
 * A score is off by half a step of the query for each key's magnitude; weights by half a step of the largest sum of
 * four in the page, which is at most four times its largest. */
static void attend_exactly(const qrl_backend *b, const qrl_kv_layer *kv, const float *q, size_t pos, size_t head,
                           double *want, double *limit) {
    static float k[QRL_PAGE * MAX_DIM], v[QRL_PAGE * MAX_DIM];
    float turned[MAX_DIM];
    double s[N_POS], most = -1e30, off = 0, total = 0, size[MAX_DIM] = {0};
    memcpy(turned, q, kv->k_dim * sizeof *q);
    qrl_kernels_scalar.rotate(turned, kv->k_dim);
    for (size_t j = 0; j <= pos; j++) {
        double error = 0;
        read_page(b, kv, j, head, true, k);
        s[j] = 0;
        for (size_t d = 0; d < kv->k_dim; d++) {
            double step = 0;
            for (size_t i = d / 32 * 32; i < kv->k_dim && i < d / 32 * 32 + 32; i++) {
                const float next = i % 2 == 0 && i + 1 < kv->k_dim ? turned[i + 1] : 0.0f;
                step = fmax(step, fmax(fabs((double)turned[i]), fabs((double)turned[i] + (double)next)) / 127);
            }
            const double x = (double)k[d * QRL_PAGE + j % QRL_PAGE];
            s[j] += 0.2 * (double)turned[d] * x;
            error += 0.2 * step / 2 * fabs(x);
        }
        most = fmax(most, s[j]);
        off = fmax(off, error);
    }
    memset(want, 0, kv->v_dim * sizeof *want);
    memset(limit, 0, kv->v_dim * sizeof *limit);
    for (size_t j = 0; j <= pos; j++)
        total += exp(s[j] - most);
    for (size_t page = 0; page <= pos; page += QRL_PAGE) {
        const size_t end = page + QRL_PAGE < pos + 1 ? page + QRL_PAGE : pos + 1;
        read_page(b, kv, page, head, false, v);
        for (size_t d = 0; d < kv->v_dim; d++) {
            const size_t block = kv->v_dim % 128 == 0 ? 128 : kv->v_dim % 64 == 0 ? 64 : 32;
            double weight = 0, steps = 0;
            for (size_t j = page; j < end; j++) {
                const double p = exp(s[j] - most) / total;
                double scale = 0; /* a step of the value at least, 127 of them at most */
                for (size_t i = d / block * block; i < kv->v_dim && i < d / block * block + block; i++)
                    scale = fmax(scale, fabs((double)v[(j - page) * kv->v_dim + i]) / 127);
                const double x = (double)v[(j - page) * kv->v_dim + d];
                want[d] += p * x;
                size[d] += p * fabs(x);
                weight = fmax(weight, 4 * p * scale);
                steps += scale > 0 ? fabs(x) / scale : 0;
            }
            limit[d] += weight * exp(2 * off) / 255 / 2 * steps;
        }
    }
    for (size_t d = 0; d < kv->v_dim; d++)
        limit[d] += (exp(2 * off) - 1) * size[d] + 1e-5;
}

static void test_against_doubles(void **state) {
    (void)state;
    const qrl_backend_ops *ops;
    qrl_backend *b;
    data *d = make_data();
    make_backend(QRL_ISA_SCALAR, 1, &ops, &b);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        qrl_kv_layer kv = make_cache(QRL_KV_Q8_0, s);
        double want[MAX_DIM], limit[MAX_DIM], error = 0, total = 0;
        attend(ops, b, d, &kv, N_POS);
        for (size_t row = 0; row < N_POS * HEADS * GROUP; row++) {
            const size_t pos = row / (HEADS * GROUP), head = row % (HEADS * GROUP) / GROUP;
            float *out = d->out + row * kv.v_dim;
            attend_exactly(b, &kv, d->q + row * kv.k_dim, pos, head, want, limit);
            qrl_kernels_scalar.rotate(out, kv.v_dim);
            for (size_t i = 0; i < kv.v_dim; i++) {
                error += pow((double)out[i] - want[i], 2);
                total += pow(want[i], 2);
                if (!(fabs((double)out[i] - want[i]) <= limit[i]))
                    fail_msg("dims %zu and %zu, row %zu, value %zu: %g, not %g +- %g", shapes[s].k_dim, shapes[s].v_dim,
                             row, i, (double)out[i], want[i], limit[i]);
            }
        }
        /* rounding errors have both signs, so the sums are much closer than their limits */
        if (!(error <= 2e-4 * total))
            fail_msg("dims %zu and %zu: off by %g", shapes[s].k_dim, shapes[s].v_dim, error / total);
        free(kv.data);
    }
    ops->destroy(b);
    free(d);
}

/* What is broken stays broken. */
static void test_broken(void **state) {
    (void)state;
    const qrl_backend_ops *ops;
    qrl_backend *b;
    data *d = make_data();
    make_backend(qrl_isa_best(), 1, &ops, &b);
    const struct {
        const char *what;
        float *at, x;
    } wrong[] = {
        {"value", &d->v[5], INFINITY}, {"value", &d->v[5], -INFINITY}, {"value", &d->v[5], NAN},
        {"key", &d->k[5], NAN},        {"query", &d->q[5], NAN},
    };
    for (int type = 0; type < (int)QRL_KV_TYPE_COUNT; type++)
        for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
            const float before = *wrong[w].at;
            *wrong[w].at = wrong[w].x;
            qrl_kv_layer kv = make_cache((qrl_kv_type)type, 1);
            attend(ops, b, d, &kv, N_POS);
            if (isfinite(d->out[5]))
                fail_msg("%s: a %s of %g became a number", names[type], wrong[w].what, (double)wrong[w].x);
            *wrong[w].at = before;
            free(kv.data);
        }
    ops->destroy(b);
    free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_attention),
                                       cmocka_unit_test(test_against_doubles), cmocka_unit_test(test_broken)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
