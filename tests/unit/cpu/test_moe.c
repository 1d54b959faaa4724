/* Mixtures of experts: the router against double arithmetic and rules told one by one; experts and
 * heads' matrices, in every type, instruction set, thread and row count, against the same computed
 * expert by expert and row by row with the scalar set: equal to the bit. */
#include "random.h"

#include "base/cpu.h"
#include "cpu/cpu.h"
#include "cpu/cpu_int.h"

#include <stdio.h>
#include <string.h>

enum { MAX_EXPERTS = 16, MAX_USED = 4 };

static qrl_backend *backend(qrl_isa isa, int threads, size_t rows, size_t cols, size_t ff) {
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = threads, .isa = isa}, &b, &err), &err);
    assert_ok(qrl_cpu_ops.reserve(b,
                                  &(qrl_reserve){.max_rows = rows,
                                                 .max_cols = cols > ff ? cols : ff,
                                                 .max_head_dim = 16,
                                                 .max_experts = MAX_EXPERTS,
                                                 .max_experts_used = MAX_USED,
                                                 .max_expert_cols = cols,
                                                 .max_expert_ff = ff,
                                                 .max_each_cols = cols},
                                  &err),
              &err);
    return b;
}

/* ---- the router ---- */

typedef struct route_case {
    const char *name;
    qrl_route_kind kind;
    size_t n_expert, n_used, n_group, n_group_used;
    bool bias, normalize;
    float scale;
} route_case;

static const route_case route_cases[] = {
    {"softmax", QRL_ROUTE_SOFTMAX, 16, 4, 0, 0, false, false, 0.0f},
    {"softmax, normalized", QRL_ROUTE_SOFTMAX, 16, 4, 0, 0, false, true, 0.0f},
    {"softmax, one expert", QRL_ROUTE_SOFTMAX, 7, 1, 1, 1, false, true, 1.0f},
    {"sigmoid, biased, normalized, scaled", QRL_ROUTE_SIGMOID, 16, 4, 1, 1, true, true, 2.5f},
    {"sigmoid, groups", QRL_ROUTE_SIGMOID, 16, 3, 4, 2, true, true, 2.5f},
    {"softmax, groups of one", QRL_ROUTE_SOFTMAX, 8, 3, 8, 4, false, false, 16.0f},
    {"softmax, scaled", QRL_ROUTE_SOFTMAX, 5, 4, 0, 0, false, false, 3.0f},
    {"chosen, then softmax", QRL_ROUTE_SOFTMAX_CHOSEN, 16, 4, 0, 0, false, false, 0.0f},
    {"all experts", QRL_ROUTE_SOFTMAX_CHOSEN, 4, 4, 0, 0, false, false, 0.0f},
};

/* The rules in double arithmetic, in the plainest way. */
static void route_plainly(const route_case *c, const float *logits, const float *bias, uint32_t *expert,
                          double *weight) {
    double p[MAX_EXPERTS], score[MAX_EXPERTS], sum = 0;
    for (size_t i = 0; i < c->n_expert; i++) {
        const double x = (double)logits[i];
        p[i] = c->kind == QRL_ROUTE_SIGMOID ? 1 / (1 + exp(-x)) : exp(x);
        sum += c->kind == QRL_ROUTE_SIGMOID ? 0 : p[i];
    }
    for (size_t i = 0; i < c->n_expert; i++) {
        if (c->kind != QRL_ROUTE_SIGMOID)
            p[i] /= sum;
        score[i] = p[i] + (c->bias ? (double)bias[i] : 0);
    }
    if (c->n_group > 1) {
        const size_t each = c->n_expert / c->n_group;
        double of[MAX_EXPERTS];
        bool kept[MAX_EXPERTS] = {false};
        for (size_t g = 0; g < c->n_group; g++) {
            double one = -INFINITY, two = -INFINITY;
            for (size_t i = g * each; i < (g + 1) * each; i++) {
                two = fmax(two, fmin(one, score[i]));
                one = fmax(one, score[i]);
            }
            of[g] = each > 1 ? one + two : one;
        }
        for (size_t n = 0; n < c->n_group_used; n++) {
            size_t best = 0;
            while (kept[best])
                best++;
            for (size_t g = 0; g < c->n_group; g++)
                if (!kept[g] && of[g] > of[best])
                    best = g;
            kept[best] = true;
        }
        for (size_t i = 0; i < c->n_expert; i++)
            if (!kept[i / each])
                score[i] = -INFINITY;
    }
    double total = 0;
    for (size_t k = 0; k < c->n_used; k++) {
        size_t best = 0;
        for (size_t i = 1; i < c->n_expert; i++)
            if (score[i] > score[best])
                best = i;
        expert[k] = (uint32_t)best;
        weight[k] = p[best];
        total += p[best];
        score[best] = -INFINITY;
    }
    for (size_t k = 0; k < c->n_used; k++) {
        if (c->normalize || c->kind == QRL_ROUTE_SOFTMAX_CHOSEN)
            weight[k] /= total;
        if (c->scale != 0.0f)
            weight[k] *= (double)c->scale;
    }
}

