/* Activations, soft caps, scalings and norms of parts of rows, and products over rows that do not lie one
 * behind the other: the same bits in every instruction set, and right against double arithmetic. */
#include "base/mem.h"
#include "support.h"

#include "base/cpu.h"
#include "cpu/cpu.h"
#include "cpu/kernels.h"
#include "random.h"

#include <string.h>

static qrl_backend *backend(qrl_isa isa, int threads) {
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = threads, .isa = isa}, &b, &err), &err);
    assert_ok(qrl_cpu_ops.reserve(b, &(qrl_reserve){.max_rows = 96, .max_cols = 256, .max_head_dim = 64}, &err), &err);
    return b;
}

static double silu(double x) {
    return x / (1 + exp(-x));
}
static double gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}
static double relu(double x) {
    return x > 0 ? x : 0;
}
static double relu_squared(double x) {
    return relu(x) * relu(x);
}

static const struct {
    const char *name;
    qrl_act act;
    double (*want)(double);
} acts[] = {{"silu", QRL_ACT_SILU, silu},
            {"gelu", QRL_ACT_GELU, gelu},
            {"relu", QRL_ACT_RELU, relu},
            {"relu_squared", QRL_ACT_RELU_SQUARED, relu_squared}};

enum { N = 4001 };

static void activations(void **state) {
    (void)state;
    float x[N], up[N], spec[2 * N], out[2 * N];
    for (int i = 0; i < N; i++) {
        x[i] = -20.0f + 40.0f * (float)i / (N - 1);
        up[i] = rng_float();
    }
    for (size_t a = 0; a < sizeof acts / sizeof *acts; a++) {
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
            float *to = isa == QRL_ISA_SCALAR ? spec : out;
            const qrl_kernels *k = qrl_kernels_get(isa);
            k->activate[acts[a].act](x, up, to, N);
            memcpy(to + N, x, sizeof x);
            k->activate[acts[a].act](NULL, to + N, to + N, N); /* in place, without a gate */
            if (isa != QRL_ISA_SCALAR)
                assert_memory_equal(out, spec, sizeof spec);
        }
        double worst = 0;
        for (int i = 0; i < N; i++) {
            const double want = acts[a].want((double)x[i]);
            worst = fmax(worst, fabs((double)spec[N + i] - want) / (fabs(want) + 1e-6));
            assert_true(fabs((double)spec[i] - want * (double)up[i]) <= 2e-6 * fabs(want * (double)up[i]) + 1e-7);
        }
        print_message("%s: worst error %.2g\n", acts[a].name, worst);
        assert_true(worst < 5e-6);
    }
}

static void softcap(void **state) {
    (void)state;
    float x[N], spec[N], out[N];
    for (int i = 0; i < N; i++)
        x[i] = ldexpf(i % 2 ? 1.0f + rng_float() / 8 : -1.0f, i % 40 - 25);
    x[0] = INFINITY;
    x[1] = -INFINITY;
    x[2] = NAN;
    x[3] = 0.0f;
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
        qrl_kernels_get(isa)->softcap(x, isa ? out : spec, N, 30.0f);
        for (int i = 0; isa && i < N; i++)
            assert_true(memcmp(&out[i], &spec[i], sizeof *out) == 0 || (isnan(out[i]) && isnan(spec[i])));
    }
    assert_true(spec[0] == 30.0f && spec[1] == -30.0f && isnan(spec[2]) && spec[3] == 0.0f);
    double worst = 0;
    for (int i = 4; i < N; i++) {
        const double want = 30 * tanh((double)x[i] / 30);
        worst = fmax(worst, fabs((double)spec[i] - want) / fabs(want));
    }
    print_message("softcap: worst relative error %.2g\n", worst);
    assert_true(worst < 4e-7);
}

