/* quarrel bench: how fast a model runs here, and how near that is to what this machine can do. Machines change their
 * speed within seconds, so the limits are measured again between repetitions, and each is compared with those of its
 * time. */
#include "cli.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "json.h"
#include "open.h"
#include "term.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tokens a second of the repetitions, in their order. */
typedef struct series {
    double *rates;  /* [n] */
    double *limits; /* [n] what the machine's limits allowed then */
    double *parts;  /* [n] rate by limit */
    double *sorted; /* [n] scratch */
    size_t n;
    double median, min, max, mean, deviation;
    double limit, part; /* medians each: where limits moved, part is not median by limit */
} series;

typedef struct job {
    qrl_model *model;
    qrl_session *session;
    qrl_model_info info;
    qrl_limits now, limits; /* as measured last; the highest of all */
    double looked;          /* when that was */
    uint32_t n_prompt, n_decode, depth;
    size_t reps;
    int32_t *tokens; /* [depth + max(n_prompt, n_decode)] */
    float *logits;   /* [n_vocab] */
    double kv_scale; /* of the cache's size */
    series prefill, decode;
} job;

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Leaves x ascending in s->sorted. */
static double median_of(series *s, const double *x) {
    const size_t n = s->n;
    memcpy(s->sorted, x, n * sizeof *x);
    qsort(s->sorted, n, sizeof *x, ascending);
    return n % 2 ? s->sorted[n / 2] : 0.5 * (s->sorted[n / 2 - 1] + s->sorted[n / 2]);
}

static void sum_up(series *s) {
    if (!s->n)
        return;
    s->limit = median_of(s, s->limits);
    s->part = median_of(s, s->parts);
    s->median = median_of(s, s->rates);
    s->min = s->sorted[0];
    s->max = s->sorted[s->n - 1];
    for (size_t i = 0; i < s->n; i++)
        s->mean += s->rates[i] / (double)s->n;
    for (size_t i = 0; i < s->n; i++)
        s->deviation += (s->rates[i] - s->mean) * (s->rates[i] - s->mean);
    s->deviation = s->n > 1 ? sqrt(s->deviation / (double)(s->n - 1)) : 0;
}

/* Tokens a second if every multiply-add ran at the machine's speed and nothing else took time. */
static double prefill_limit(const job *j) {
    const double seen = j->depth + (j->n_prompt - 1) / 2.0; /* earlier positions, on average */
    const double floats = (double)j->info.prompt_macs_float + seen * (double)j->info.kv_macs;
    return 1.0 / ((double)j->info.prompt_macs_int8 / j->now.int8_macs + floats / j->now.f32_macs);
}

/* The same if every weight and every cached key and value were read once for each token. */
static double decode_limit(const job *j) {
    const double seen = j->depth + (j->n_decode - 1) / 2.0;
    return j->now.read_bytes / ((double)j->info.read_bytes + seen * j->kv_scale * (double)j->info.kv_read_bytes);
}

static qrl_status time_prefill(job *j, double *out, qrl_error *err) {
    qrl_session_truncate(j->session, j->depth);
    const double start = qrl_now();
    QRL_TRY(qrl_session_eval(j->session, j->tokens + j->depth, j->n_prompt, QRL_WANT_LAST, j->logits, err));
    *out = j->n_prompt / (qrl_now() - start);
    return QRL_OK;
}

static qrl_status time_decode(job *j, double *out, qrl_error *err) {
    qrl_session_truncate(j->session, j->depth);
    const double start = qrl_now();
    for (uint32_t i = 0; i < j->n_decode; i++)
        QRL_TRY(qrl_session_eval(j->session, j->tokens + j->depth + i, 1, QRL_WANT_LAST, j->logits, err));
    *out = j->n_decode / (qrl_now() - start);
    return QRL_OK;
}