static void run_route(qrl_isa isa, int threads, const route_case *c, const float *logits, const float *bias,
                      size_t n_rows, uint32_t *expert, float *weight, uint64_t *counts) {
    qrl_backend *b = backend(isa, threads, n_rows, 32, 32);
    qrl_cpu_ops.moe_route(b, &(qrl_moe_route_op){.kind = c->kind,
                                                 .logits = logits,
                                                 .bias = c->bias ? bias : NULL,
                                                 .expert = expert,
                                                 .weight = weight,
                                                 .counts = counts,
                                                 .n_rows = n_rows,
                                                 .n_expert = c->n_expert,
                                                 .n_used = c->n_used,
                                                 .n_group = c->n_group,
                                                 .n_group_used = c->n_group_used,
                                                 .normalize = c->normalize,
                                                 .scale = c->scale});
    qrl_cpu_ops.destroy(b);
}

static void routes_are_right_and_the_same(void **state) {
    (void)state;
    enum { ROWS = 3000 };
    for (size_t i = 0; i < sizeof route_cases / sizeof *route_cases; i++) {
        const route_case *c = &route_cases[i];
        float *logits = random_floats(ROWS * c->n_expert), bias[MAX_EXPERTS];
        for (size_t e = 0; e < MAX_EXPERTS; e++)
            bias[e] = 0.1f * rng_float();
        uint32_t spec[ROWS * MAX_USED], expert[ROWS * MAX_USED];
        float spec_weight[ROWS * MAX_USED], weight[ROWS * MAX_USED];
        uint64_t counts[MAX_EXPERTS] = {0}, seen[MAX_EXPERTS] = {0};
        run_route(QRL_ISA_SCALAR, 1, c, logits, bias, ROWS, spec, spec_weight, counts);
        for (size_t r = 0; r < ROWS; r++) {
            uint32_t want[MAX_USED];
            double want_weight[MAX_USED];
            route_plainly(c, logits + r * c->n_expert, bias, want, want_weight);
            for (size_t k = 0; k < c->n_used; k++) {
                const size_t at = r * c->n_used + k;
                seen[spec[at]]++;
                if (spec[at] != want[k] || !(fabs((double)spec_weight[at] - want_weight[k]) < 2e-6 * want_weight[k]))
                    fail_msg("%s: row %zu, rank %zu: expert %u with %.9g, not %u with %.9g", c->name, r, k, spec[at],
                             (double)spec_weight[at], want[k], want_weight[k]);
            }
        }
        assert_memory_equal(counts, seen, sizeof seen);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (int threads = 1; threads <= 3; threads++) {
                run_route(isa, threads, c, logits, bias, ROWS, expert, weight, NULL);
                assert_memory_equal(expert, spec, ROWS * c->n_used * sizeof *spec);
                assert_memory_equal(weight, spec_weight, ROWS * c->n_used * sizeof *weight);
            }
        /* a row alone */
        run_route(qrl_isa_best(), 2, c, logits + 7 * c->n_expert, bias, 1, expert, weight, NULL);
        assert_memory_equal(expert, spec + 7 * c->n_used, c->n_used * sizeof *spec);
        assert_memory_equal(weight, spec_weight + 7 * c->n_used, c->n_used * sizeof *weight);
        free(logits);
    }
}

