/* quarrel run: continues a text. The text streams to stdout as it is made; speeds go to stderr. */
#include "cli.h"

#include "base/mem.h"
#include "base/status.h"
#include "constrain.h"
#include "experts.h"
#include "json.h"
#include "open.h"
#include "term.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

/* One generated token, kept for --json. */
typedef struct record {
    int32_t token;
    double logprob;
    size_t top; /* its first entry in `tops` */
} record;

typedef struct job {
    cli *c;
    qrl_model *model, *draft; /* draft NULL: none */
    qrl_session *session;     /* or, where tokens are guessed: */
    qrl_engine *engine;
    uint32_t n_drafted, n_accepted, n_ctx;
    char *prompt;
    size_t prompt_size;
    int32_t *ids; /* [n_ids] of the prompt */
    size_t n_ids;
    qrl_logit_bias *bias;
    qrl_generate_params params;
    qrl_generate_result result;
    qrl_limits limits;
    double kv_scale; /* of the cache's size */
    bool ids_only, json;
    char last_byte;  /* of what was printed */
    qrl_buf text;    /* --json: what was generated */
    qrl_buf records; /* --json: record[] */
    qrl_buf tops;    /* --json: qrl_token_logprob[], n_top a record */
} job;

/* Keeps for --json; prints otherwise. */
static bool on_token(void *context, const qrl_generated *g) {
    job *j = context;
    if (j->json) {
        const record r = {g->token, g->logprob, j->tops.size / sizeof(qrl_token_logprob)};
        qrl_buf_append(&j->text, g->text, g->text_size);
        if (g->token >= 0)
            qrl_buf_append(&j->records, &r, sizeof r);
        if (g->n_top)
            qrl_buf_append(&j->tops, g->top, g->n_top * sizeof *g->top);
        return !interrupted && !j->text.failed && !j->records.failed && !j->tops.failed;
    }
    if (j->ids_only) {
        if (g->token >= 0)
            fprintf(j->c->out, "%s%d", j->last_byte ? " " : "", g->token);
        j->last_byte = ' ';
    } else if (g->text_size) {
        fwrite(g->text, 1, g->text_size, j->c->out);
        j->last_byte = g->text[g->text_size - 1];
    }
    return cli_flush(j->c) && !interrupted;
}

/* ---- what the command line says ---- */

static int count_sources(const cli *c) {
    return cli_is_set(c, CLI_OPT_PROMPT) + cli_is_set(c, CLI_OPT_PROMPT_FILE) + (c->n_args > 0);
}

static qrl_status read_prompt(const cli *c, job *j, qrl_error *err) {
    if (cli_is_set(c, CLI_OPT_PROMPT)) {
        const char *text = cli_text(c, CLI_OPT_PROMPT);
        j->prompt_size = strlen(text);
        j->prompt = strdup(text);
        return j->prompt ? QRL_OK : qrl_fail_memory(err, "the prompt", j->prompt_size + 1);
    }
    if (cli_is_set(c, CLI_OPT_PROMPT_FILE))
        return cli_read_all(cli_text(c, CLI_OPT_PROMPT_FILE), &j->prompt, &j->prompt_size, err);
    if (c->n_args > 0)
        return cli_read_all("-", &j->prompt, &j->prompt_size, err);
    j->prompt = strdup("");
    return j->prompt ? QRL_OK : qrl_fail_memory(err, "the prompt", 1);
}

/* "ID=X"; X may be -inf, which bans the token. */
static qrl_status read_bias(const char *text, qrl_logit_bias *out, qrl_error *err) {
    char *end;
    errno = 0;
    const long id = strtol(text, &end, 10);
    if (end == text || *end != '=' || id < 0 || id > INT32_MAX || errno)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "--logit-bias \"%s\": write it as ID=X, such as 15=-2.5 or 15=-inf",
                        text);
    const char *number = end + 1;
    const float bias = strtof(number, &end);
    if (end == number || *end || isnan(bias))
        return qrl_fail(err, QRL_ERR_ARGUMENT, "--logit-bias \"%s\": \"%s\" is no number", text, number);
    *out = (qrl_logit_bias){(int32_t)id, bias};
    return QRL_OK;
}

