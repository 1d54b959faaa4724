/* The same bits whatever the instruction set, the number of threads and the chunk: the promise of
 * docs/numerics.md, held over whole models with memcmp. */
#include "golden.h"

#include "base/cpu.h"

static const char *const mini[] = {
    "llama", "llama-tied", "llama-wide-head", "llama-rope-freqs", "llama-rope-linear", "llama-rope-yarn"};
static const char *const quantized[] = {
    "llama-F16",       "llama-BF16",      "llama-Q4_0",   "llama-Q4_1",       "llama-Q5_0",   "llama-Q5_1",
    "llama-Q8_0",      "llama-Q2_K",      "llama-Q3_K_M", "llama-Q4_K_M",     "llama-Q5_K_M", "llama-Q6_K",
    "llama-IQ4_NL",    "llama-IQ4_XS",    "llama-IQ3_S",  "llama-TQ1_0",      "llama-TQ2_0",  "qwen3moe-Q8_0",
    "qwen3moe-Q4_K_M", "qwen3moe-Q3_K_M", "gpt-oss-Q8_0", "gpt-oss-MXFP4_MOE"};
static const uint32_t chunks[] = {1, 7, 48, 512};
enum { N_CHUNKS = sizeof chunks / sizeof *chunks, MAX_THREADS = 3 };
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Logits of all tokens for every chunk with one opened model; `reference` is filled by the first. */
static int compare_chunks(qrl_model *model, const char *name, const int32_t *tokens, size_t n, float **reference) {
    qrl_error err = {0};
    qrl_model_info info;
    qrl_model_get_info(model, &info);
    const size_t bytes = n * info.n_vocab * sizeof(float);
    int bad = 0;
    for (size_t c = 0; c < N_CHUNKS; c++) {
        qrl_session *session;
        qrl_session_params params = qrl_session_default_params();
        params.n_ctx = (uint32_t)n;
        params.chunk = chunks[c];
        float *logits = malloc(bytes);
        assert_non_null(logits);
        assert_ok(qrl_session_create(model, &params, &session, &err), &err);
        assert_ok(qrl_session_eval(session, tokens, n, QRL_WANT_ALL, logits, &err), &err);
        qrl_session_close(session);
        if (!*reference) {
            *reference = logits;
            continue;
        }
        if (memcmp(*reference, logits, bytes) != 0) {
            printf("%s: other bits with %s, %d threads, chunk %u\n", name, info.isa, info.n_threads, chunks[c]);
            bad++;
        }
        free(logits);
    }
    return bad;
}

/* All instruction sets of this machine, 1 to 3 threads, all chunks, against scalar with one thread. */
static int compare(const char *path, const char *name, const int32_t *tokens, size_t n) {
    float *reference = NULL;
    int bad = 0;
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            qrl_error err = {0};
            qrl_model *model;
            qrl_model_params params = qrl_model_default_params();
            params.isa = qrl_isa_name(isa);
            params.n_threads = threads;
            assert_ok(qrl_model_open(path, &params, &model, &err), &err);
            bad += compare_chunks(model, name, tokens, n, &reference);
            qrl_model_close(model);
        }
    free(reference);
    return bad;
}

static int compare_case(bool shared, const char *folder, const char *name) {
    size_t n;
    int32_t *tokens = golden_tokens(shared, folder, name, &n);
    const int bad = compare(golden_path(shared, folder, name, ".gguf"), name, tokens, n);
    free(tokens);
    return bad;
}

static void test_mini(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < COUNT(mini); i++)
        bad += compare_case(false, "mini", mini[i]);
    assert_int_equal(bad, 0);
}

static void test_shared(void **state) {
    (void)state;
    if (!qrl_file_exists(qrl_shared_path("golden/arch/cases.json"))) {
        printf("skipped: %s is not there\n", qrl_shared_path("golden"));
        skip();
    }
    int bad = 0;
    for (size_t i = 0; i < COUNT(mini); i++)
        bad += compare_case(true, "arch", mini[i]);
    for (size_t i = 0; i < COUNT(quantized); i++)
        bad += compare_case(true, "quantized", quantized[i]);
    assert_int_equal(bad, 0);
}

static void test_quantized(void **state) {
    (void)state;
    static const char *const in_tree[] = {"llama-Q4_K_M", "llama-Q8_0",      "llama-IQ4_XS",
                                          "llama-Q3_K_M", "qwen3moe-Q4_K_M", "gpt-oss-MXFP4_MOE"};
    int bad = 0;
    for (size_t i = 0; i < COUNT(in_tree); i++)
        bad += compare_case(false, "quantized", in_tree[i]);
    assert_int_equal(bad, 0);
}

/* A trained model, over more than one page of cache and more rows than the chunk of 48. */
static int compare_tales(const char *path, const char *name) {
    int32_t tokens[50];
    for (int i = 0; i < 50; i++)
        tokens[i] = (i * 337 + 11) % 2048;
    return compare(path, name, tokens, COUNT(tokens));
}

static void test_tales(void **state) {
    (void)state;
    assert_int_equal(compare_tales(qrl_test_path("models/tales.gguf"), "tales"), 0);
}

static void test_tales_shared(void **state) {
    (void)state;
    static const char *const names[] = {"tales-Q8_0", "tales-f16"};
    int bad = 0;
    for (size_t i = 0; i < COUNT(names); i++) {
        const char *path = qrl_shared_path("models/%s.gguf", names[i]);
        if (qrl_file_exists(path))
            bad += compare_tales(path, names[i]);
        else
            printf("skipped: %s is not there\n", path);
    }
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mini),  cmocka_unit_test(test_quantized),    cmocka_unit_test(test_shared),
        cmocka_unit_test(test_tales), cmocka_unit_test(test_tales_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