static void maps(void **state) {
    (void)state;
    qrl_backend *b = backend(qrl_isa_best(), 2);
    float x[] = {-3, -1, 0, 0.5f, 4, NAN};
    qrl_cpu_ops.map(b, &(qrl_map_op){QRL_MAP_CLAMP, x, 6, 2.0f});
    const float clamped[] = {-2, -1, 0, 0.5f, 2};
    assert_memory_equal(x, clamped, sizeof clamped);
    assert_true(isnan(x[5])); /* a failure stays visible */
    qrl_cpu_ops.map(b, &(qrl_map_op){QRL_MAP_SCALE, x, 5, 3.0f});
    const float scaled[] = {-6, -3, 0, 1.5f, 6};
    assert_memory_equal(x, scaled, sizeof scaled);
    float m[] = {1, 2, 3, 4, 5, 6};
    const float row[] = {10, 20, 30}, by[] = {2, -1};
    qrl_cpu_ops.add_row(b, m, row, 2, 3);
    const float added[] = {11, 22, 33, 14, 25, 36};
    assert_memory_equal(m, added, sizeof added);
    qrl_cpu_ops.scale_rows(b, m, by, 2, 3);
    const float turned[] = {22, 44, 66, -14, -25, -36};
    assert_memory_equal(m, turned, sizeof turned);
    qrl_cpu_ops.destroy(b);
}

/* Each group by its own weight is what each group's norm alone gives. */
static void norm_of_groups(void **state) {
    (void)state;
    enum { ROWS = 3, GROUPS = 5, DIM = 24 };
    for (int kind = 0; kind < 2; kind++)
        for (int each = 0; each < 2; each++) {
            float *x = random_floats(ROWS * GROUPS * DIM), *w = random_floats(GROUPS * DIM);
            float *bias = random_floats(GROUPS * DIM);
            float out[ROWS * GROUPS * DIM], alone[DIM];
            qrl_backend *b = backend(qrl_isa_best(), 1);
            qrl_norm_op op = {.kind = (qrl_norm_kind)kind,
                              .x = x,
                              .weight = w,
                              .bias = kind ? bias : NULL,
                              .out = out,
                              .n_rows = ROWS,
                              .n_cols = GROUPS * DIM,
                              .groups = GROUPS,
                              .each = each,
                              .eps = 1e-5f};
            qrl_cpu_ops.norm(b, &op);
            for (size_t i = 0; i < ROWS * GROUPS; i++) {
                const size_t own = each ? i % GROUPS * DIM : 0;
                qrl_norm_op one = op;
                one.x = x + i * DIM;
                one.weight = w + own;
                one.bias = kind ? bias + own : NULL;
                one.out = alone;
                one.n_rows = one.groups = 1;
                one.n_cols = DIM;
                one.each = false;
                qrl_cpu_ops.norm(b, &one);
                assert_memory_equal(out + i * DIM, alone, sizeof alone);
            }
            qrl_cpu_ops.destroy(b);
            free(x);
            free(w);
            free(bias);
        }
}

/* Products of rows that lie apart, into rows that lie apart. */
static void strided_products(void **state) {
    (void)state;
    enum { ROWS = 13, IN = 64, OUT = 21, LD_X = 80, LD_OUT = 50 };
    static const qrl_type types[] = {QRL_F32, QRL_Q8_0};
    for (size_t t = 0; t < 2; t++)
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
            qrl_error err;
            unsigned char *data = random_matrix(types[t], OUT, IN);
            float *wide = random_floats(ROWS * LD_X), tight[ROWS * IN], want[ROWS * OUT], out[ROWS * LD_OUT];
            for (size_t r = 0; r < ROWS; r++)
                memcpy(tight + r * IN, wide + r * LD_X, IN * sizeof *tight);
            for (size_t i = 0; i < ROWS * LD_OUT; i++)
                out[i] = -7.0f;
            qrl_backend *b = backend(isa, 2);
            qrl_weight *w;
            assert_ok(qrl_cpu_ops.weight_create(b, &(qrl_matrix){types[t], OUT, IN, data}, QRL_USE_LINEAR, &w, &err),
                      &err);
            qrl_linear_op op = {.n = 1, .weight = {w}, .out = {want}, .x = tight, .n_rows = ROWS};
            qrl_cpu_ops.linear(b, &op);
            op.out[0] = out;
            op.x = wide;
            op.ld_x = LD_X;
            op.ld_out[0] = LD_OUT;
            qrl_cpu_ops.linear(b, &op);
            for (size_t r = 0; r < ROWS; r++) {
                assert_memory_equal(out + r * LD_OUT, want + r * OUT, OUT * sizeof *want);
                for (size_t c = OUT; c < LD_OUT; c++)
                    assert_true(out[r * LD_OUT + c] == -7.0f);
            }
            qrl_cpu_ops.weight_destroy(b, w);
            qrl_cpu_ops.destroy(b);
            free(data);
            free(wide);
        }
}