static qrl_status read_params(const cli *c, job *j, qrl_error *err) {
    j->params = qrl_generate_default_params();
    qrl_sampler_params *s = &j->params.sampler;
    cli_sampler(c, s);
    j->params.max_tokens = (uint32_t)cli_int(c, CLI_OPT_N_PREDICT);
    j->json = cli_flag(c, CLI_OPT_JSON);
    j->ids_only = cli_flag(c, CLI_OPT_IDS);
    j->params.n_top = j->json ? (unsigned)cli_int(c, CLI_OPT_LOGPROBS) : 0;
    const int n = cli_count(c, CLI_OPT_LOGIT_BIAS);
    QRL_TRY(qrl_new_array(&j->bias, (size_t)n, "logit biases", err));
    for (int i = 0; i < n; i++)
        QRL_TRY(read_bias(cli_text_at(c, CLI_OPT_LOGIT_BIAS, i), &j->bias[i], err));
    s->bias = j->bias;
    s->n_bias = (size_t)n;
    return QRL_OK;
}

/* ---- what is said beside the text ---- */

static double rate(uint32_t tokens, double seconds) {
    return seconds > 0 ? tokens / seconds : 0;
}

/* Share of the memory bandwidth that decoding used, in percent. */
static double bandwidth_percent(const job *j) {
    qrl_model_info info;
    qrl_model_get_info(j->model, &info);
    const qrl_generate_result *r = &j->result;
    /* on average a decoded token sees the prompt and half of what was generated */
    const double seen = r->n_prompt + r->n_decoded / 2.0;
    const double bytes = (double)info.read_bytes + seen * j->kv_scale * (double)info.kv_read_bytes;
    return 100.0 * rate(r->n_decoded, r->decode_seconds) * bytes / j->limits.read_bytes;
}

static void print_speeds(const job *j) {
    const cli *c = j->c;
    const qrl_generate_result *r = &j->result;
    fprintf(c->err, "%sprefill %u tokens, %.1f tokens/s; decode %u tokens, %.1f tokens/s",
            cli_color(c, c->err, CLI_DIM), r->n_prompt, rate(r->n_prompt, r->prefill_seconds), r->n_decoded,
            rate(r->n_decoded, r->decode_seconds));
    if (j->engine)
        fprintf(c->err, ", %u of %u guesses right", j->n_accepted, j->n_drafted);
    else if (j->limits.read_bytes > 0)
        fprintf(c->err, ", %.0f%% of the memory bandwidth (%.1f GB/s)", bandwidth_percent(j),
                j->limits.read_bytes * 1e-9);
    fprintf(c->err, "%s\n", cli_color(c, c->err, CLI_PLAIN));
}

static void print_machine(const job *j) {
    const cli *c = j->c;
    qrl_model_info info;
    char a[CLI_FORMAT_SIZE], b[CLI_FORMAT_SIZE];
    qrl_model_get_info(j->model, &info);
    fprintf(c->err, "model    %s%s%s, %s, %s parameters, %s\n", info.path, *info.name ? ": " : "", info.name,
            info.architecture, cli_format_short(a, info.n_params), cli_format_bytes(b, info.weight_bytes));
    fprintf(c->err, "machine  %s, %d threads, %s\n", qrl_cpu_name(), info.n_threads, info.isa);
    fprintf(c->err, "context  %u of %u positions\n", j->n_ctx, info.n_ctx_train);
}

static const char *stop_name(const job *j) {
    static const char *const names[] = {"end", "length", "context", "interrupted"};
    return names[j->result.stop];
}

static void json_speed(cli_json *out, const char *key, uint32_t tokens, double seconds) {
    cli_json_object(out, key);
    cli_json_uint(out, "tokens", tokens);
    cli_json_float(out, "seconds", seconds, 6);
    cli_json_float(out, "tokens_per_second", rate(tokens, seconds), 6);
    cli_json_end_object(out);
}