/* Logits whose choice is told by the rule alone. */
static void ties_and_failures(void **state) {
    (void)state;
    static const struct {
        const char *what;
        qrl_route_kind kind;
        float logits[6];
        uint32_t expert[3];
        bool nan;
    } cases[] = {
        {"equal logits: the lower id", QRL_ROUTE_SOFTMAX, {1, 2, 2, 1, 2, 1}, {1, 2, 4}, false},
        {"all equal", QRL_ROUTE_SIGMOID, {0, 0, 0, 0, 0, 0}, {0, 1, 2}, false},
        {"saturated sigmoids are still told apart", QRL_ROUTE_SIGMOID, {40, 41, 50, 45, 42, 43}, {2, 3, 5}, false},
        {"nothing but -infinity",
         QRL_ROUTE_SOFTMAX_CHOSEN,
         {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
         {0, 1, 2},
         true},
        {"NaN comes first and stays", QRL_ROUTE_SOFTMAX, {1, 2, 3, NAN, 5, 6}, {3, 5, 4}, true},
        {"NaN, sigmoid", QRL_ROUTE_SIGMOID, {1, 2, 3, NAN, 5, 6}, {3, 5, 4}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const route_case c = {cases[i].what, cases[i].kind, 6, 3, 0, 0, false, true, 0.0f};
        uint32_t expert[3];
        float weight[3];
        run_route(QRL_ISA_SCALAR, 1, &c, cases[i].logits, NULL, 1, expert, weight, NULL);
        for (int k = 0; k < 3; k++)
            if (expert[k] != cases[i].expert[k] || (cases[i].nan != (bool)isnan(weight[0])))
                fail_msg("%s: rank %d is expert %u with weight %g", cases[i].what, k, expert[k], (double)weight[k]);
    }
}

/* Weights whose sum is below 2^-14 are divided by 2^-14. */
static void tiny_weights_are_not_blown_up(void **state) {
    (void)state;
    const route_case c = {"tiny", QRL_ROUTE_SIGMOID, 4, 2, 0, 0, false, true, 0.0f};
    const float logits[4] = {-20.0f, -30.0f, -21.0f, -40.0f};
    uint32_t expert[2];
    float weight[2];
    run_route(QRL_ISA_SCALAR, 1, &c, logits, NULL, 1, expert, weight, NULL);
    assert_int_equal(expert[0], 0);
    assert_int_equal(expert[1], 2);
    assert_true(fabs((double)weight[0] / (exp(-20.0) * 16384.0) - 1.0) < 1e-6);
}

/* ---- the experts ---- */

typedef struct moe_case {
    qrl_type type, down_type;
    qrl_act act;
    size_t n_expert, n_used, n_embd, n_ff, n_out, n_rows;
    bool gated, bias, weigh_input;
} moe_case;

typedef struct moe_data {
    unsigned char *w[3]; /* gate, up, down: [n_expert] matrices one after the other */
    float *bias[3];
    float *x, *weight;
    uint32_t *expert;
} moe_data;

static size_t matrix_rows(const moe_case *c, int which) {
    return which == 2 ? c->n_out : c->n_ff;
}
static size_t matrix_cols(const moe_case *c, int which) {
    return which == 2 ? c->n_ff : c->n_embd;
}
static qrl_type matrix_type(const moe_case *c, int which) {
    return which == 2 ? c->down_type : c->type;
}
static const unsigned char *matrix_at(const moe_case *c, const moe_data *d, int which, size_t e) {
    return d->w[which] + e * matrix_rows(c, which) * qrl_row_bytes(matrix_type(c, which), matrix_cols(c, which));
}

/* Rows that choose without repeating; expert 1 of many is everyone's, the last one nobody's. */
static moe_data make_data(const moe_case *c) {
    moe_data d = {.x = random_floats(c->n_rows * c->n_embd), .weight = random_floats(c->n_rows * c->n_used)};
    for (int i = 0; i < 3; i++) {
        d.w[i] = random_matrix(matrix_type(c, i), c->n_expert * matrix_rows(c, i), matrix_cols(c, i));
        d.bias[i] = random_floats(c->n_expert * matrix_rows(c, i));
    }
    d.expert = malloc(c->n_rows * c->n_used * sizeof *d.expert);
    for (size_t r = 0; r < c->n_rows; r++)
        for (size_t k = 0; k < c->n_used; k++) {
            uint32_t *chosen = d.expert + r * c->n_used;
            bool again = true;
            while (again) {
                chosen[k] = k == 0 && r % 3 ? 1 : rng() % (uint32_t)(c->n_expert - 1);
                again = false;
                for (size_t i = 0; i < k; i++)
                    again = again || chosen[i] == chosen[k];
            }
        }
    return d;
}

static void free_data(moe_data *d) {
    for (int i = 0; i < 3; i++) {
        free(d->w[i]);
        free(d->bias[i]);
    }
    free(d->x);
    free(d->weight);
    free(d->expert);
}

static float *run_moe(qrl_isa isa, int threads, const moe_case *c, const moe_data *d, size_t from, size_t n) {
    qrl_error err;
    qrl_backend *b = backend(isa, threads, n, c->n_embd > c->n_out ? c->n_embd : c->n_out, c->n_ff);
    qrl_weight *w[3][MAX_EXPERTS];
    for (int i = 0; i < 3; i++)
        for (size_t e = 0; e < c->n_expert; e++)
            assert_ok(qrl_cpu_ops.weight_create(
                          b,
                          &(qrl_matrix){matrix_type(c, i), matrix_rows(c, i), matrix_cols(c, i), matrix_at(c, d, i, e)},
                          QRL_USE_LINEAR, &w[i][e], &err),
                      &err);
    float *out = malloc(n * c->n_out * sizeof *out);
    memset(out, 0xff, n * c->n_out * sizeof *out);
    for (int again = 0; again < 2; again++) /* what the first run left behind must not matter */
        qrl_cpu_ops.moe_ffn(b, &(qrl_moe_ffn_op){.act = c->act,
                                                 .x = d->x + from * c->n_embd,
                                                 .out = out,
                                                 .expert = d->expert + from * c->n_used,
                                                 .weight = d->weight + from * c->n_used,
                                                 .gate = c->gated ? w[0] : NULL,
                                                 .up = w[1],
                                                 .down = w[2],
                                                 .gate_bias = c->bias && c->gated ? d->bias[0] : NULL,
                                                 .up_bias = c->bias ? d->bias[1] : NULL,
                                                 .down_bias = c->bias ? d->bias[2] : NULL,
                                                 .n_rows = n,
                                                 .n_expert = c->n_expert,
                                                 .n_used = c->n_used,
                                                 .weigh_input = c->weigh_input});
    for (int i = 0; i < 3; i++)
        for (size_t e = 0; e < c->n_expert; e++)
            qrl_cpu_ops.weight_destroy(b, w[i][e]);
    qrl_cpu_ops.destroy(b);
    return out;
}

/* One matrix by one row with the specification, and a bias. */
static void product(const moe_case *c, const moe_data *d, int which, size_t e, const float *x, float *out) {
    const size_t n = matrix_cols(c, which), rows = matrix_rows(c, which);
    const qrl_type type = matrix_type(c, which);
    const bool quantized = qrl_quant_traits(type)->scales != 0;
    unsigned char *tile = malloc(n / QRL_UNIT * QRL_QACT_BYTES(1) + 1);
    if (quantized)
        qrl_kernels_scalar.quantize(x, n / QRL_UNIT, tile, 1, 0);
    for (size_t r = 0; r < rows; r++) {
        out[r] = qrl_dot_reference(type, matrix_at(c, d, which, e) + r * qrl_row_bytes(type, n), n,
                                   quantized ? (const void *)tile : x);
        if (c->bias)
            out[r] += d->bias[which][e * rows + r];
    }
    free(tile);
}

/* The definition: row by row, rank by rank. */
static float *spec_moe(const moe_case *c, const moe_data *d) {
    float *out = calloc(c->n_rows * c->n_out, sizeof *out);
    float *x = malloc(c->n_embd * sizeof *x), *gate = malloc(c->n_ff * sizeof *gate);
    float *up = malloc(c->n_ff * sizeof *up), *y = malloc(c->n_out * sizeof *y);
    for (size_t r = 0; r < c->n_rows; r++)
        for (size_t k = 0; k < c->n_used; k++) {
            const size_t e = d->expert[r * c->n_used + k];
            const float weight = d->weight[r * c->n_used + k];
            for (size_t i = 0; i < c->n_embd; i++)
                x[i] = d->x[r * c->n_embd + i] * (c->weigh_input ? weight : 1.0f);
            if (c->gated)
                product(c, d, 0, e, x, gate);
            product(c, d, 1, e, x, up);
            qrl_cpu_activate(&qrl_kernels_scalar, c->act, c->gated ? gate : NULL, up, up, c->n_ff);
            product(c, d, 2, e, up, y);
            for (size_t i = 0; i < c->n_out; i++) {
                const float v = y[i] * (c->weigh_input ? 1.0f : weight);
                out[r * c->n_out + i] = k ? out[r * c->n_out + i] + v : v;
            }
        }
    free(x);
    free(gate);
    free(up);
    free(y);
    return out;
}

static void check_moe(const moe_case *c) {
    moe_data d = make_data(c);
    float *spec = spec_moe(c, &d);
    const size_t cuts[] = {1, 2, 3, 7, 8, 13, c->n_rows};
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
            for (int threads = 1; threads <= 3; threads += 2) {
                if (cuts[i] > c->n_rows)
                    continue;
                const size_t from = cuts[i] == c->n_rows ? 0 : c->n_rows - cuts[i];
                float *out = run_moe(isa, threads, c, &d, from, cuts[i]);
                for (size_t j = 0; j < cuts[i] * c->n_out; j++)
                    if (memcmp(&out[j], &spec[from * c->n_out + j], sizeof *out) != 0)
                        fail_msg("%s and %s, act %d, %s, rows %zu + %zu, %d threads: row %zu, output %zu is %.9g, not "
                                 "%.9g",
                                 qrl_quant_traits(c->type)->name, qrl_quant_traits(c->down_type)->name, (int)c->act,
                                 qrl_isa_name(isa), from, cuts[i], threads, j / c->n_out, j % c->n_out, (double)out[j],
                                 (double)spec[from * c->n_out + j]);
                free(out);
            }
    free(spec);
    free_data(&d);
}

static void experts_are_the_same_everywhere(void **state) {
    (void)state;
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++) {
        const bool quantized = qrl_quant_traits(type)->scales != 0;
        const size_t n = quantized ? qrl_quant_traits(type)->block_values : 83;
        const size_t n_embd = n < 96 && quantized ? 192 : n, n_ff = n < 96 && quantized ? 192 : n - n % 2;
        check_moe(&(moe_case){type, type, QRL_ACT_SILU, 5, 3, n_embd, n_ff, 37, 19, true, false, false});
    }
}

static void experts_in_every_form_are_the_same(void **state) {
    (void)state;
    static const moe_case cases[] = {
        /* more rows than a block, for one expert and for all; more columns than a piece */
        {QRL_Q8_0, QRL_Q4_0, QRL_ACT_SILU, 16, 4, 64, 448, 50, 200, true, false, false},
        {QRL_F32, QRL_F32, QRL_ACT_SILU, 6, 2, 40, 300, 33, 170, true, true, false},
        {QRL_Q4_0, QRL_F16, QRL_ACT_SILU, 4, 1, 64, 96, 64, 30, true, false, true},
        {QRL_F32, QRL_Q8_0, QRL_ACT_SILU, 4, 2, 33, 64, 20, 30, true, true, true},
        {QRL_MXFP4, QRL_MXFP4, QRL_ACT_SILU, 8, 4, 96, 96, 96, 40, true, true, false},
        {QRL_BF16, QRL_Q4_1, QRL_ACT_SILU, 2, 1, 20, 32, 20, 9, true, false, false},
        {QRL_MXFP4, QRL_MXFP4, QRL_ACT_SWIGLU_CLAMPED, 8, 4, 96, 96, 96, 40, true, true, false},
        {QRL_Q8_0, QRL_Q8_0, QRL_ACT_RELU_SQUARED, 8, 3, 64, 96, 48, 20, false, false, false},
        {QRL_F32, QRL_F16, QRL_ACT_GELU, 5, 2, 24, 50, 24, 20, true, false, false},
        {QRL_F16, QRL_F32, QRL_ACT_RELU, 5, 2, 24, 50, 24, 20, false, true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_moe(&cases[i]);
}

/* The definition itself against double arithmetic. */
static void experts_are_right(void **state) {
    (void)state;
    const moe_case c = {QRL_F32, QRL_F32, QRL_ACT_SILU, 5, 3, 40, 24, 16, 20, true, true, false};
    moe_data d = make_data(&c);
    float *out = run_moe(QRL_ISA_SCALAR, 1, &c, &d, 0, c.n_rows);
    for (size_t r = 0; r < c.n_rows; r++)
        for (size_t o = 0; o < c.n_out; o++) {
            double want = 0, size = 0;
            for (size_t k = 0; k < c.n_used; k++) {
                const size_t e = d.expert[r * c.n_used + k];
                double y = (double)d.bias[2][e * c.n_out + o], abs_y = fabs(y);
                for (size_t f = 0; f < c.n_ff; f++) {
                    double gate = (double)d.bias[0][e * c.n_ff + f], up = (double)d.bias[1][e * c.n_ff + f];
                    for (size_t i = 0; i < c.n_embd; i++) {
                        const double x = (double)d.x[r * c.n_embd + i];
                        gate += x * (double)((const float *)(const void *)d.w[0])[(e * c.n_ff + f) * c.n_embd + i];
                        up += x * (double)((const float *)(const void *)d.w[1])[(e * c.n_ff + f) * c.n_embd + i];
                    }
                    const double a = gate / (1 + exp(-gate)) * up;
                    const double w = (double)((const float *)(const void *)d.w[2])[(e * c.n_out + o) * c.n_ff + f];
                    y += a * w;
                    abs_y += fabs(a * w);
                }
                want += y * (double)d.weight[r * c.n_used + k];
                size += abs_y * fabs((double)d.weight[r * c.n_used + k]);
            }
            const double got = (double)out[r * c.n_out + o];
            if (!(fabs(got - want) <= 1e-5 * size))
                fail_msg("row %zu, output %zu is %.9g, not %.9g", r, o, got, want);
        }
    free(out);
    free_data(&d);
}

/* g sigmoid(1.702 g) (u + 1), with g at most 7 and u from -7 to 7; NaN stays. */
static void clamped_swiglu_is_right_and_the_same(void **state) {
    (void)state;
    enum { N = 2000 };
    float gate[N], up[N], spec[N], out[N];
    for (int i = 0; i < N; i++) {
        gate[i] = 12.0f * rng_float();
        up[i] = 12.0f * rng_float();
    }
    gate[0] = NAN;
    up[1] = NAN;
    gate[2] = INFINITY;
    gate[3] = -INFINITY;
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
        qrl_cpu_activate(qrl_kernels_get(isa), QRL_ACT_SWIGLU_CLAMPED, gate, up, isa ? out : spec, N);
        if (isa)
            assert_memory_equal(out + 3, spec + 3, sizeof out - 3 * sizeof *out);
        assert_true(isnan((isa ? out : spec)[0]) && isnan((isa ? out : spec)[1]));
    }
    for (int i = 4; i < N; i++) {
        const double g = fmin((double)gate[i], 7), u = fmax(fmin((double)up[i], 7), -7);
        const double want = g / (1 + exp(-1.702 * g)) * (u + 1);
        assert_true(fabs((double)spec[i] - want) <= 1e-5 * fabs(want) + 1e-30);
    }
}

/* ---- a matrix for each head ---- */

static void heads_are_the_same_everywhere(void **state) {
    (void)state;
    static const qrl_type types[] = {QRL_F32, QRL_F16, QRL_Q8_0, QRL_Q4_0};
    enum { HEADS = 3, ROWS = 70, COLS = 64, OUT = 37, X_STEP = COLS + 5, OUT_STEP = OUT + 3 };
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const qrl_type type = types[t];
        const size_t bytes = OUT * qrl_row_bytes(type, COLS);
        unsigned char *data = random_matrix(type, HEADS * OUT, COLS);
        float *x = random_floats(ROWS * HEADS * X_STEP);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (int threads = 1; threads <= 3; threads++)
                for (size_t n = 1; n <= ROWS; n += n == 1 ? 12 : 57) {
                    qrl_error err;
                    qrl_backend *b = backend(isa, threads, ROWS, COLS, 32);
                    qrl_weight *w[HEADS];
                    for (size_t h = 0; h < HEADS; h++)
                        assert_ok(qrl_cpu_ops.weight_create(b, &(qrl_matrix){type, OUT, COLS, data + h * bytes},
                                                            QRL_USE_LINEAR, &w[h], &err),
                                  &err);
                    float *out = calloc(ROWS * HEADS * OUT_STEP, sizeof *out);
                    qrl_cpu_ops.linear_each(b, &(qrl_linear_each_op){.weight = w,
                                                                     .n = HEADS,
                                                                     .n_rows = n,
                                                                     .x = x,
                                                                     .out = out,
                                                                     .x_row = HEADS * X_STEP,
                                                                     .x_step = X_STEP,
                                                                     .out_row = HEADS * OUT_STEP,
                                                                     .out_step = OUT_STEP});
                    for (size_t i = 0; i < n * HEADS; i++) {
                        unsigned char tile[COLS / QRL_UNIT * QRL_QACT_BYTES(1)];
                        const float *row = x + i * X_STEP;
                        const bool quantized = qrl_quant_traits(type)->scales != 0;
                        qrl_kernels_scalar.quantize(row, COLS / QRL_UNIT, tile, 1, 0);
                        for (size_t o = 0; o < OUT_STEP; o++) {
                            const float want =
                                o < OUT
                                    ? qrl_dot_reference(type, data + i % HEADS * bytes + o * qrl_row_bytes(type, COLS),
                                                        COLS, quantized ? (const void *)tile : row)
                                    : 0.0f;
                            assert_memory_equal(&out[i * OUT_STEP + o], &want, sizeof want);
                        }
                    }
                    for (size_t h = 0; h < HEADS; h++)
                        qrl_cpu_ops.weight_destroy(b, w[h]);
                    qrl_cpu_ops.destroy(b);
                    free(out);
                }
        free(x);
        free(data);
    }
}

static void rows_are_gated_and_copied(void **state) {
    (void)state;
    const float gate[] = {0.0f, 2.0f, -INFINITY, 100.0f};
    float spec[4 * 5], x[4 * 5], moved[4 * 7];
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
        qrl_backend *b = backend(isa, 3, 4, 32, 32);
        for (int i = 0; i < 20; i++)
            x[i] = (float)(i + 1);
        qrl_cpu_ops.gate_rows(b, x, gate, 4, 5);
        if (isa == QRL_ISA_SCALAR)
            memcpy(spec, x, sizeof x);
        assert_memory_equal(x, spec, sizeof x);
        for (int i = 0; i < 20; i++)
            assert_true(fabs((double)x[i] - (i + 1) / (1 + exp(-(double)gate[i / 5]))) < 1e-5);
        memset(moved, 0, sizeof moved);
        qrl_cpu_ops.copy(b, &(qrl_copy_op){x, moved + 2, 4, 3, 5, 7});
        for (int i = 0; i < 28; i++)
            assert_true(moved[i] == (i % 7 >= 2 && i % 7 < 5 ? x[i / 7 * 5 + i % 7 - 2] : 0.0f));
        qrl_cpu_ops.destroy(b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_are_right_and_the_same),
        cmocka_unit_test(ties_and_failures),
        cmocka_unit_test(tiny_weights_are_not_blown_up),
        cmocka_unit_test(experts_are_the_same_everywhere),
        cmocka_unit_test(experts_in_every_form_are_the_same),
        cmocka_unit_test(experts_are_right),
        cmocka_unit_test(clamped_swiglu_is_right_and_the_same),
        cmocka_unit_test(heads_are_the_same_everywhere),
        cmocka_unit_test(rows_are_gated_and_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
