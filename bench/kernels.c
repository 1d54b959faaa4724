/* Speed of the matrix products, type by type: prefill (512 rows) in multiply-adds a second, decode (1 row) in bytes of
 * packed weights a second, both also in percent of the limit: the same threads' multiply-adds of that kind, and their
 * reading of those very bytes. Product and limit are measured in turns, and the percentage is the median of the turns:
 * it stands still where the machine's speed does not.
 *
 *     bench_kernels [threads] [isa] [type ...]          2048 x 2048 for prefill, 131072 x 8192 for decode,
 * far larger than the caches */
#include "base/clock.h"
#include "cpu/cpu.h"
#include "cpu/cpu_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFILL_ROWS = 512, TURNS = 21, PIECE = 1 << 20 };

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

/* What a product is measured against. */
struct limit {
    qrl_backend *b;
    const unsigned char *data; /* reading it; NULL: multiply-adds */
    size_t bytes;
    int sums;    /* as of qrl_sums_of_16_bits; 0: of floats */
    double done; /* of a task: all do the same */
};

static void limit_task(void *context, size_t task, int thread) {
    enum { ROUNDS = 400000 };
    struct limit *l = context;
    const qrl_kernels *k = l->b->kernels;
    float sink[QRL_GROUP];
    const size_t from = task * PIECE, left = l->bytes - from;
    if (l->data)
        k->limit_read(l->data + from, left < PIECE ? left / 256 * 256 : PIECE, sink);
    else if (thread == 0)
        l->done = (double)(l->sums ? k->limit_int8(ROUNDS, l->sums, sink) : k->limit_f32(ROUNDS, sink));
    else
        l->sums ? k->limit_int8(ROUNDS, l->sums, sink) : k->limit_f32(ROUNDS, sink);
}

/* Bytes or multiply-adds a second. */
static double measure_limit(struct limit *l) {
    const size_t threads = (size_t)qrl_pool_threads(l->b->pool), pieces = (l->bytes + PIECE - 1) / PIECE;
    const double start = qrl_now();
    qrl_pool_run(l->b->pool, l->data ? pieces : threads, limit_task, l);
    const double seconds = qrl_now() - start;
    return (l->data ? (double)l->bytes : (double)threads * l->done) / seconds;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct speed {
    double best, part; /* a second; median of the parts of the limit */
};

/* A product of n_rows rows. False when there is not enough memory. */
static bool measure(qrl_backend *b, qrl_type type, size_t n_out, size_t n_in, size_t n_rows, struct speed *out) {
    qrl_error err;
    qrl_weight *w = NULL;
    unsigned char *data = random_blocks(type, n_out * n_in);
    float *x = calloc(n_rows * n_in, sizeof *x), *y = calloc(n_rows * n_out, sizeof *y);
    const bool ok =
        data && x && y &&
        qrl_cpu_ops.weight_create(b, &(qrl_matrix){type, n_out, n_in, data}, QRL_USE_LINEAR, &w, &err) == QRL_OK;
    free(data);
    if (ok) {
        const qrl_pack *p = qrl_pack_of(type);
        const bool reads = n_rows == 1 && w->packed;
        struct limit limit = {.b = b,
                              .data = reads ? w->packed : NULL,
                              .bytes = w->n_groups * w->group_bytes,
                              .sums = p ? qrl_sums_of_16_bits(p->planes, p->offset, p->lut, p->head) : 0};
        const double work = reads ? (double)limit.bytes : (double)n_rows * (double)n_out * (double)n_in;
        double part[TURNS];
        *out = (struct speed){0};
        for (size_t i = 0; i < n_rows * n_in; i++)
            x[i] = (float)(draw() & 0xffff) / 32768.0f - 1.0f;
        for (int i = 0; i < TURNS; i++) {
            const double most = measure_limit(&limit), start = qrl_now();
            qrl_cpu_ops.linear(b, &(qrl_linear_op){.n = 1, .weight = {w}, .out = {y}, .x = x, .n_rows = n_rows});
            const double rate = work / (qrl_now() - start);
            out->best = rate > out->best ? rate : out->best;
            part[i] = rate / most;
        }
        qsort(part, TURNS, sizeof *part, ascending);
        out->part = part[TURNS / 2];
        qrl_cpu_ops.weight_destroy(b, w);
    }
    free(y);
    free(x);
    return ok;
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
        struct speed p, d;
        if (!wanted)
            continue;
        if (!measure(b, type, 2048, 2048, PREFILL_ROWS, &p) || !measure(b, type, 131072, 8192, 1, &d)) {
            fprintf(stderr, "bench_kernels: out of memory\n");
            return 1;
        }
        printf("%-8s %10.1f %5.0f%% %10.1f %5.0f%%\n", qrl_quant_traits(type)->name, p.best * 1e-9, 100 * p.part,
               d.best * 1e-9, 100 * d.part);
    }
    qrl_cpu_ops.destroy(b);
    return 0;
}
