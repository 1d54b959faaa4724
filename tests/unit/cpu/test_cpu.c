/* Every operation of the CPU backend, in every instruction set that this machine has, on one to three
 * threads, against the scalar set: equal to the bit. The scalar set itself against plain arithmetic
 * in double precision. */
#include "random.h"

#include "base/cpu.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"
#include "quant/blocks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qrl_backend *backend(qrl_isa isa, int threads, size_t rows, size_t cols) {
    qrl_error err;
    qrl_backend *b;
    assert_ok(qrl_cpu_ops.create(&(qrl_backend_params){.n_threads = threads, .isa = isa}, &b, &err), &err);
    assert_ok(qrl_cpu_ops.reserve(b, &(qrl_reserve){.max_rows = rows, .max_cols = cols, .max_head_dim = 256}, &err),
              &err);
    return b;
}

enum { MAX_ROWS = 45 }; /* two tiles of 16 and one of each other width */

static float *run_linear(qrl_isa isa, int threads, qrl_type type, const unsigned char *data, size_t n_out, size_t n_in,
                         const float *x, const float *bias, size_t n_rows, bool fine) {
    qrl_error err;
    qrl_backend *b = backend(isa, threads, fine ? 2 * MAX_ROWS : MAX_ROWS, n_in);
    qrl_weight *w;
    assert_ok(qrl_cpu_ops.weight_create(b, &(qrl_matrix){type, n_out, n_in, data}, QRL_USE_LINEAR, &w, &err), &err);
    float *out = malloc(n_rows * n_out * sizeof *out);
    memset(out, 0xff, n_rows * n_out * sizeof *out);
    qrl_cpu_ops.linear(
        b,
        &(qrl_linear_op){.n = 1, .weight = {w}, .bias = {bias}, .out = {out}, .x = x, .n_rows = n_rows, .fine = fine});
    qrl_cpu_ops.weight_destroy(b, w);
    qrl_cpu_ops.destroy(b);
    return out;
}

/* Integers as large as they get, of types whose scales are integers: their sums are exact in floats, and the same
 * everywhere. */
static void large_integers_are_exact(void **state) {
    (void)state;
    enum { N_IN = 256, N_OUT = 33 };
#define AT(type, member) offsetof(qrl_block_##type, member)
    static const struct {
        qrl_type type;
        size_t d, min, scales, scale_bytes; /* in a block; min 0: none */
    } types[] = {
        {QRL_Q2_K, AT(Q2_K, d), AT(Q2_K, dmin), AT(Q2_K, scales), 16},
        {QRL_Q3_K, AT(Q3_K, d), 0, AT(Q3_K, scales), 12},
        {QRL_Q4_K, AT(Q4_K, d), AT(Q4_K, dmin), AT(Q4_K, scales), 12},
        {QRL_Q5_K, AT(Q5_K, d), AT(Q5_K, dmin), AT(Q5_K, scales), 12},
        {QRL_Q6_K, AT(Q6_K, d), 0, AT(Q6_K, scales), 16},
        {QRL_IQ4_XS, AT(IQ4_XS, d), 0, AT(IQ4_XS, scales_h), 6},
    };
#undef AT
    static const unsigned char quants[] = {0, 255, 15, 240, 0x88}, scales[] = {0, 255, 128, 127}, one[] = {0, 0x3c};
    size_t stepped = 0;
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++)
        stepped += qrl_quant_traits(type)->stepped;
    assert_int_equal(stepped, sizeof types / sizeof *types);
    int32_t largest = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types * sizeof quants * sizeof scales * 2; i++) {
        const size_t t = i / 2 / sizeof scales / sizeof quants;
        const qrl_traits *traits = qrl_quant_traits(types[t].type);
        unsigned char block[256], data[N_OUT * sizeof block];
        memset(block, quants[i / 2 / sizeof scales % sizeof quants], traits->block_bytes);
        memset(block + types[t].scales, scales[i / 2 % sizeof scales], types[t].scale_bytes);
        memcpy(block + types[t].d, one, 2);
        if (types[t].min)
            memcpy(block + types[t].min, one, 2);
        for (size_t r = 0; r < N_OUT; r++)
            memcpy(data + r * traits->block_bytes, block, traits->block_bytes);
        const float sign = i % 2 ? -1.0f : 1.0f;
        float x[16 * N_IN];
        for (size_t k = 0; k < 16 * N_IN; k++)
            x[k] = sign * 127.0f; /* d = 1 */
        double want = 0;
        for (size_t u = 0; u < N_IN / QRL_UNIT; u++) {
            qrl_qunit w;
            int32_t sum = 0;
            traits->unpack(block, u, &w);
            for (size_t k = 0; k < QRL_UNIT; k++) {
                sum += 127 * w.q[k] * w.step[k / 16];
                want -= (double)sign * 127.0 * (double)w.min[k / 16];
            }
            assert_true((int32_t)(float)sum == sum);
            want += (double)sign * sum;
            largest = abs(sum) > largest ? abs(sum) : largest;
        }
        float spec = NAN;
        for (qrl_isa isa = QRL_ISA_SCALAR; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (size_t n = 1; n <= 16; n += 15) {
                float *out = run_linear(isa, 1, types[t].type, data, N_OUT, N_IN, x, NULL, n, false);
                spec = isa == QRL_ISA_SCALAR ? out[0] : spec;
                for (size_t j = 0; j < n * N_OUT; j++)
                    if (!(fabs((double)out[j] - want) <= 1e-6 * fabs(want)) || memcmp(&out[j], &spec, sizeof spec) != 0)
                        fail_msg("%s, %s, %zu rows: %.9g, not %.9g", traits->name, qrl_isa_name(isa), n, (double)out[j],
                                 want);
                free(out);
            }
    }
    assert_int_equal(largest, 2 * 128 * 16 * 32 * 127);
}

