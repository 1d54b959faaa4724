/* Recurrent layers: convolution, state space, delta rule. The scalar set against double arithmetic; every
 * instruction set, thread count and way of cutting two sequences into steps against the scalar set, equal
 * to the bit. The state slots hold NaN before, which position 0 must not let in. */
#include "random.h"

#include "cpu/cpu.h"
#include "cpu/cpu_int.h"

#include <stdio.h>
#include <string.h>

enum { TOKENS = 37, SEQS = 2, ROWS = TOKENS * SEQS, SLOTS = 4 };
static const uint32_t slot_of[SEQS] = {2, 1};

typedef enum op_kind { CONV, SCAN, DELTA } op_kind;

/* heads, dims (d_conv for CONV), groups, states: CONV has heads * dims columns. */
typedef struct op_case {
    const char *name;
    op_kind op;
    size_t n_head, dims, n_group, d_state;
    bool own_decay, extras; /* extras: bias, D, gate, activation */
    uint32_t d_conv;
} op_case;

static const op_case cases[] = {
    {"conv 4, 64 columns", CONV, 4, 16, 0, 0, false, true, 4},
    {"conv 3, 300 columns, plain", CONV, 3, 100, 0, 0, false, false, 3},
    {"conv 2, 5 columns", CONV, 1, 5, 0, 0, false, true, 2},
    {"conv 16", CONV, 3, 11, 0, 0, false, true, 16},
    {"mamba", SCAN, 48, 1, 1, 16, true, true, 0},
    {"mamba, uneven, plain", SCAN, 37, 1, 1, 5, true, false, 0},
    {"mamba2", SCAN, 4, 64, 2, 128, false, true, 0},
    {"mamba2, small heads", SCAN, 8, 8, 2, 16, false, true, 0},
    {"mamba2, heads of 40, plain", SCAN, 3, 40, 1, 17, false, false, 0},
    {"mamba2, a group a head", SCAN, 5, 16, 5, 32, false, true, 0},
    {"delta", DELTA, 4, 128, 2, 128, false, false, 0},
    {"delta, small heads", DELTA, 4, 16, 2, 16, false, false, 0},
    {"delta, uneven", DELTA, 3, 21, 1, 33, false, false, 0},
};

typedef struct op_data {
    float *x;             /* CONV, SCAN: x; DELTA: q, k, v side by side */
    float *w, *bias;      /* of CONV */
    float *dt, *dt_bias;  /* DELTA: beta and alpha side by side */
    float *a, *b, *c, *d; /* b and c side by side with x in SCAN */
    float *gate;
    size_t n_cols, ld, state; /* outputs a row, floats a row of x, floats of a slot */
} op_data;

static op_data data_of(const op_case *c) {
    op_data d = {.n_cols = c->n_head * c->dims};
    const size_t side = c->n_group * c->d_state;
    d.ld = d.n_cols + (c->op == CONV ? 0 : 2 * side);
    d.state = c->op == CONV ? QRL_CONV1D_STATE(c->d_conv, d.n_cols) : QRL_SCAN_STATE(c->n_head, c->dims, c->d_state);
    d.x = random_floats(ROWS * d.ld);
    d.w = random_floats(d.n_cols * QRL_MAX_CONV);
    d.bias = random_floats(d.n_cols);
    d.dt = random_floats(ROWS * c->n_head * 2);
    d.dt_bias = random_floats(c->n_head);
    d.a = random_floats(c->n_head * (c->d_state + 1));
    for (size_t i = 0; i < c->n_head * (c->d_state + 1); i++)
        d.a[i] = -fabsf(d.a[i]) - 0.01f;
    d.d = random_floats(c->n_head);
    d.gate = random_floats(ROWS * d.n_cols);
    return d;
}

