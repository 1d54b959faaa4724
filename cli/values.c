/* Values that more than one command reads: the model, threads, instruction set, lists of tokens. */
#include "cli.h"

#include "base/mem.h"
#include "base/pool.h"
#include "base/settings.h"
#include "base/status.h"
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the demo model may stand, from the folder of the program: installed, and in a build tree. */
static const char *const demo_places[] = {
    "../share/quarrel/models/tales.gguf",
    "../../models/tales.gguf",
    "../models/tales.gguf",
    "models/tales.gguf",
};

/* The folder of the running program, without a slash at its end. */
static bool program_folder(char *out, size_t size) {
    const ssize_t n = readlink("/proc/self/exe", out, size - 1);
    if (n <= 0 || (size_t)n >= size - 1)
        return false;
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (!slash)
        return false;
    *slash = 0;
    return true;
}

qrl_status cli_demo_model(char **out, qrl_error *err) {
    char folder[3072], path[4096];
    if (program_folder(folder, sizeof folder)) {
        for (size_t i = 0; i < sizeof demo_places / sizeof demo_places[0]; i++) {
            snprintf(path, sizeof path, "%s/%s", folder, demo_places[i]);
            if (access(path, R_OK) == 0) {
                char *tidy = realpath(path, NULL);
                *out = tidy ? tidy : strdup(path);
                return *out ? QRL_OK : qrl_fail_memory(err, "a path", sizeof path);
            }
        }
    }
    return qrl_fail(err, QRL_ERR_IO,
                    "the demo model tales.gguf stands neither in share/quarrel/models beside the program's bin folder "
                    "nor in models of its source tree; name a model with -m or QUARREL_MODEL");
}

qrl_status cli_model_path(const cli *c, char **out, qrl_error *err) {
    const char *path = cli_text(c, CLI_OPT_MODEL);
    if (!path)
        path = qrl_setting_get(QRL_SETTING_MODEL);
    if (!path)
        return cli_demo_model(out, err);
    return store_resolve(path, out, err);
}

qrl_status cli_threads(const cli *c, int *out, qrl_error *err) {
    if (cli_is_set(c, CLI_OPT_THREADS)) {
        *out = (int)cli_int(c, CLI_OPT_THREADS);
        return QRL_OK;
    }
    const char *text = qrl_setting_get(QRL_SETTING_THREADS);
    if (!text) {
        *out = qrl_usable_cores();
        return QRL_OK;
    }
    char *end;
    const long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > QRL_MAX_THREADS)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%s is \"%s\"; it must be a whole number from 1 to %d",
                        qrl_settings[QRL_SETTING_THREADS].variable, text, QRL_MAX_THREADS);
    *out = (int)n;
    return QRL_OK;
}

qrl_status cli_isa(const cli *c, qrl_isa *out, qrl_error *err) {
    const char *name = cli_text(c, CLI_OPT_ISA);
    return qrl_isa_parse(name ? name : qrl_setting_get(QRL_SETTING_ISA), out, err);
}

qrl_status cli_parse_ints(const char *text, const char *what, long long min, long long max, int32_t **out, size_t *n,
                          qrl_error *err) {
    static const char separators[] = ", \t\r\n[]";
    const size_t room = strlen(text) / 2 + 1; /* each number has a digit and something behind it */
    int32_t *list;
    *out = NULL;
    *n = 0;
    QRL_TRY(qrl_new_array(&list, room, what, err));
    for (const char *p = text + strspn(text, separators); *p; p += strspn(p, separators)) {
        char *end;
        errno = 0;
        const long long v = strtoll(p, &end, 10);
        const size_t len = strcspn(p, separators);
        if (end != p + len || errno != 0 || v < min || v > max) {
            free(list);
            *n = 0;
            return qrl_fail(err, QRL_ERR_ARGUMENT, "%s: \"%.*s\" is no whole number from %lld to %lld", what,
                            (int)(len < 40 ? len : 40), p, min, max);
        }
        list[(*n)++] = (int32_t)v;
        p = end;
    }
    *out = list;
    return QRL_OK;
}

static qrl_status kv_type(const char *name, qrl_kv_type *out, qrl_error *err) {
    static const char *const names[QRL_KV_TYPE_COUNT] = {"f16", "f32", "q8_0", "q4_0"};
    for (int i = 0; i < QRL_KV_TYPE_COUNT; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (qrl_kv_type)i;
            return QRL_OK;
        }
    return qrl_fail(err, QRL_ERR_ARGUMENT, "there is no cache type %s", name);
}

double cli_kv_scale(qrl_kv_type k, qrl_kv_type v) {
    static const double bits_k[QRL_KV_TYPE_COUNT] = {16, 32, 8.5, 4.5};
    static const double bits_v[QRL_KV_TYPE_COUNT] = {16, 32, 8.25, 4.5}; /* q8_0: of heads of 64 */
    return (bits_k[k] + bits_v[v]) / (bits_k[0] + bits_v[0]);
}

qrl_status cli_kv_types(const cli *c, qrl_kv_type *k, qrl_kv_type *v, qrl_error *err) {
    QRL_TRY(kv_type(cli_text(c, CLI_OPT_KV_TYPE), k, err));
    *v = *k;
    return cli_is_set(c, CLI_OPT_KV_TYPE_V) ? kv_type(cli_text(c, CLI_OPT_KV_TYPE_V), v, err) : QRL_OK;
}

void cli_sampler(const cli *c, qrl_sampler_params *out) {
    out->temperature = cli_float(c, CLI_OPT_TEMP);
    out->top_k = (int32_t)cli_int(c, CLI_OPT_TOP_K);
    out->top_p = cli_float(c, CLI_OPT_TOP_P);
    out->min_p = cli_float(c, CLI_OPT_MIN_P);
    out->typical_p = cli_float(c, CLI_OPT_TYPICAL);
    out->repeat_penalty = cli_float(c, CLI_OPT_REPEAT_PENALTY);
    out->frequency_penalty = cli_float(c, CLI_OPT_FREQUENCY_PENALTY);
    out->presence_penalty = cli_float(c, CLI_OPT_PRESENCE_PENALTY);
    out->penalty_window = (int32_t)cli_int(c, CLI_OPT_REPEAT_LAST_N);
    out->seed = (uint64_t)cli_int(c, CLI_OPT_SEED);
}

qrl_status cli_session_params(const cli *c, cli_opt context, uint32_t most, qrl_session_params *out, qrl_error *err) {
    *out = qrl_session_default_params();
    out->n_ctx_most = most;
    if (cli_is_set(c, context))
        out->n_ctx = (uint32_t)cli_int(c, context);
    return cli_kv_types(c, &out->kv_type_k, &out->kv_type_v, err);
}
