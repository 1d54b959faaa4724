/* Every architecture against llama.cpp's numbers, and against itself: the same bits whatever the instruction
 * set, the threads, the chunk, and whether tokens come one by one or at once. One table; a new
 * architecture is a row. */
#include "golden.h"

#include "base/cpu.h"

/* Measured: what `test_arch` prints; the same on every machine, since the kernels' bits are. A case fails
 * when it gets worse than half as much again, or reaches the limit. */
typedef struct arch_case {
    const char *name;
    double mini, arch; /* measured nmse in tests/golden/mini, and in the larger golden/arch */
} arch_case;

static const arch_case cases[] = {
    /* dense decoders */
    {"llama", 4.68e-13, 1.31e-12},
    {"llama-rope-freqs", 3.00e-13, 1.71e-12},
    {"llama-rope-linear", 2.67e-13, 1.22e-12},
    {"llama-rope-yarn", 4.79e-13, 2.07e-12},
    {"llama-tied", 2.87e-13, 1.48e-12},
    {"llama-wide-head", 5.22e-13, 2.69e-12},
    {"arcee", 2.61e-13, 6.11e-13},
    {"baichuan", 5.52e-13, 1.40e-12},
    {"bloom", 1.79e-13, 2.99e-13},
    {"cohere2", 3.42e-13, 6.71e-13},
    {"command-r", 1.78e-13, 6.23e-13},
    {"ernie4_5", 2.99e-13, 1.03e-12},
    {"exaone4", 2.42e-13, 5.91e-13},
    {"falcon", 1.23e-13, 3.61e-13},
    {"gemma", 7.08e-14, 1.39e-13},
    {"gemma2", 5.80e-14, 8.96e-14},
    {"gemma3", 1.12e-13, 1.12e-13},
    {"glm4", 2.91e-13, 1.47e-12},
    {"gpt2", 1.60e-13, 4.09e-13},
    {"gptneox", 1.33e-13, 2.47e-13},
    {"granite", 2.07e-14, 4.26e-14},
    {"hunyuan-dense", 2.74e-13, 7.93e-13},
    {"internlm2", 4.10e-13, 1.59e-12},
    {"minicpm", 2.01e-14, 3.78e-14},
    {"mistral3", 3.61e-13, 2.37e-12},
    {"mpt", 2.04e-13, 4.89e-13},
    {"nemotron", 3.99e-13, 6.96e-13},
    {"olmo2", 2.68e-13, 4.77e-13},
    {"phi2", 1.27e-13, 2.34e-13},
    {"phi3", 3.17e-13, 1.37e-12},
    {"qwen2", 7.57e-13, 9.32e-13},
    {"qwen3", 2.85e-13, 4.43e-13},
    {"seed_oss", 3.55e-13, 1.33e-12},
    {"smollm3", 4.04e-13, 2.18e-12},
    {"stablelm", 3.51e-13, 1.12e-12},
    {"starcoder2", 1.71e-13, 2.92e-13},
    /* mixtures of experts */
    {"mixtral", 5.75e-13, 3.50e-12},
    {"qwen2moe", 3.27e-13, 2.19e-12},
    {"qwen3moe", 2.84e-13, 1.02e-12},
    {"granitemoe", 2.08e-14, 3.89e-14},
    {"olmoe", 2.39e-13, 4.30e-13},
    {"dbrx", 2.16e-13, 1.30e-12},
    {"llama4", 3.35e-13, 1.09e-12},
    {"deepseek2", 1.03e-12, 2.92e-12},
    {"gpt-oss", 1.06e-12, 8.56e-12},
    /* recurrent and hybrid */
    {"mamba", 4e-12, 2.2e-11},
    {"mamba2", 9.3e-13, 1e-12},
    {"granitehybrid-dense", 3.8e-14, 6e-14},
    {"granitehybrid", 4e-14, 6.7e-14},
    {"nemotron_h", 7.3e-13, 7.5e-13},
    {"nemotron_h_moe", 5.7e-13, 5e-13},
    {"falcon-h1", 3.6e-12, 1.5e-12},
    {"jamba", 3e-12, 1.5e-11},
    {"lfm2", 4.4e-13, 5.1e-13},
    {"qwen3next", 2.2e-12, 6.9e-12},
    /* encoders */
    {"bert", 7.01e-14, 1.21e-13},
    {"jina-bert-v2", 1.25e-13, 1.21e-12},
    {"nomic-bert", 5.46e-13, 4.90e-13},
};
enum { N_CASES = sizeof cases / sizeof *cases };
static const double limit = 1e-8;