static void same_everywhere(bool fine) {
    const size_t n_out = 37, row_counts[] = {1, 2, 3, 7, 8, 13, 16, 19, 45};
    int compared = 0;
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++) {
        /* panels of 8 units: whole ones, and where blocks of 32 allow it 3 units more */
        const qrl_traits *t = qrl_quant_traits(type);
        const size_t n_in = !t->scales ? 83 : t->block_values == QRL_UNIT ? 864 : 768;
        unsigned char *data = random_matrix(type, n_out, n_in);
        float *x = random_floats(MAX_ROWS * n_in), *bias = random_floats(n_out);
        float *spec = run_linear(QRL_ISA_SCALAR, 1, type, data, n_out, n_in, x, bias, MAX_ROWS, fine);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
            for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++)
                for (int threads = 1; threads <= 3; threads += 2) {
                    const size_t n = row_counts[i];
                    float *out = run_linear(isa, threads, type, data, n_out, n_in, x, bias, n, fine);
                    for (size_t j = 0; j < n * n_out; j++)
                        if (memcmp(&out[j], &spec[j], sizeof *out) != 0)
                            fail_msg("%s, %s, %zu rows, %d threads: row %zu, output %zu is %.9g, not %.9g",
                                     qrl_quant_traits(type)->name, qrl_isa_name(isa), n, threads, j / n_out, j % n_out,
                                     (double)out[j], (double)spec[j]);
                    compared++;
                    free(out);
                }
        free(spec);
        free(x);
        free(bias);
        free(data);
    }
    assert_true(compared > 0);
}

static void linear_is_the_same_everywhere(void **state) {
    (void)state;
    same_everywhere(false);
}

static void a_fine_product_is_the_same_everywhere(void **state) {
    (void)state;
    same_everywhere(true);
}

/* It is the sum of two products: of the activations' 8-bit values, and of what these leave out. Its
 * error is that of 16 bits. */
