/* Speed of attention alone, over a paged cache larger than the processor's caches (as many layers in turn as that
 * takes): one row (decode) and a chunk of 256 rows (prefill) at the end of a context. Milliseconds a call, bytes of
 * the cache and multiply-adds a second, and their part of the limits that the same threads reach in this run.
 *
 *     bench_attention [threads] [isa] [depth] [what ...]    what: decode, prefill, a shape, a type; all by default */
#include "base/clock.h"
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 256, REPEATS = 5, MAX_LAYERS = 256 };

typedef struct shape {
    const char *name;
    uint32_t n_head, n_head_kv, dim;
} shape;

static const shape shapes[] = {{"tinyllama", 32, 4, 64},
                               {"llama3", 32, 8, 128},
                               {"gemma3", 4, 1, 256},
                               {"gpt2", 12, 12, 64},
                               {"granite", 12, 4, 128}};
static const char *const types[QRL_KV_TYPE_COUNT] = {
    [QRL_KV_F32] = "f32", [QRL_KV_F16] = "f16", [QRL_KV_Q8_0] = "q8_0", [QRL_KV_Q4_0] = "q4_0"};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* The words of the command line behind the first three choose what to measure. */
static bool wanted(int argc, char **argv, const char *const *family, size_t n, const char *name) {
    bool any = false, this = false;
    for (int i = 4; i < argc; i++)
        for (size_t j = 0; j < n; j++)
            if (strcmp(argv[i], family[j]) == 0) {
                any = true;
                this = this || strcmp(argv[i], name) == 0;
            }
    return this || !any;
}

static void fill(float *x, size_t n) {
    static uint64_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int64_t)(seed >> 40) / 8388608.0f - 1.0f;
    }
}

/* What the measurements of one shape and type share. */
typedef struct cache {
    qrl_backend *b;
    const shape *s;
    qrl_kv_type type;
    uint32_t depth, n_pages;
    uint32_t *pages; /* [n_pages] */
    size_t bytes;    /* of a layer */
    size_t n_layers;
    unsigned char *data; /* [n_layers][bytes] */
    float *x, *out;      /* [CHUNK][n_head][dim] */
} cache;

static qrl_kv_layer layer_of(const cache *c, size_t layer) {
    return (qrl_kv_layer){.data = (float *)(void *)(c->data + layer * c->bytes),
                          .n_head_kv = c->s->n_head_kv,
                          .k_dim = c->s->dim,
                          .v_dim = c->s->dim,
                          .type_k = c->type,
                          .type_v = c->type};
}

static void release(cache *c) {
    free(c->pages);
    if (c->data)
        qrl_cpu_ops.release(c->b, c->data);
    free(c->x);
    free(c->out);
}

/* Every layer holds the same keys and values, in memory of its own. */
static bool prepare(cache *c) {
    const long last_level = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t least = last_level > 64 << 20 ? 2 * (size_t)last_level : (size_t)128 << 20;
    qrl_error err;
    c->n_pages = (c->depth + QRL_PAGE - 1) / QRL_PAGE;
    const size_t page = qrl_kv_key_bytes(c->type, c->s->dim) + qrl_kv_value_bytes(c->type, c->s->dim);
    c->bytes = page * c->n_pages * c->s->n_head_kv;
    c->n_layers = least / c->bytes + 2 < MAX_LAYERS ? least / c->bytes + 2 : MAX_LAYERS;
    const size_t row = (size_t)c->s->n_head * c->s->dim;
    c->pages = malloc(c->n_pages * sizeof *c->pages);
    c->x = malloc(CHUNK * row * sizeof *c->x);
    c->out = malloc(CHUNK * row * sizeof *c->out);
    void *data = NULL;
    if (!c->pages || !c->x || !c->out ||
        qrl_cpu_ops.alloc(c->b, c->n_layers * c->bytes, "the cache", &data, &err) != QRL_OK)
        return false;
    c->data = data;
    for (uint32_t i = 0; i < c->n_pages; i++)
        c->pages[i] = i;
    const qrl_kv_layer kv = layer_of(c, 0);
    for (uint32_t pos = 0; pos < c->depth; pos += CHUNK) {
        fill(c->x, CHUNK * row);
        const uint32_t n = c->depth - pos < CHUNK ? c->depth - pos : CHUNK;
        qrl_cpu_ops.kv_store(
            c->b, &(qrl_kv_store_op){kv, c->x, c->x, &(qrl_span){.n_rows = n, .pos = pos, .pages = c->pages}, 1});
    }
    for (size_t i = 1; i < c->n_layers; i++)
        memcpy(c->data + i * c->bytes, c->data, c->bytes);
    return true;
}