static void free_data(op_data *d) {
    float *all[] = {d->x, d->w, d->bias, d->dt, d->dt_bias, d->a, d->d, d->gate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void call(qrl_backend *b, const op_case *c, const op_data *d, float *state, float *out, const qrl_span *spans,
                 size_t n_spans) {
    const size_t side = c->n_group * c->d_state;
    const qrl_state slots = {state, d->state};
    switch (c->op) {
    case CONV:
        qrl_cpu_ops.conv1d(b, &(qrl_conv1d_op){.state = slots,
                                               .x = d->x,
                                               .weight = d->w,
                                               .bias = c->extras ? d->bias : NULL,
                                               .out = out,
                                               .spans = spans,
                                               .n_spans = n_spans,
                                               .n_cols = d->n_cols,
                                               .d_conv = c->d_conv,
                                               .silu = c->extras});
        break;
    case SCAN:
        qrl_cpu_ops.ssm_scan(b, &(qrl_ssm_scan_op){.state = slots,
                                                   .x = d->x,
                                                   .dt = d->dt,
                                                   .dt_bias = c->extras ? d->dt_bias : NULL,
                                                   .a = d->a,
                                                   .b = d->x + d->n_cols,
                                                   .c = d->x + d->n_cols + side,
                                                   .d = c->extras ? d->d : NULL,
                                                   .gate = c->extras ? d->gate : NULL,
                                                   .out = out,
                                                   .spans = spans,
                                                   .n_spans = n_spans,
                                                   .n_head = c->n_head,
                                                   .head_dim = c->dims,
                                                   .n_group = c->n_group,
                                                   .d_state = c->d_state,
                                                   .ld_x = d->ld,
                                                   .ld_bc = d->ld,
                                                   .own_decay = c->own_decay});
        break;
    case DELTA:
        qrl_cpu_ops.delta(b, &(qrl_delta_op){.state = slots,
                                             .q = d->x,
                                             .k = d->x + side,
                                             .v = d->x + 2 * side,
                                             .beta = d->dt,
                                             .alpha = d->dt + c->n_head / c->n_group,
                                             .dt_bias = d->dt_bias,
                                             .a = d->a,
                                             .out = out,
                                             .spans = spans,
                                             .n_spans = n_spans,
                                             .n_head = c->n_head,
                                             .n_group = c->n_group,
                                             .k_dim = c->d_state,
                                             .v_dim = c->dims,
                                             .ld = d->ld,
                                             .ld_ba = 2 * c->n_head,
                                             .step_ba = 2 * (c->n_head / c->n_group),
                                             .eps = 1e-6f});
        break;
    }
}

/* Both sequences in steps of `chunk` tokens; `apart`: the first whole before the second. The state is
 * NaN everywhere before, and must be after in the slots of nobody. */
static void run(qrl_isa isa, int threads, const op_case *c, const op_data *d, size_t chunk, bool apart, float *out) {
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = threads, .isa = isa}, &b, &err), &err);
    const size_t floats = SLOTS * d->state;
    float *state = malloc(floats * sizeof *state);
    assert_non_null(state);
    memset(state, 0xff, floats * sizeof *state);
    memset(out, 0xff, ROWS * d->n_cols * sizeof *out);
    for (size_t pass = 0; pass < (apart ? SEQS : 1); pass++)
        for (size_t pos = 0; pos < TOKENS; pos += chunk) {
            const uint32_t n = (uint32_t)(TOKENS - pos < chunk ? TOKENS - pos : chunk);
            qrl_span spans[SEQS];
            for (uint32_t s = 0; s < SEQS; s++)
                spans[s] = (qrl_span){
                    .row = (uint32_t)(s * TOKENS + pos), .n_rows = n, .pos = (uint32_t)pos, .slot = slot_of[s]};
            call(b, c, d, state, out, spans + pass, apart ? 1 : SEQS);
        }
    for (size_t slot = 0; slot < SLOTS; slot++)
        for (size_t i = 0; i < d->state; i++)
            if (isnan(state[slot * d->state + i]) != (slot != slot_of[0] && slot != slot_of[1]))
                fail_msg("%s: the state of slot %zu, value %zu is %g", c->name, slot, i,
                         (double)state[slot * d->state + i]);
    free(state);
    qrl_cpu_ops.destroy(b);
}