static void a_fine_product_has_two_terms(void **state) {
    (void)state;
    enum { N_IN = 512, N_OUT = 16 };
    unsigned char *data = random_matrix(QRL_Q8_0, N_OUT, N_IN), tile[N_IN / QRL_UNIT * QRL_QACT_BYTES(1)];
    float *x = random_floats(N_IN), rest[N_IN], row[N_IN];
    qrl_kernels_scalar.quantize(x, N_IN / QRL_UNIT, tile, 1, 0);
    for (size_t k = 0; k < N_IN; k++) {
        const unsigned char *unit = tile + k / QRL_UNIT * QRL_QACT_BYTES(1);
        float d;
        memcpy(&d, QRL_QACT_D(unit, 1), sizeof d);
        rest[k] = x[k] - d * (float)((const int8_t *)unit)[k % QRL_UNIT];
    }
    float *fine = run_linear(QRL_ISA_SCALAR, 1, QRL_Q8_0, data, N_OUT, N_IN, x, NULL, 1, true);
    float *coarse = run_linear(QRL_ISA_SCALAR, 1, QRL_Q8_0, data, N_OUT, N_IN, x, NULL, 1, false);
    float *second = run_linear(QRL_ISA_SCALAR, 1, QRL_Q8_0, data, N_OUT, N_IN, rest, NULL, 1, false);
    double fine_error = 0, coarse_error = 0;
    for (size_t r = 0; r < N_OUT; r++) {
        assert_true(fine[r] == coarse[r] + second[r]);
        qrl_decode_row(QRL_Q8_0, data + r * qrl_row_bytes(QRL_Q8_0, N_IN), row, N_IN);
        double want = 0;
        for (size_t k = 0; k < N_IN; k++)
            want += (double)x[k] * (double)row[k];
        fine_error += fabs((double)fine[r] - want);
        coarse_error += fabs((double)coarse[r] - want);
    }
    assert_true(fine_error < coarse_error / 100);
    free(fine);
    free(coarse);
    free(second);
    free(x);
    free(data);
}

/* The specification against the decoded matrix in double: exact but for the activations' rounding,
 * which is undone here by using the quantized activations' own values. */
static void linear_is_right(void **state) {
    (void)state;
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++) {
        const bool quantized = qrl_quant_traits(type)->scales != 0;
        const size_t n_in = 512, n_out = 5;
        unsigned char *data = random_matrix(type, n_out, n_in);
        float *x = random_floats(n_in), *row = malloc(n_in * sizeof *row);
        unsigned char *tile = malloc(n_in / QRL_UNIT * QRL_QACT_BYTES(1));
        qrl_kernels_scalar.quantize(x, n_in / QRL_UNIT, tile, 1, 0);
        float *out = run_linear(QRL_ISA_SCALAR, 1, type, data, n_out, n_in, x, NULL, 1, false);
        for (size_t r = 0; r < n_out; r++) {
            qrl_decode_row(type, data + r * qrl_row_bytes(type, n_in), row, n_in);
            double want = 0, size = 0;
            for (size_t k = 0; k < n_in; k++) {
                float d;
                const unsigned char *unit = tile + k / QRL_UNIT * QRL_QACT_BYTES(1);
                memcpy(&d, QRL_QACT_D(unit, 1), sizeof d);
                const double a = quantized ? (double)d * ((const int8_t *)unit)[k % QRL_UNIT] : (double)x[k];
                /* rounding to int8 in a block of 32 is at most half a step */
                if (quantized)
                    assert_true(fabs(a - (double)x[k]) <= 0.5001 * (double)d);
                want += a * (double)row[k];
                size += fabs(a * (double)row[k]);
            }
            if (!(fabs((double)out[r] - want) <= 2e-6 * size))
                fail_msg("%s: output %zu is %.9g, not %.9g", qrl_quant_traits(type)->name, r, (double)out[r], want);
        }
        free(out);
        free(tile);
        free(row);
        free(x);
        free(data);
    }
}

/* Infinities and NaN in activations reach the output instead of becoming numbers. */
static void bad_activations_stay_visible(void **state) {
    (void)state;
    const float bad[] = {INFINITY, -INFINITY, NAN};
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            unsigned char *data = random_matrix(QRL_Q4_K, 16, 256);
            float *x = random_floats(256);
            x[77] = bad[i];
            float *out = run_linear(isa, 1, QRL_Q4_K, data, 16, 256, x, NULL, 1, false);
            for (int r = 0; r < 16; r++)
                assert_true(isnan(out[r]));
            free(out);
            free(x);
            free(data);
        }
}

/* Lane `lane` of a tile of a set is n units of the tile spec of one row, made by the scalar set; nothing else of it is
 * written. */