/* Best seconds of attention over one layer, of the last `rows` positions, each repeat over all layers. */
static double seconds(const cache *c, uint32_t rows, size_t layers) {
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        const double start = qrl_now();
        for (size_t l = 0; l < layers; l++)
            qrl_cpu_ops.attention(
                c->b,
                &(qrl_attention_op){.kv = layer_of(c, l),
                                    .q = c->x,
                                    .out = c->out,
                                    .spans = &(qrl_span){.n_rows = rows, .pos = c->depth - rows, .pages = c->pages},
                                    .n_spans = 1,
                                    .n_head = c->s->n_head,
                                    .scale = 0.125f});
        const double t = (qrl_now() - start) / (double)layers;
        best = t < best ? t : best;
    }
    return best;
}

static void report(const cache *c, const char *phase, uint32_t rows, double time, const qrl_limits *limits) {
    /* all rows see depth - rows positions and their own; of the rest they see half */
    const double seen = (double)c->depth - (double)(rows - 1) / 2;
    const double macs = 2.0 * c->s->n_head * c->s->dim * seen * rows / time, bytes = (double)c->bytes / time;
    printf("%-8s %-10s %-5s %10.3f %8.1f %5.0f%% %9.1f %5.0f%%\n", phase, c->s->name, types[c->type], time * 1e3,
           bytes * 1e-9, 100 * bytes / limits->read_bytes, macs * 1e-9, 100 * macs / limits->f32_macs);
    fflush(stdout);
}

static bool measure(cache *c, const qrl_limits *limits, bool decode, bool prefill) {
    const bool ready = prepare(c);
    if (ready && decode)
        report(c, "decode", 1, seconds(c, 1, c->n_layers), limits);
    if (ready && prefill && c->depth >= CHUNK)
        report(c, "prefill", CHUNK, seconds(c, CHUNK, 1), limits);
    release(c);
    return ready;
}

int main(int argc, char **argv) {
    qrl_error err;
    qrl_backend_params params = {.n_threads = argc > 1 ? atoi(argv[1]) : 0};
    const int depth = argc > 3 ? atoi(argv[3]) : 8192;
    qrl_backend *b;
    qrl_limits limits;
    if (depth < 1 || depth > 1 << 24) {
        fprintf(stderr, "bench_attention: a depth of %s; give positions, 1 to 16777216\n", argv[3]);
        return 1;
    }
    if (qrl_isa_parse(argc > 2 ? argv[2] : "auto", &params.isa, &err) != QRL_OK ||
        qrl_cpu_measure_limits(&params, NULL, &limits, &err) != QRL_OK ||
        qrl_cpu_ops.create(&params, &b, &err) != QRL_OK ||
        qrl_cpu_ops.reserve(b, &(qrl_reserve){.max_rows = CHUNK, .max_cols = 32, .max_head_dim = 256}, &err) !=
            QRL_OK) {
        fprintf(stderr, "bench_attention: %s\n", err.text);
        return 1;
    }
    printf("%s, %s, %d threads: f32 %.0f G multiply-adds/s, read %.1f GB/s; depth %d\n", qrl_cpu_name(),
           qrl_isa_name(params.isa), qrl_cpu_ops.threads(b), limits.f32_macs * 1e-9, limits.read_bytes * 1e-9, depth);
    printf("%-8s %-10s %-5s %10s %8s %6s %9s %6s\n", "", "shape", "cache", "ms", "GB/s", "limit", "G madd/s", "limit");
    const char *names[N_SHAPES], *const phases[] = {"decode", "prefill"};
    for (size_t i = 0; i < N_SHAPES; i++)
        names[i] = shapes[i].name;
    const bool decode = wanted(argc, argv, phases, 2, "decode"), prefill = wanted(argc, argv, phases, 2, "prefill");
    bool ok = true;
    for (size_t i = 0; i < N_SHAPES && ok; i++)
        for (qrl_kv_type type = 0; type < QRL_KV_TYPE_COUNT && ok; type++) {
            cache c = {.b = b, .s = &shapes[i], .type = type, .depth = (uint32_t)depth};
            if (wanted(argc, argv, names, N_SHAPES, names[i]) &&
                wanted(argc, argv, types, QRL_KV_TYPE_COUNT, types[type]))
                ok = measure(&c, &limits, decode, prefill);
        }
    if (!ok)
        fprintf(stderr, "bench_attention: out of memory\n");
    qrl_cpu_ops.destroy(b);
    return !ok;
}