static bool chosen(const char *name) {
    const char *only = getenv("QRL_TEST_ARCH"); /* one case, while working on it */
    return !only || !*only || strcmp(only, name) == 0;
}

/* ---- the reference's numbers ---- */

static int check(bool shared, const char *folder, const char *name, double measured) {
    size_t n, n_out, bytes;
    int32_t *tokens = golden_tokens(shared, folder, name, &n);
    float *logits = golden_logits(golden_path(shared, folder, name, ".gguf"), NULL, 2, 512, tokens, n, &n_out);
    float *reference = qrl_read_file(golden_path(shared, folder, name, ".f32"), &bytes);
    assert_int_equal(bytes, n * n_out * sizeof *logits);
    const double nmse = golden_nmse(logits, reference, n * n_out);
    const bool bad = !(nmse < limit) || nmse > 1.5 * measured;
    printf("%s/%-20s nmse %.2e%s\n", folder, name, nmse, bad ? "  FAILED" : "");
    free(tokens);
    free(logits);
    free(reference);
    return bad;
}

static void test_mini(void **state) {
    (void)state;
    int bad = 0;
    for (int i = 0; i < N_CASES; i++)
        if (chosen(cases[i].name))
            bad += check(false, "mini", cases[i].name, cases[i].mini);
    assert_int_equal(bad, 0);
}

static bool shared_is_there(void) {
    if (qrl_file_exists(golden_path(true, "arch", "cases", ".json")))
        return true;
    printf("skipped: %s is not there\n", qrl_shared_path("golden/arch"));
    return false;
}

static void test_larger(void **state) {
    (void)state;
    if (!shared_is_there())
        skip();
    int bad = 0;
    for (int i = 0; i < N_CASES; i++)
        if (chosen(cases[i].name))
            bad += check(true, "arch", cases[i].name, cases[i].arch);
    assert_int_equal(bad, 0);
}

/* Every model file of the folder has a row. */
static void test_complete(void **state) {
    (void)state;
    char *json = qrl_read_file(golden_path(false, "mini", "cases", ".json"), NULL);
    int missing = 0;
    for (const char *p = json; (p = strstr(p, "\": {\"tokens\"")) != NULL; p++) {
        const char *from = p;
        while (from[-1] != '"')
            from--;
        bool found = false;
        for (int i = 0; i < N_CASES; i++)
            found = found || (strlen(cases[i].name) == (size_t)(p - from) &&
                              memcmp(cases[i].name, from, (size_t)(p - from)) == 0);
        if (!found) {
            printf("not yet run: %.*s\n", (int)(p - from), from);
            missing++;
        }
    }
    free(json);
    printf("%d of %d cases run\n", N_CASES, N_CASES + missing);
    assert_true(N_CASES + missing == 58);
}

/* ---- the same bits ---- */

static const uint32_t chunks[] = {1, 7, 48, 512};
enum { N_CHUNKS = sizeof chunks / sizeof *chunks, MAX_THREADS = 3 };

/* Evaluates all tokens, `at_once` in a call. */
static float *run(qrl_model *model, uint32_t chunk, size_t at_once, const int32_t *tokens, size_t n, size_t *bytes) {
    qrl_error err = {0};
    qrl_model_info info;
    qrl_model_get_info(model, &info);
    qrl_session *session;
    qrl_session_params params = qrl_session_default_params();
    params.kv_type_k = params.kv_type_v = QRL_KV_F32;
    params.n_ctx = (uint32_t)n;
    params.chunk = chunk;
    *bytes = n * info.n_out * sizeof(float);
    float *logits = malloc(*bytes);
    assert_non_null(logits);
    assert_ok(qrl_session_create(model, &params, &session, &err), &err);
    for (size_t i = 0; i < n; i += at_once)
        assert_ok(qrl_session_eval(session, tokens + i, n - i < at_once ? n - i : at_once, QRL_WANT_ALL,
                                   logits + i * info.n_out, &err),
                  &err);
    qrl_session_close(session);
    return logits;
}

