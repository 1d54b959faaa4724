/* Speed of the matrix products, type by type: prefill (512 rows) in multiply-adds a second and percent
 * of the limit that the same threads reach in this run, decode (1 row) in bytes of packed weights a
 * second and percent of the read bandwidth.
 *
 *     bench_kernels [threads] [isa] [type ...]          2048 x 2048 for prefill, 16384 x 8192 for decode,
 * far larger than the caches */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFILL_ROWS = 512, REPEATS = 7 };

static uint64_t state = 1;

static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Random bytes with small, normal scales: zeros would time an easier problem, subnormal numbers a
 * harder one. */
static unsigned char *random_blocks(qrl_type type, size_t values) {
    const qrl_traits *t = qrl_quant_traits(type);
    const size_t blocks = values / t->block_values;
    unsigned char *data = malloc(blocks * t->block_bytes);
    for (size_t b = 0; data && b < blocks; b++) {
        unsigned char *p = data + b * t->block_bytes;
        for (size_t i = 0; i < t->block_bytes; i++)
            p[i] = (unsigned char)((draw() & 0x2f) | 0x21); /* f16 of this pattern lie in 0.01 .. 0.12 */
        if (t->scales == 0)                                 /* bf16 and f32: an exponent near that of one */
            p[t->block_bytes - 1] = type == QRL_F16 ? 0x2f : 0x3d;
        if (type == QRL_MXFP4)
            p[0] = 120;
    }
    return data;
}

/* Best seconds of one product of n_rows rows. */
static double time_linear(qrl_backend *b, qrl_type type, size_t n_out, size_t n_in, size_t n_rows, size_t *bytes) {
    qrl_error err;
    qrl_weight *w;
    unsigned char *data = random_blocks(type, n_out * n_in);
    float *x = calloc(n_rows * n_in, sizeof *x), *out = calloc(n_rows * n_out, sizeof *out);
    double best = -1;
    if (data && x && out &&
        qrl_cpu_ops.weight_create(b, &(qrl_matrix){type, n_out, n_in, data}, QRL_USE_LINEAR, &w, &err) == QRL_OK) {
        *bytes = qrl_cpu_ops.weight_bytes(w);
        for (size_t i = 0; i < n_rows * n_in; i++)
            x[i] = (float)(draw() & 0xffff) / 32768.0f - 1.0f;
        for (int i = 0; i < REPEATS; i++) {
            const double start = qrl_now();
            qrl_cpu_ops.linear(b, &(qrl_linear_op){.n = 1, .weight = {w}, .out = {out}, .x = x, .n_rows = n_rows});
            const double t = qrl_now() - start;
            best = best < 0 || t < best ? t : best;
        }
        qrl_cpu_ops.weight_destroy(b, w);
    }
    free(out);
    free(x);
    free(data);
    return best;
}

int main(int argc, char **argv) {
    qrl_error err;
    qrl_backend_params params = {.n_threads = argc > 1 ? atoi(argv[1]) : 0};
    qrl_backend *b;
    qrl_limits limits;
    if (qrl_isa_parse(argc > 2 ? argv[2] : "auto", &params.isa, &err) != QRL_OK ||
        qrl_cpu_measure_limits(&params, NULL, &limits, &err) != QRL_OK ||
        qrl_cpu_ops.create(&params, &b, &err) != QRL_OK ||
        qrl_cpu_ops.reserve(b, &(qrl_reserve){.max_rows = PREFILL_ROWS, .max_cols = 8192, .max_head_dim = 128}, &err) !=
            QRL_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return 1;
    }
    printf("%s, %s, %d threads: int8 %.0f, f32 %.0f, bf16 %.0f G multiply-adds/s, read %.1f GB/s\n", qrl_cpu_name(),
           qrl_isa_name(params.isa), qrl_cpu_ops.threads(b), limits.int8_macs * 1e-9, limits.f32_macs * 1e-9,
           limits.bf16_macs * 1e-9, limits.read_bytes * 1e-9);
    printf("%-8s %10s %6s %10s %6s\n", "type", "prefill", "limit", "decode", "limit");
    printf("%-8s %10s %6s %10s %6s\n", "", "G madd/s", "%", "GB/s", "%");
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++) {
        bool wanted = argc <= 3;
        for (int i = 3; i < argc; i++)
            wanted = wanted || strcmp(argv[i], qrl_quant_traits(type)->name) == 0;
        if (!wanted)
            continue;
        size_t bytes = 0;
        const double p = time_linear(b, type, 2048, 2048, PREFILL_ROWS, &bytes);
        const double d = time_linear(b, type, 131072, 8192, 1, &bytes);
        if (p <= 0 || d <= 0) {
            fprintf(stderr, "bench_kernels: out of memory\n");
            return 1;
        }
        const double macs = 2048.0 * 2048.0 * PREFILL_ROWS / p, rate = (double)bytes / d;
        uint64_t only[QRL_TYPE_COUNT] = {0};
        only[type] = 1;
        if (qrl_cpu_measure_limits(&params, only, &limits, &err) != QRL_OK) {
            fprintf(stderr, "bench_kernels: %s\n", err.text);
            return 1;
        }
        const double limit = qrl_quant_traits(type)->scales ? limits.int8_macs : limits.f32_macs;
        printf("%-8s %10.1f %5.0f%% %10.1f %5.0f%%\n", qrl_quant_traits(type)->name, macs * 1e-9, 100 * macs / limit,
               rate * 1e-9, 100 * rate / limits.read_bytes);
    }
    qrl_cpu_ops.destroy(b);
    return 0;
}