static void json_piece(cli_json *out, const job *j, int32_t token, double logprob) {
    size_t size;
    const char *piece = qrl_model_token_piece(j->model, token, &size);
    cli_json_int(out, "token", token);
    cli_json_text_n(out, "text", piece, size);
    cli_json_float(out, "logprob", logprob, 9);
}

static void print_json(const job *j) {
    cli_json out;
    qrl_model_info info;
    qrl_model_get_info(j->model, &info);
    const record *records = (const record *)(const void *)j->records.data;
    const qrl_token_logprob *tops = (const qrl_token_logprob *)(const void *)j->tops.data;
    const size_t n = j->records.size / sizeof *records;
    cli_json_begin(&out, j->c->out);
    cli_json_object(&out, NULL);
    cli_json_text(&out, "model", info.path);
    cli_json_text_n(&out, "prompt", j->prompt, j->prompt_size);
    cli_json_text_n(&out, "text", j->text.data ? j->text.data : "", j->text.size);
    cli_json_array_inline(&out, "prompt_tokens");
    for (size_t i = 0; i < j->n_ids; i++)
        cli_json_int(&out, NULL, j->ids[i]);
    cli_json_end_array(&out);
    cli_json_array_inline(&out, "tokens");
    for (size_t i = 0; i < n; i++)
        cli_json_int(&out, NULL, records[i].token);
    cli_json_end_array(&out);
    cli_json_text(&out, "stop", stop_name(j));
    cli_json_uint(&out, "seed", j->params.sampler.seed);
    json_speed(&out, "prefill", j->result.n_prompt, j->result.prefill_seconds);
    json_speed(&out, "decode", j->result.n_decoded, j->result.decode_seconds);
    if (j->limits.read_bytes > 0 && !j->engine)
        cli_json_float(&out, "bandwidth_percent", bandwidth_percent(j), 4);
    if (j->engine) {
        cli_json_object(&out, "guesses");
        cli_json_uint(&out, "made", j->n_drafted);
        cli_json_uint(&out, "right", j->n_accepted);
        cli_json_end_object(&out);
    } else {
        cli_json_experts(&out, j->session);
    }
    if (j->params.n_top) {
        cli_json_array(&out, "logprobs");
        for (size_t i = 0; i < n; i++) {
            cli_json_object(&out, NULL);
            json_piece(&out, j, records[i].token, records[i].logprob);
            cli_json_array(&out, "top");
            for (size_t k = 0; k < j->params.n_top; k++) {
                cli_json_object(&out, NULL);
                json_piece(&out, j, tops[records[i].top + k].token, tops[records[i].top + k].logprob);
                cli_json_end_object(&out);
            }
            cli_json_end_array(&out);
            cli_json_end_object(&out);
        }
        cli_json_end_array(&out);
    }
    cli_json_end_object(&out);
}

/* ---- the work ---- */

static qrl_status read_ids(job *j, const qrl_model *m, unsigned flags, qrl_error *err) {
    qrl_free(j->ids);
    j->ids = NULL;
    QRL_TRY(qrl_model_tokenize(m, j->prompt, j->prompt_size, flags, &j->ids, &j->n_ids, err));
    if (j->n_ids == 0)
        return qrl_fail(err, QRL_ERR_ARGUMENT,
                        "the prompt is empty and this model has no token to begin with; give a text with -p");
    return QRL_OK;
}

static qrl_status session_params(const cli *c, const job *j, qrl_session_params *params, qrl_error *err) {
    const uint64_t need = (uint64_t)j->n_ids + j->params.max_tokens;
    QRL_TRY(cli_session_params(c, CLI_OPT_CONTEXT, need < UINT32_MAX ? (uint32_t)need : UINT32_MAX, params, err));
    params->chunk = (uint32_t)cli_int(c, CLI_OPT_CHUNK);
    return QRL_OK;
}

static bool guesses(const cli *c) {
    return cli_is_set(c, CLI_OPT_DRAFT) || cli_int(c, CLI_OPT_LOOKUP) > 0;
}