static int compare(qrl_model *model, const char *name, const int32_t *tokens, size_t n, float **reference) {
    qrl_model_info info;
    qrl_model_get_info(model, &info);
    int bad = 0;
    for (size_t c = 0; c < N_CHUNKS + 2; c++) {
        /* behind the chunks: calls of one token, and of five; a text for an encoder comes in one call */
        const bool calls = c >= N_CHUNKS;
        if (calls && info.encoder)
            break;
        const size_t at_once = !calls ? n : c == N_CHUNKS ? 1 : 5;
        size_t bytes;
        float *logits = run(model, calls ? 512 : chunks[c], at_once, tokens, n, &bytes);
        if (!*reference) {
            *reference = logits;
            continue;
        }
        if (memcmp(*reference, logits, bytes) != 0) {
            printf("%s: other bits with %s, %d threads, chunk %u, %zu tokens a call\n", name, info.isa, info.n_threads,
                   calls ? 512 : chunks[c], at_once);
            bad++;
        }
        free(logits);
    }
    return bad;
}

static int compare_case(bool shared, const char *folder, const char *name) {
    size_t n;
    int32_t *tokens = golden_tokens(shared, folder, name, &n);
    float *reference = NULL;
    int bad = 0;
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            qrl_error err = {0};
            qrl_model *model;
            qrl_model_params params = qrl_model_default_params();
            params.isa = qrl_isa_name(isa);
            params.n_threads = threads;
            assert_ok(qrl_model_open(golden_path(shared, folder, name, ".gguf"), &params, &model, &err), &err);
            bad += compare(model, name, tokens, n, &reference);
            qrl_model_close(model);
        }
    free(reference);
    free(tokens);
    return bad;
}

static void test_identity(void **state) {
    (void)state;
    int bad = 0;
    for (int i = 0; i < N_CASES; i++)
        if (chosen(cases[i].name))
            bad += compare_case(false, "mini", cases[i].name);
    assert_int_equal(bad, 0);
}

static void test_larger_identity(void **state) {
    (void)state;
    if (!shared_is_there())
        skip();
    int bad = 0;
    for (int i = 0; i < N_CASES; i++)
        if (chosen(cases[i].name))
            bad += compare_case(true, "arch", cases[i].name);
    assert_int_equal(bad, 0);
}

/* A session that is cut back goes on as if what was cut had never been; a recurrent state must begin anew for it. */
static void test_cut(void **state) {
    (void)state;
    int bad = 0;
    for (int i = 0; i < N_CASES; i++) {
        const char *name = cases[i].name;
        if (!chosen(name))
            continue;
        size_t n, bytes;
        int32_t *tokens = golden_tokens(false, "mini", name, &n);
        qrl_error err = {0};
        qrl_model *model;
        qrl_model_params params = qrl_model_default_params();
        params.n_threads = 2;
        assert_ok(qrl_model_open(golden_path(false, "mini", name, ".gguf"), &params, &model, &err), &err);
        qrl_model_info info;
        qrl_model_get_info(model, &info);
        if (!info.encoder) {
            qrl_session *session;
            qrl_session_params sp = qrl_session_default_params();
            sp.kv_type_k = sp.kv_type_v = QRL_KV_F32;
            sp.n_ctx = (uint32_t)n;
            float *want = run(model, 512, n, tokens, n, &bytes), *got = malloc(bytes);
            assert_non_null(got);
            assert_ok(qrl_session_create(model, &sp, &session, &err), &err);
            assert_ok(qrl_session_eval(session, tokens + 1, n - 1, QRL_WANT_NONE, NULL, &err), &err);
            qrl_session_truncate(session, 0);
            assert_ok(qrl_session_eval(session, tokens, n / 2 + 3, QRL_WANT_NONE, NULL, &err), &err);
            for (size_t at = n / 2; at; at /= 2) {
                qrl_session_truncate(session, (uint32_t)at);
                assert_ok(qrl_session_eval(session, tokens + at, n - at, QRL_WANT_ALL, got, &err), &err);
                if (memcmp(got, want + at * info.n_out, (n - at) * info.n_out * sizeof *got) != 0) {
                    printf("%s: other bits behind a cut to %zu\n", name, at);
                    bad++;
                }
            }
            qrl_session_close(session);
            free(want);
            free(got);
        }
        qrl_model_close(model);
        free(tokens);
    }
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete),        cmocka_unit_test(test_mini),
        cmocka_unit_test(test_identity),        cmocka_unit_test(test_larger),
        cmocka_unit_test(test_larger_identity), cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