/* Measures the limits, unless that was a moment ago. */
static qrl_status look(job *j, qrl_error *err) {
    enum { MOMENT = 1 }; /* seconds */
    if (j->looked > 0 && qrl_now() - j->looked < MOMENT)
        return QRL_OK;
    QRL_TRY(qrl_model_measure_limits(j->model, &j->now, err));
    j->looked = qrl_now();
    j->limits.int8_macs = fmax(j->limits.int8_macs, j->now.int8_macs);
    j->limits.f32_macs = fmax(j->limits.f32_macs, j->now.f32_macs);
    j->limits.bf16_macs = fmax(j->limits.bf16_macs, j->now.bf16_macs);
    j->limits.tile_macs = fmax(j->limits.tile_macs, j->now.tile_macs);
    j->limits.read_bytes = fmax(j->limits.read_bytes, j->now.read_bytes);
    return QRL_OK;
}

/* The repetitions of one kind, between limits before and after each. */
static qrl_status repeat(job *j, series *s, qrl_status (*run)(job *j, double *out, qrl_error *err),
                         double (*limit)(const job *j), cli_progress *bar, size_t *done, qrl_error *err) {
    QRL_TRY(look(j, err));
    while (s->n < j->reps) {
        const double before = limit(j);
        QRL_TRY(run(j, &s->rates[s->n], err));
        QRL_TRY(look(j, err));
        s->limits[s->n] = 0.5 * (before + limit(j));
        s->parts[s->n] = s->rates[s->n] / s->limits[s->n];
        s->n++;
        cli_progress_update(bar, ++*done);
    }
    return QRL_OK;
}

static qrl_status measure(const cli *c, job *j, qrl_error *err) {
    cli_progress bar;
    double ignored;
    const size_t steps = (j->n_prompt ? j->reps : 0) + (j->n_decode ? j->reps : 0);
    size_t done = 0;
    cli_progress_begin(&bar, c, "measuring", steps, false);
    if (j->depth)
        QRL_TRY(qrl_session_eval(j->session, j->tokens, j->depth, QRL_WANT_NONE, NULL, err));
    if (j->n_prompt) { /* the first run touches memory for the first time: not counted */
        QRL_TRY(time_prefill(j, &ignored, err));
        QRL_TRY(repeat(j, &j->prefill, time_prefill, prefill_limit, &bar, &done, err));
    }
    if (j->n_decode) {
        qrl_session_truncate(j->session, j->depth);
        QRL_TRY(qrl_session_eval(j->session, j->tokens + j->depth, 1, QRL_WANT_LAST, j->logits, err));
        QRL_TRY(repeat(j, &j->decode, time_decode, decode_limit, &bar, &done, err));
    }
    cli_progress_end(&bar);
    sum_up(&j->prefill);
    sum_up(&j->decode);
    return QRL_OK;
}

static qrl_status new_series(series *s, size_t n, qrl_error *err) {
    QRL_TRY(qrl_new_array(&s->rates, n, "results", err));
    QRL_TRY(qrl_new_array(&s->limits, n, "results", err));
    QRL_TRY(qrl_new_array(&s->parts, n, "results", err));
    return qrl_new_array(&s->sorted, n, "results", err);
}

static void free_series(series *s) {
    free(s->rates);
    free(s->limits);
    free(s->parts);
    free(s->sorted);
}