/* ---- double arithmetic ---- */

static double silu(double x) {
    return x / (1 + exp(-x));
}

static void plain_conv(const op_case *c, const op_data *d, size_t seq, double *out) {
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t i = 0; i < d->n_cols; i++) {
            double y = c->extras ? (double)d->bias[i] : 0;
            for (size_t k = 0; k < c->d_conv; k++)
                if (t + k + 1 >= c->d_conv)
                    y += (double)d->w[k * d->n_cols + i] *
                         (double)d->x[(seq * TOKENS + t + k + 1 - c->d_conv) * d->ld + i];
            out[t * d->n_cols + i] = c->extras ? silu(y) : y;
        }
}

static void plain_scan(const op_case *c, const op_data *d, size_t seq, double *out) {
    double state[256];
    const size_t side = c->n_group * c->d_state;
    for (size_t h = 0; h < c->n_head; h++)
        for (size_t i = 0; i < c->dims; i++) {
            memset(state, 0, sizeof state);
            for (size_t t = 0; t < TOKENS; t++) {
                const size_t row = seq * TOKENS + t, col = h * c->dims + i;
                const float *x = d->x + row * d->ld, *b = x + d->n_cols + h / (c->n_head / c->n_group) * c->d_state;
                const double dt = (double)d->dt[row * c->n_head + h] + (c->extras ? (double)d->dt_bias[h] : 0);
                const double step = log1p(exp(dt));
                double y = 0;
                for (size_t s = 0; s < c->d_state; s++) {
                    const double a = (double)d->a[c->own_decay ? s * c->n_head + h : h];
                    state[s] = state[s] * exp(step * a) + (double)b[s] * step * (double)x[col];
                    y += state[s] * (double)b[side + s];
                }
                if (c->extras)
                    y = (y + (double)d->d[h] * (double)x[col]) * silu((double)d->gate[row * d->n_cols + col]);
                out[t * d->n_cols + col] = y;
            }
        }
}

static double length(const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += (double)x[i] * (double)x[i];
    return sqrt(s);
}

static void plain_delta(const op_case *c, const op_data *d, size_t seq, double *out) {
    double state[256];
    const size_t side = c->n_group * c->d_state, each = c->n_head / c->n_group;
    for (size_t h = 0; h < c->n_head; h++)
        for (size_t i = 0; i < c->dims; i++) {
            memset(state, 0, sizeof state);
            for (size_t t = 0; t < TOKENS; t++) {
                const size_t row = seq * TOKENS + t, g = h / each;
                const float *q = d->x + row * d->ld + g * c->d_state, *k = q + side;
                const float *ba = d->dt + row * 2 * c->n_head + g * 2 * each + h % each;
                const double alpha = (double)ba[each] + (double)d->dt_bias[h];
                const double decay = exp(log1p(exp(alpha)) * (double)d->a[h]), beta = 1 / (1 + exp(-(double)ba[0]));
                const double lq = length(q, c->d_state), lk = length(k, c->d_state);
                double sum = 0, y = 0;
                for (size_t s = 0; s < c->d_state; s++) {
                    state[s] *= decay;
                    sum += state[s] * (double)k[s] / lk;
                }
                const double change = ((double)d->x[row * d->ld + 2 * side + h * c->dims + i] - sum) * beta;
                for (size_t s = 0; s < c->d_state; s++) {
                    state[s] += change * (double)k[s] / lk;
                    y += state[s] * (double)q[s] / lq;
                }
                out[t * d->n_cols + h * c->dims + i] = y / sqrt((double)c->d_state);
            }
        }
}