/* A feed-forward block is its products and activation one after the other: with and without a gate, of weights with
 * different tiles, down from floats and from quantized values. */
static void feed_forward(void **state) {
    (void)state;
    enum { ROWS = 70, IN = 64, FF = 96, OUT = 53 };
    static const size_t row_counts[] = {1, 2, 13, ROWS};
    static const qrl_type downs[] = {QRL_Q8_0, QRL_F16};
    qrl_error err;
    unsigned char *data[] = {random_matrix(QRL_Q8_0, FF, IN), random_matrix(QRL_F16, FF, IN), NULL};
    float *x = random_floats(ROWS * IN), *bias = random_floats(FF);
    float *mid = qrl_alloc_aligned(ROWS * FF * sizeof *mid);
    static float gate[ROWS * FF], up[ROWS * FF], want[ROWS * OUT], out[ROWS * OUT];
    for (size_t d = 0; d < 2; d++) {
        data[2] = random_matrix(downs[d], OUT, FF);
        const qrl_matrix shapes[] = {
            {QRL_Q8_0, FF, IN, data[0]}, {QRL_F16, FF, IN, data[1]}, {downs[d], OUT, FF, data[2]}};
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (size_t i = 0; i < 2 * sizeof row_counts / sizeof *row_counts; i++) {
                const bool gated = i % 2;
                const size_t n = row_counts[i / 2];
                qrl_backend *b = backend(isa, 2);
                qrl_weight *w[3];
                for (int k = 0; k < 3; k++)
                    assert_ok(qrl_cpu_ops.weight_create(b, &shapes[k], QRL_USE_LINEAR, &w[k], &err), &err);
                qrl_cpu_ops.linear(b, &(qrl_linear_op){.n = gated ? 2 : 1,
                                                       .weight = {w[0], w[1]},
                                                       .bias = {bias, NULL},
                                                       .out = {gated ? gate : up, up},
                                                       .x = x,
                                                       .n_rows = n});
                qrl_cpu_ops.glu(b, &(qrl_glu_op){QRL_ACT_GELU, gated ? gate : NULL, up, up, n * FF});
                qrl_cpu_ops.linear(
                    b, &(qrl_linear_op){.n = 1, .weight = {w[2]}, .bias = {bias}, .out = {want}, .x = up, .n_rows = n});
                qrl_cpu_ops.ffn(b, &(qrl_ffn_op){.act = QRL_ACT_GELU,
                                                 .gate = gated ? w[0] : NULL,
                                                 .gate_b = bias,
                                                 .up = w[gated],
                                                 .up_b = gated ? NULL : bias,
                                                 .down = w[2],
                                                 .down_b = bias,
                                                 .x = x,
                                                 .mid = mid,
                                                 .out = out,
                                                 .n_rows = n});
                assert_memory_equal(out, want, n * OUT * sizeof *out);
                for (int k = 0; k < 3; k++)
                    qrl_cpu_ops.weight_destroy(b, w[k]);
                qrl_cpu_ops.destroy(b);
            }
        free(data[2]);
    }
    free(data[0]);
    free(data[1]);
    free(x);
    free(bias);
    qrl_free_aligned(mid);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations),    cmocka_unit_test(softcap),          cmocka_unit_test(maps),
        cmocka_unit_test(norm_of_groups), cmocka_unit_test(strided_products), cmocka_unit_test(feed_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