/* What answers with guesses: the same numbers as a session's. */
static qrl_engine_params engine_params(const cli *c, const qrl_session_params *session, uint32_t n_ctx_train) {
    qrl_engine_params p = qrl_engine_default_params();
    p.n_ctx = session->n_ctx ? session->n_ctx : session->n_ctx_most < n_ctx_train ? session->n_ctx_most : n_ctx_train;
    p.max_running = 1;
    p.step_tokens = session->chunk;
    p.no_prefix_cache = true;
    p.kv_type_k = session->kv_type_k;
    p.kv_type_v = session->kv_type_v;
    p.lookup = (uint32_t)cli_int(c, CLI_OPT_LOOKUP);
    p.draft_max = (uint32_t)cli_int(c, CLI_OPT_DRAFT_MAX);
    return p;
}

/* With --memory the context's length must be known before the weights are read. */
static qrl_status check_memory(const cli *c, job *j, unsigned flags, qrl_error *err) {
    qrl_model *vocabulary;
    qrl_model_info info;
    qrl_session_params params;
    if (!cli_is_set(c, CLI_OPT_MEMORY))
        return QRL_OK;
    QRL_TRY(cli_open_model(c, true, &vocabulary, err));
    const qrl_status status = read_ids(j, vocabulary, flags, err);
    qrl_model_get_info(vocabulary, &info);
    qrl_model_close(vocabulary);
    QRL_TRY(status);
    QRL_TRY(session_params(c, j, &params, err));
    const qrl_engine_params engine = engine_params(c, &params, info.n_ctx_train);
    return cli_check_memory(c,
                            guesses(c) ? &(qrl_plan_params){.engine = &engine, .draft = cli_text(c, CLI_OPT_DRAFT)}
                                       : &(qrl_plan_params){.session = &params},
                            err);
}

static qrl_status open_session(const cli *c, job *j, qrl_error *err) {
    qrl_session_params params;
    qrl_model_info info;
    const unsigned flags =
        QRL_TOKENIZE_ADD_SPECIAL | (cli_flag(c, CLI_OPT_PARSE_SPECIAL) ? QRL_TOKENIZE_PARSE_SPECIAL : 0u);
    QRL_TRY(check_memory(c, j, flags, err));
    QRL_TRY(cli_open_model(c, false, &j->model, err));
    QRL_TRY(cli_read_constraint(c, j->model, &j->params.constraint, err));
    QRL_TRY(read_ids(j, j->model, flags, err));
    QRL_TRY(session_params(c, j, &params, err));
    j->kv_scale = cli_kv_scale(params.kv_type_k, params.kv_type_v);
    if (!guesses(c)) {
        QRL_TRY(qrl_session_create(j->model, &params, &j->session, err));
        j->n_ctx = qrl_session_n_ctx(j->session);
        return QRL_OK;
    }
    if (cli_is_set(c, CLI_OPT_DRAFT))
        QRL_TRY(cli_open_path(c, cli_text(c, CLI_OPT_DRAFT), false, &j->draft, err));
    qrl_model_get_info(j->model, &info);
    qrl_engine_params engine = engine_params(c, &params, info.n_ctx_train);
    engine.draft = j->draft;
    j->n_ctx = engine.n_ctx;
    return qrl_engine_create(j->model, &engine, &j->engine, err);
}

/* With an engine, for its guesses. */
static qrl_status generate_guessing(job *j, qrl_error *err) {
    qrl_request_params p = qrl_request_default_params();
    qrl_request *r;
    qrl_request_result result;
    p.tokens = j->ids;
    p.n_tokens = j->n_ids;
    p.sampler = j->params.sampler;
    p.max_tokens = j->params.max_tokens;
    p.ignore_eog = j->params.ignore_eog;
    p.special_text = j->params.special_text;
    p.n_top = j->params.n_top;
    p.constraint = j->params.constraint;
    p.on_token = on_token;
    p.context = j;
    QRL_TRY(qrl_engine_submit(j->engine, &p, &r, err));
    const qrl_status status = qrl_request_wait(r, &result, err);
    j->n_drafted = result.n_drafted;
    j->n_accepted = result.n_accepted;
    j->result = (qrl_generate_result){.n_prompt = result.n_prompt,
                                      .n_generated = result.n_generated,
                                      .n_decoded = result.n_generated ? result.n_generated - 1 : 0,
                                      .stop = result.stop,
                                      .prefill_seconds = result.first_token_seconds,
                                      .decode_seconds = result.total_seconds - result.first_token_seconds};
    qrl_request_close(r);
    return status;
}