/* Root mean square of the differences, of the values. Sums of some hundred products of float: 1e-6. */
static void test_against_doubles(void **unused) {
    (void)unused;
    static void (*const plain[])(const op_case *, const op_data *, size_t, double *) = {plain_conv, plain_scan,
                                                                                        plain_delta};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const op_case *c = &cases[i];
        op_data d = data_of(c);
        float *out = malloc(ROWS * d.n_cols * sizeof *out);
        double *want = malloc(TOKENS * d.n_cols * sizeof *want), error = 0, size = 0;
        assert_true(out && want);
        run(QRL_ISA_SCALAR, 1, c, &d, TOKENS, false, out);
        for (size_t seq = 0; seq < SEQS; seq++) {
            plain[c->op](c, &d, seq, want);
            for (size_t j = 0; j < TOKENS * d.n_cols; j++) {
                const double e = (double)out[seq * TOKENS * d.n_cols + j] - want[j];
                error += e * e;
                size += want[j] * want[j];
            }
        }
        if (!(sqrt(error / size) < 1e-6))
            fail_msg("%s: relative error %.3g", c->name, sqrt(error / size));
        free(out);
        free(want);
        free_data(&d);
    }
}

static void test_same_bits(void **unused) {
    (void)unused;
    static const struct {
        int threads;
        size_t chunk;
        bool apart;
    } ways[] = {{1, TOKENS, false}, {1, 1, false}, {2, 5, false}, {3, 17, true}, {2, TOKENS, true}, {3, 1, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const op_case *c = &cases[i];
        op_data d = data_of(c);
        const size_t bytes = ROWS * d.n_cols * sizeof(float);
        float *want = malloc(bytes), *out = malloc(bytes);
        assert_true(want && out);
        run(QRL_ISA_SCALAR, 1, c, &d, TOKENS, false, want);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
                run(isa, ways[w].threads, c, &d, ways[w].chunk, ways[w].apart, out);
                if (memcmp(out, want, bytes) != 0)
                    fail_msg("%s: %s, %d threads, steps of %zu: not the scalar set's bits", c->name, qrl_isa_name(isa),
                             ways[w].threads, ways[w].chunk);
            }
        free(want);
        free(out);
        free_data(&d);
    }
    printf("instruction sets up to %s\n", qrl_isa_name(qrl_isa_best()));
}

/* The state behind the first rows of a span, kept in another slot, is that of these rows alone; nothing else changes.
 */
static void test_keep(void **unused) {
    (void)unused;
    enum { FROM = 2, TO = 3 };
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = 2, .isa = qrl_isa_best()}, &b, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const op_case *c = &cases[i];
        op_data d = data_of(c);
        const size_t bytes = TOKENS * d.n_cols * sizeof(float), state_bytes = d.state * sizeof(float);
        float *want = malloc(bytes), *out = malloc(bytes);
        float *plain = calloc(SLOTS, state_bytes), *kept = calloc(SLOTS, state_bytes);
        assert_true(want && out && plain && kept);
        for (uint32_t rows = 1; rows < TOKENS; rows += 9) {
            const qrl_span first = {.n_rows = rows, .slot = TO}, all = {.n_rows = TOKENS, .slot = FROM};
            qrl_span both = all;
            both.keep_rows = rows;
            both.keep_slot = TO;
            call(b, c, &d, plain, want, &first, 1);
            call(b, c, &d, plain, want, &all, 1);
            call(b, c, &d, kept, out, &both, 1);
            assert_memory_equal(want, out, bytes);
            assert_memory_equal(plain + FROM * d.state, kept + FROM * d.state, state_bytes);
            assert_memory_equal(plain + TO * d.state, kept + TO * d.state, state_bytes);
        }
        free(want);
        free(out);
        free(plain);
        free(kept);
        free_data(&d);
    }
    qrl_cpu_ops.destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_doubles),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_keep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