static qrl_status prepare(const cli *c, job *j, qrl_error *err) {
    j->n_prompt = (uint32_t)cli_int(c, CLI_OPT_BENCH_PROMPT);
    j->n_decode = (uint32_t)cli_int(c, CLI_OPT_BENCH_N);
    j->depth = (uint32_t)cli_int(c, CLI_OPT_BENCH_DEPTH);
    j->reps = (size_t)cli_int(c, CLI_OPT_BENCH_REPS);
    if (!j->n_prompt && !j->n_decode)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "-p 0 and -n 0 leave nothing to measure; give one of them a number");
    QRL_TRY(cli_open_model(c, false, &j->model, err));
    qrl_model_get_info(j->model, &j->info);
    const uint64_t n = (uint64_t)j->depth + (j->n_prompt > j->n_decode ? j->n_prompt : j->n_decode);
    if (n > j->info.n_ctx_train)
        return qrl_fail(err, QRL_ERR_LIMIT,
                        "%s: %llu positions are needed, and the model can take %u; use smaller -p, -n or -d",
                        j->info.path, (unsigned long long)n, j->info.n_ctx_train);
    qrl_session_params params = qrl_session_default_params();
    params.n_ctx = (uint32_t)n;
    QRL_TRY(cli_kv_types(c, &params.kv_type_k, &params.kv_type_v, err));
    j->kv_scale = cli_kv_scale(params.kv_type_k, params.kv_type_v);
    QRL_TRY(qrl_session_create(j->model, &params, &j->session, err));
    QRL_TRY(qrl_new_array(&j->tokens, (size_t)n, "token ids", err));
    for (size_t i = 0; i < n; i++)
        j->tokens[i] = (int32_t)(qrl_rng(0, i) % j->info.n_vocab);
    QRL_TRY(qrl_new_array(&j->logits, j->info.n_vocab, "logits", err));
    QRL_TRY(new_series(&j->prefill, j->reps, err));
    return new_series(&j->decode, j->reps, err);
}

/* ---- output ---- */

static void print_series(const cli *c, const char *name, uint32_t n, const series *s, const char *limit) {
    if (!s->n)
        return;
    fprintf(
        c->out,
        "%s%-8s%s %5u tokens  %9.1f tokens/s  (%.1f to %.1f, deviation %.1f)  %s%.0f%%%s of the limit by %s, %.1f\n",
        cli_color(c, c->out, CLI_BOLD), name, cli_color(c, c->out, CLI_PLAIN), n, s->median, s->min, s->max,
        s->deviation, cli_color(c, c->out, CLI_GREEN), 100 * s->part, cli_color(c, c->out, CLI_PLAIN), limit, s->limit);
}

static void print_text(const cli *c, const job *j) {
    char a[CLI_FORMAT_SIZE], b[CLI_FORMAT_SIZE];
    fprintf(c->out, "model    %s: %s, %s parameters, %s\n", j->info.path, j->info.architecture,
            cli_format_short(a, j->info.n_params), cli_format_bytes(b, j->info.weight_bytes));
    fprintf(c->out, "machine  %s, %d threads, %s\n", qrl_cpu_name(), j->info.n_threads, j->info.isa);
    fprintf(c->out, "limits   int8 %.1f, f32 %.1f", j->limits.int8_macs * 1e-9, j->limits.f32_macs * 1e-9);
    if (j->limits.bf16_macs > 0)
        fprintf(c->out, ", bf16 %.1f", j->limits.bf16_macs * 1e-9);
    if (j->limits.tile_macs > 0)
        fprintf(c->out, ", int8 tiles %.1f", j->limits.tile_macs * 1e-9);
    fprintf(c->out, " billion multiply-adds/s; reading %.1f GB/s\n", j->limits.read_bytes * 1e-9);
    if (j->depth)
        fprintf(c->out, "depth    %u tokens in the context before\n", j->depth);
    print_series(c, "prefill", j->n_prompt, &j->prefill, "arithmetic");
    print_series(c, "decode", j->n_decode, &j->decode, "bandwidth");
}