static void quantized_as(const unsigned char *spec, const float *x, size_t n, qrl_isa isa, size_t width, size_t lane) {
    const size_t bytes = n * QRL_QACT_BYTES(width);
    unsigned char *tile = malloc(bytes), *want = malloc(bytes);
    assert_non_null(tile);
    assert_non_null(want);
    memset(tile, 0xa5, bytes);
    memset(want, 0xa5, bytes);
    qrl_kernels_get(isa)->quantize(x, n, tile, width, lane);
    for (size_t u = 0; u < n; u++, spec += QRL_QACT_BYTES(1)) {
        unsigned char *unit = want + u * QRL_QACT_BYTES(width);
        memcpy(unit + lane * QRL_UNIT, spec, QRL_UNIT);
        memcpy(QRL_QACT_D(unit, width) + 4 * lane, QRL_QACT_D(spec, 1), 4);
        for (size_t i = 0; i < 3; i++) {
            memcpy(QRL_QACT_S(unit, width, i) + 4 * lane, QRL_QACT_S(spec, 1, i), 4);
            int16_t parts[2];
            memcpy(parts, QRL_QACT_N(spec, 1, i), sizeof parts);
            const int32_t sum = (parts[0] + parts[1]) / (i == 0 ? -QRL_OFFSET_UNIT : -QRL_OFFSET_HALF);
            const int32_t start = 0x4b400000 - 128 * sum;
            /* where dot products of bytes are one instruction, n is what they begin with (kernels.h) */
            const bool dots = isa == QRL_ISA_AVXVNNI || isa >= QRL_ISA_AVX512VNNI;
            memcpy(QRL_QACT_N(unit, width, i) + 4 * lane, dots ? (const void *)&start : parts, 4);
        }
    }
    assert_memory_equal(tile, want, bytes);
    free(tile);
    free(want);
}

/* Quantizing corner cases: zeros, subnormals, the largest float, ties, bad values; any number of units. */
static void quantize_is_the_same_everywhere(void **state) {
    (void)state;
    enum { UNITS = 64 };
    float x[UNITS * QRL_UNIT];
    for (size_t i = 0; i < UNITS * QRL_UNIT; i++) {
        const size_t u = i / QRL_UNIT;
        x[i] = u == 0   ? 0.0f
               : u == 1 ? 1e-42f * (float)(i % 7)
               : u == 2 ? (i % 2 ? 3.4e38f : -1e38f)
               : u == 3 ? (float)(i % QRL_UNIT) * 0.5f
               : u == 4 ? -0.0f
               : u == 5 ? 1e-37f * (float)(i % 5)
               : u == 7 ? (i % QRL_UNIT == 9 ? -INFINITY : 1.0f)
               : u == 9 ? (i % QRL_UNIT == 31 ? NAN : 2.0f)
                        : ldexpf(rng_float(), (int)(u * 3) - 96);
    }
    x[3 * QRL_UNIT] = 127.0f; /* d = 1: the halves are ties */
    unsigned char spec[UNITS * QRL_QACT_BYTES(1)];
    memset(spec, 0, sizeof spec);
    qrl_kernels_scalar.quantize(x, UNITS, spec, 1, 0);
    const int8_t *tie = (const int8_t *)spec + 3 * QRL_QACT_BYTES(1);
    assert_int_equal(tie[1], 0); /* 0.5 */
    assert_int_equal(tie[3], 2); /* 1.5 */
    assert_int_equal(tie[5], 2); /* 2.5 */
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (size_t width = 1; width <= (size_t)1 << qrl_kernels_get(isa)->tile_log2; width *= 2)
            for (size_t n = 1; n <= UNITS; n++)
                quantized_as(spec, x, n, isa, width, n % width);
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (size_t width = 1; width <= (size_t)1 << qrl_kernels_get(isa)->tile_log2; width *= 2) {
            unsigned char rows[QRL_QACT_BYTES(QRL_TILE_MAX)] = {0}, unit[sizeof rows] = {0};
            for (size_t r = 0; r < width; r++)
                qrl_kernels_get(isa)->quantize(x + r * QRL_UNIT, 1, rows, width, r);
            qrl_kernels_get(isa)->quantize_unit(x, unit, width);
            assert_memory_equal(unit, rows, sizeof rows);
        }
}