static qrl_status run_job(const cli *c, job *j, qrl_error *err) {
    QRL_TRY(read_prompt(c, j, err));
    QRL_TRY(read_params(c, j, err));
    QRL_TRY(open_session(c, j, err));
    const bool verbose = cli_flag(c, CLI_OPT_VERBOSE);
    const bool terminal = isatty(fileno(c->out)) == 1;
    if (verbose)
        print_machine(j);
    if (terminal && !j->json && !j->ids_only) {
        fwrite(j->prompt, 1, j->prompt_size, c->out);
        fflush(c->out);
    }
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    const qrl_status status =
        j->engine ? generate_guessing(j, err)
                  : qrl_session_generate(j->session, j->ids, j->n_ids, &j->params, on_token, j, &j->result, err);
    signal(SIGINT, SIG_DFL);
    if (!j->json && j->last_byte && j->last_byte != '\n')
        fputc('\n', c->out);
    QRL_TRY(status);
    QRL_TRY(qrl_buf_status(&j->text, err));
    QRL_TRY(qrl_buf_status(&j->records, err));
    QRL_TRY(qrl_buf_status(&j->tops, err));
    if (verbose) {
        qrl_model_info info;
        qrl_model_get_info(j->model, &info);
        QRL_TRY(qrl_model_measure_limits(j->model, &j->limits, err));
    }
    if (j->json)
        print_json(j);
    return QRL_OK;
}

static int run_run(cli *c) {
    qrl_error err;
    job j = {.c = c};
    if (count_sources(c) > 1)
        return cli_fail_usage(c, "give the prompt with one of -p, -f and -");
    const qrl_status status = run_job(c, &j, &err);
    const int code = status == QRL_OK ? CLI_EXIT_OK : cli_fail_error(c, &err);
    if (status == QRL_OK && cli_flush(c)) {
        print_speeds(&j);
        if (cli_flag(c, CLI_OPT_VERBOSE) && j.session)
            cli_print_experts(c->err, j.session);
    }
    qrl_session_close(j.session);
    qrl_engine_close(j.engine);
    qrl_model_close(j.draft);
    qrl_constraint_close(j.params.constraint);
    qrl_model_close(j.model);
    qrl_free(j.ids);
    free(j.prompt);
    free(j.bias);
    qrl_buf_free(&j.text);
    qrl_buf_free(&j.records);
    qrl_buf_free(&j.tops);
    return code;
}

const cli_command cli_cmd_run = {
    .name = "run",
    .summary = "continue a text",
    .description =
        "Prints what the model adds to the prompt, as it is made, and then one line of speeds on standard error. On a "
        "terminal the prompt stands before it; into a pipe or file goes the continuation alone. The same prompt, seed "
        "and settings give the same text on every machine, with any number of threads. Ctrl-C ends the text. Without "
        "a prompt the model begins by itself.",
    .run = run_run,
    .positionals = {{"-", CLI_CHOICE, 0, 1, "-", "read the text to continue from standard input"}},
    .examples = {{"quarrel run -p \"Once upon a time\"", "a tale by the demo model"},
                 {"quarrel run -m model.gguf -f story.txt -n 100 --temp 0", "the most likely continuation of a file"},
                 {"quarrel run -p \"Milo is \" --regex \"a (big|small) [a-z]+\\\\.\"",
                  "a text that a regular expression matches"},
                 {"quarrel run -m large.gguf --draft small.gguf -f story.txt",
                  "a small model guesses, the text is the same"},
                 {"echo -n 'The capital of France is' | quarrel run --temp 0 -n 1 -", "the prompt from a pipe"}},
};
