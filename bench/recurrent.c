/* Speed of the recurrent operations over 512 rows and over one: states updated a second (of the convolution:
 * products), best of some repetitions, beside the limit of float multiply-adds in the same run.
 *
 *     bench_recurrent [threads] [isa]      shapes of models of one to three billion parameters */
#include "base/clock.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ROWS = 512,
    REPEATS = 7,
    HEADS = 64,
    DIMS = 64,
    STATES = 128,
    GROUPS = 8,
    SMALL_STATES = 16, /* Mamba */
    DELTA_HEADS = 32,
    COLS = HEADS * DIMS,
    WIDE = COLS + 2 * GROUPS * STATES /* x, b and c side by side; q, k and v */
};

/* Of every operation, inputs and room. Values from -1 to 1. */
typedef struct room {
    float *x, *out, *gate, *dt, *weight, *bias, *a, *state;
} room;

static float *random_floats(size_t n, float low, float high) {
    static uint64_t seed = 1;
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = low + (high - low) * (float)(seed >> 40) / 16777216.0f;
    }
    return x;
}

static void conv(qrl_backend *b, const room *r, const qrl_span *span) {
    qrl_cpu_ops.conv1d(b, &(qrl_conv1d_op){.state = {r->state, 0},
                                           .x = r->x,
                                           .weight = r->weight,
                                           .bias = r->bias,
                                           .out = r->out,
                                           .spans = span,
                                           .n_spans = 1,
                                           .n_cols = WIDE,
                                           .d_conv = 4,
                                           .silu = true});
}

static void scan(qrl_backend *b, const room *r, const qrl_span *span, bool own_decay) {
    qrl_cpu_ops.ssm_scan(b, &(qrl_ssm_scan_op){.state = {r->state, 0},
                                               .x = r->x,
                                               .dt = r->dt,
                                               .a = r->a,
                                               .b = r->x + COLS,
                                               .c = r->x + COLS + GROUPS * STATES,
                                               .d = r->bias,
                                               .gate = r->gate,
                                               .out = r->out,
                                               .spans = span,
                                               .n_spans = 1,
                                               .n_head = own_decay ? COLS : HEADS,
                                               .head_dim = own_decay ? 1 : DIMS,
                                               .n_group = own_decay ? 1 : GROUPS,
                                               .d_state = own_decay ? SMALL_STATES : STATES,
                                               .ld_x = WIDE,
                                               .ld_bc = WIDE,
                                               .own_decay = own_decay});
}

static void mamba(qrl_backend *b, const room *r, const qrl_span *span) {
    scan(b, r, span, true);
}

static void mamba2(qrl_backend *b, const room *r, const qrl_span *span) {
    scan(b, r, span, false);
}

static void delta(qrl_backend *b, const room *r, const qrl_span *span) {
    enum { SIDE = (WIDE - DELTA_HEADS * STATES) / 2 };
    qrl_cpu_ops.delta(b, &(qrl_delta_op){.state = {r->state, 0},
                                         .q = r->x,
                                         .k = r->x + SIDE,
                                         .v = r->x + 2 * SIDE,
                                         .beta = r->dt,
                                         .alpha = r->dt + 1,
                                         .dt_bias = r->bias,
                                         .a = r->a,
                                         .out = r->out,
                                         .spans = span,
                                         .n_spans = 1,
                                         .n_head = DELTA_HEADS,
                                         .n_group = SIDE / STATES,
                                         .k_dim = STATES,
                                         .v_dim = STATES,
                                         .ld = WIDE,
                                         .ld_ba = 2 * DELTA_HEADS,
                                         .step_ba = 2,
                                         .eps = 1e-6f});
}

static const struct {
    const char *name;
    void (*call)(qrl_backend *b, const room *r, const qrl_span *span);
    double states; /* a row */
} ops[] = {{"conv1d", conv, 4.0 * WIDE},
           {"mamba", mamba, (double)COLS *SMALL_STATES},
           {"mamba2", mamba2, (double)COLS *STATES},
           {"delta", delta, (double)DELTA_HEADS *STATES *STATES}};

static double best_seconds(qrl_backend *b, const room *r, size_t op, uint32_t rows) {
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = qrl_now();
        ops[op].call(b, r, &(qrl_span){.n_rows = rows});
        const double t = qrl_now() - start;
        best = t < best ? t : best;
    }
    return best;
}

int main(int argc, char **argv) {
    qrl_error err;
    qrl_backend_params params = {.n_threads = argc > 1 ? atoi(argv[1]) : 0};
    qrl_backend *b;
    qrl_limits limits;
    if (qrl_isa_parse(argc > 2 ? argv[2] : "auto", &params.isa, &err) != QRL_OK ||
        qrl_cpu_measure_limits(&params, NULL, &limits, &err) != QRL_OK ||
        qrl_cpu_ops.create(&params, &b, &err) != QRL_OK) {
        fprintf(stderr, "bench_recurrent: %s\n", err.text);
        return 1;
    }
    const room r = {.x = random_floats((size_t)ROWS * WIDE, -1, 1),
                    .out = random_floats((size_t)ROWS * WIDE, -1, 1),
                    .gate = random_floats((size_t)ROWS * COLS, -1, 1),
                    .dt = random_floats((size_t)ROWS * COLS, -1, 1),
                    .weight = random_floats((size_t)4 * WIDE, -1, 1),
                    .bias = random_floats(WIDE, -1, 1),
                    .a = random_floats((size_t)COLS * SMALL_STATES, -1.5f, -0.5f),
                    .state = random_floats((size_t)COLS * STATES, -1, 1)};
    if (!r.x || !r.out || !r.gate || !r.dt || !r.weight || !r.bias || !r.a || !r.state) {
        fprintf(stderr, "bench_recurrent: out of memory\n");
        return 1;
    }
    printf("%s, %s, %d threads: f32 %.0f G multiply-adds/s\n", qrl_cpu_name(), qrl_isa_name(params.isa),
           qrl_cpu_ops.threads(b), limits.f32_macs * 1e-9);
    printf("%-8s %12s %12s   G states/s\n", "", "512 rows", "1 row");
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        printf("%-8s %12.2f %12.2f\n", ops[i].name, ops[i].states * ROWS / best_seconds(b, &r, i, ROWS) * 1e-9,
               ops[i].states / best_seconds(b, &r, i, 1) * 1e-9);
    float *all[] = {r.x, r.out, r.gate, r.dt, r.weight, r.bias, r.a, r.state};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    qrl_cpu_ops.destroy(b);
    return 0;
}
