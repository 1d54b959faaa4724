/* What this machine can do at most with the given threads and instruction set, measured. */
#include "base/clock.h"
#include "cpu/cpu_int.h"

#include <string.h>
#include <unistd.h>

enum { ROUNDS = 2000000, READ_PIECE = 4 << 20, REPEATS = 5 };

/* Twice the last-level cache at least, or the cache would be measured. */
static size_t read_pieces(void) {
    long cache = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    const size_t pieces = cache > 0 ? 2 * (size_t)cache / READ_PIECE : 0;
    return pieces > 64 ? pieces : 64;
}

struct limit_job {
    const qrl_kernels *kernels;
    uint64_t (*macs)(uint64_t n, float *sink); /* NULL: limit_int8 with `sums` */
    int sums;
    void (*read)(const unsigned char *data, size_t n, float *sink);
    unsigned char *data;
    uint64_t done[QRL_MAX_THREADS];
};

static void macs_task(void *context, size_t task, int thread) {
    (void)thread;
    struct limit_job *j = context;
    float sink[QRL_GROUP];
    j->done[task] = j->macs ? j->macs(ROUNDS, sink) : j->kernels->limit_int8(ROUNDS, j->sums, sink);
}

/* Pages of their own: untouched ones would all be one zero page. */
static void touch_task(void *context, size_t task, int thread) {
    (void)thread;
    struct limit_job *j = context;
    memset(j->data + task * READ_PIECE, 1, READ_PIECE);
}

static void read_task(void *context, size_t task, int thread) {
    (void)thread;
    struct limit_job *j = context;
    float sink[QRL_GROUP];
    j->read(j->data + task * READ_PIECE, READ_PIECE, sink);
}

/* The best of a few rounds: a limit is what is possible, not what is usual. */
static double best_macs(qrl_pool *pool, struct limit_job job) {
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        const double start = qrl_now();
        qrl_pool_run(pool, (size_t)qrl_pool_threads(pool), macs_task, &job);
        const double seconds = qrl_now() - start;
        double done = 0;
        for (int t = 0; t < qrl_pool_threads(pool); t++)
            done += (double)job.done[t];
        best = done / seconds > best ? done / seconds : best;
    }
    return best;
}

/* Of a mixture of types: macs[type] multiply-adds each. NULL: of bytes. */
static double int8_limit(qrl_pool *pool, const qrl_kernels *k, const uint64_t *macs) {
    double limit[9] = {0}, total = 0, seconds = 0; /* [sums] */
    for (qrl_type type = 0; macs && type < QRL_TYPE_COUNT; type++) {
        const qrl_pack *p = qrl_pack_of(type);
        if (!p || !macs[type])
            continue;
        const int sums = qrl_sums_of_16_bits(p->planes, p->offset, p->lut, p->head);
        if (limit[sums] == 0)
            limit[sums] = best_macs(pool, (struct limit_job){.kernels = k, .sums = sums});
        total += (double)macs[type];
        seconds += (double)macs[type] / limit[sums];
    }
    return seconds > 0 ? total / seconds : best_macs(pool, (struct limit_job){.kernels = k, .sums = 1});
}

qrl_status qrl_cpu_measure_limits(const qrl_backend_params *params, const uint64_t *macs, qrl_limits *out,
                                  qrl_error *err) {
    *out = (qrl_limits){0};
    const qrl_kernels *k = qrl_kernels_get(params->isa);
    if (!k)
        return qrl_fail(err, QRL_ERR_UNSUPPORTED, "instruction set %s is not part of this build",
                        qrl_isa_name(params->isa));
    const size_t pieces = read_pieces(), bytes = READ_PIECE * pieces;
    unsigned char *data = qrl_alloc_aligned(bytes);
    if (!data)
        return qrl_fail_memory(err, "measuring the read bandwidth", bytes);
    qrl_pool *pool;
    const qrl_status status = qrl_pool_create(params->n_threads, &pool, err);
    if (status == QRL_OK) {
        out->int8_macs = int8_limit(pool, k, macs);
        out->f32_macs = best_macs(pool, (struct limit_job){.macs = k->limit_f32});
        if (k->limit_bf16)
            out->bf16_macs = best_macs(pool, (struct limit_job){.macs = k->limit_bf16});
        if (k->limit_tiles)
            out->tile_macs = best_macs(pool, (struct limit_job){.macs = k->limit_tiles});
        struct limit_job job = {.read = k->limit_read, .data = data};
        qrl_pool_run(pool, pieces, touch_task, &job);
        for (int i = 0; i < REPEATS; i++) {
            const double start = qrl_now();
            qrl_pool_run(pool, pieces, read_task, &job);
            const double rate = (double)bytes / (qrl_now() - start);
            out->read_bytes = rate > out->read_bytes ? rate : out->read_bytes;
        }
        qrl_pool_destroy(pool);
    }
    qrl_free_aligned(data);
    return status;
}