static void exp_is_right_and_the_same(void **state) {
    (void)state;
    enum { N = 40000 };
    float *x = malloc(N * sizeof *x), *spec = malloc(N * sizeof *x), *out = malloc(N * sizeof *x);
    for (int i = 0; i < N; i++)
        x[i] = -90.0f + 180.0f * (float)i / N;
    x[0] = -INFINITY;
    x[1] = NAN;
    x[2] = INFINITY;
    qrl_kernels_scalar.exp(x, spec, N);
    assert_true(spec[0] == 0.0f);
    assert_true(isnan(spec[1]));
    double worst = 0;
    for (int i = 3; i < N; i++)
        if (x[i] >= -86.9f && x[i] <= 87.9f) {
            const double want = exp((double)x[i]);
            worst = fmax(worst, fabs((double)spec[i] - want) / want);
        }
    print_message("e^x: worst relative error %.3g\n", worst);
    assert_true(worst < 1.5e-7);
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
        qrl_kernels_get(isa)->exp(x, out, N);
        for (int i = 0; i < N; i++)
            assert_true(memcmp(&out[i], &spec[i], sizeof *out) == 0 || (isnan(out[i]) && isnan(spec[i])));
    }
    free(x);
    free(spec);
    free(out);
}

/* norm, glu: the same in each set, and right to a few units in the last place. */
static void rows_are_the_same_everywhere(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 15, 16, 17, 64, 576, 2048};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t n = sizes[s];
        float *x = random_floats(n), *w = random_floats(n), *bias = random_floats(n);
        float *spec = malloc(3 * n * sizeof *spec), *out = malloc(3 * n * sizeof *out);
        for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa)) {
            const qrl_kernels *k = qrl_kernels_get(isa);
            float *to = isa == QRL_ISA_SCALAR ? spec : out;
            k->norm_rms(x, w, to, n, 1e-5f);
            k->norm_layer(x, w, bias, to + n, n, 1e-5f);
            k->activate[QRL_ACT_SILU](x, w, to + 2 * n, n);
            if (isa != QRL_ISA_SCALAR)
                assert_memory_equal(out, spec, 3 * n * sizeof *out);
        }
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
        }
        const double mean = sum / (double)n, rms = 1 / sqrt(squares / (double)n + 1e-5);
        double var = 0;
        for (size_t i = 0; i < n; i++)
            var += ((double)x[i] - mean) * ((double)x[i] - mean);
        const double inv = 1 / sqrt(var / (double)n + 1e-5);
        for (size_t i = 0; i < n; i++) {
            const double xi = (double)x[i], wi = (double)w[i];
            assert_true(fabs((double)spec[i] - xi * rms * wi) <= 1e-6 * fabs(xi * rms * wi) + 1e-30);
            /* x - mean cancels: the error is that of x, times the factors after it */
            assert_true(fabs((double)spec[n + i] - ((xi - mean) * inv * wi + (double)bias[i])) <=
                        1e-6 * (fabs(xi * inv * wi) + fabs((double)bias[i])) + 1e-6);
            assert_true(fabs((double)spec[2 * n + i] - xi / (1 + exp(-xi)) * wi) <= 1e-6 * fabs(xi * wi) + 1e-30);
        }
        free(x);
        free(w);
        free(bias);
        free(spec);
        free(out);
    }
}

static void rope_turns(void **state) {
    (void)state;
    qrl_backend *b = backend(QRL_ISA_SCALAR, 1, 1, 32);
    const float cs[4] = {0.0f, 1.0f, -1.0f, 0.0f}; /* a quarter turn, a half turn */
    float pair[] = {1, 2, 3, 4, 5}, half[] = {1, 2, 3, 4, 5};
    const float want_pair[] = {-2, 1, -3, -4, 5}, want_half[] = {-3, -2, 1, -4, 5};
    qrl_cpu_ops.rope(b, &(qrl_rope_op){QRL_ROPE_PAIR, pair, cs, 1, 1, 5, 4});
    qrl_cpu_ops.rope(b, &(qrl_rope_op){QRL_ROPE_HALF, half, cs, 1, 1, 5, 4});
    for (int i = 0; i < 5; i++) {
        assert_true(pair[i] == want_pair[i]);
        assert_true(half[i] == want_half[i]);
    }
    qrl_cpu_ops.destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_the_same_everywhere),
        cmocka_unit_test(large_integers_are_exact),
        cmocka_unit_test(a_fine_product_is_the_same_everywhere),
        cmocka_unit_test(a_fine_product_has_two_terms),
        cmocka_unit_test(linear_is_right),
        cmocka_unit_test(bad_activations_stay_visible),
        cmocka_unit_test(quantize_is_the_same_everywhere),
        cmocka_unit_test(exp_is_right_and_the_same),
        cmocka_unit_test(rows_are_the_same_everywhere),
        cmocka_unit_test(rope_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