static void json_series(cli_json *out, const char *key, uint32_t n, const series *s) {
    if (!s->n)
        return;
    cli_json_object(out, key);
    cli_json_uint(out, "tokens", n);
    cli_json_float(out, "median", s->median, 6);
    cli_json_float(out, "min", s->min, 6);
    cli_json_float(out, "max", s->max, 6);
    cli_json_float(out, "mean", s->mean, 6);
    cli_json_float(out, "deviation", s->deviation, 6);
    cli_json_float(out, "limit", s->limit, 6);
    cli_json_float(out, "percent_of_limit", 100 * s->part, 4);
    cli_json_array(out, "repetitions");
    for (size_t i = 0; i < s->n; i++) {
        cli_json_object(out, NULL);
        cli_json_float(out, "rate", s->rates[i], 6);
        cli_json_float(out, "limit", s->limits[i], 6);
        cli_json_float(out, "percent_of_limit", 100 * s->parts[i], 4);
        cli_json_end_object(out);
    }
    cli_json_end_array(out);
    cli_json_end_object(out);
}

static void print_json(const cli *c, const job *j) {
    cli_json out;
    cli_json_begin(&out, c->out);
    cli_json_object(&out, NULL);
    cli_json_text(&out, "version", qrl_version());
    cli_json_text(&out, "model", j->info.path);
    cli_json_text(&out, "architecture", j->info.architecture);
    cli_json_uint(&out, "parameters", j->info.n_params);
    cli_json_uint(&out, "weight_bytes", j->info.weight_bytes);
    cli_json_uint(&out, "resident_bytes", j->info.resident_bytes);
    cli_json_text(&out, "cpu", qrl_cpu_name());
    cli_json_int(&out, "threads", j->info.n_threads);
    cli_json_text(&out, "isa", j->info.isa);
    cli_json_uint(&out, "depth", j->depth);
    cli_json_uint(&out, "repetitions", j->reps);
    cli_json_object(&out, "limits");
    cli_json_float(&out, "int8_macs_per_second", j->limits.int8_macs, 6);
    cli_json_float(&out, "f32_macs_per_second", j->limits.f32_macs, 6);
    cli_json_float(&out, "bf16_macs_per_second", j->limits.bf16_macs, 6);
    cli_json_float(&out, "int8_tile_macs_per_second", j->limits.tile_macs, 6);
    cli_json_float(&out, "read_bytes_per_second", j->limits.read_bytes, 6);
    cli_json_end_object(&out);
    json_series(&out, "prefill", j->n_prompt, &j->prefill);
    json_series(&out, "decode", j->n_decode, &j->decode);
    cli_json_end_object(&out);
}

static int bench_run(cli *c) {
    qrl_error err;
    job j = {0};
    qrl_status status = prepare(c, &j, &err);
    if (status == QRL_OK)
        status = measure(c, &j, &err);
    if (status == QRL_OK && cli_flag(c, CLI_OPT_JSON))
        print_json(c, &j);
    else if (status == QRL_OK)
        print_text(c, &j);
    const int code = status == QRL_OK ? CLI_EXIT_OK : cli_fail_error(c, &err);
    qrl_session_close(j.session);
    qrl_model_close(j.model);
    free(j.tokens);
    free(j.logits);
    free_series(&j.prefill);
    free_series(&j.decode);
    return code;
}

const cli_command cli_cmd_bench = {
    .name = "bench",
    .summary = "measure prefill and decode, in tokens a second and percent of this machine's limits",
    .description =
        "Prints the median of the repetitions, their range and standard deviation. In the same run it measures what "
        "this machine can do with the same threads and instruction set (multiply-adds with int8, float and bfloat16, "
        "sustained read bandwidth), and gives each result as a percent of its limit: prefill of the multiply-adds that "
        "its tokens need, decode of the bytes of weights and cache that each token must read. The percentage is the "
        "median of those of the repetitions, each beside the limits of its time, which --json lists. The limit of int8 "
        "is that of dot products in vectors; with AMX tile registers are listed too, whose sums are longer than a "
        "scale's 32 values.",
    .run = bench_run,
    .examples = {{"quarrel bench", "the demo model"},
                 {"quarrel bench -m model.gguf -p 512 -n 64 -r 5 --json", "for a script"},
                 {"quarrel bench -m model.gguf -d 4096", "behind a context of 4096 tokens"}},
};
