/* quarrel.h from outside: what a caller relies on, and what each mistake is answered with. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qrl_model *tales;

static int setup(void **state) {
    (void)state;
    qrl_error err;
    qrl_model_params params = qrl_model_default_params();
    params.n_threads = 2;
    assert_ok(qrl_model_open(qrl_test_path("models/tales.gguf"), &params, &tales, &err), &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    qrl_model_close(tales);
    return 0;
}

static qrl_session *session(uint32_t n_ctx, uint32_t chunk) {
    qrl_error err;
    qrl_session *s;
    qrl_session_params params = qrl_session_default_params();
    params.n_ctx = n_ctx;
    params.chunk = chunk;
    assert_ok(qrl_session_create(tales, &params, &s, &err), &err);
    return s;
}

static void test_info(void **state) {
    (void)state;
    qrl_model_info info;
    qrl_model_get_info(tales, &info);
    assert_string_equal(info.architecture, "llama");
    assert_string_equal(info.name, "Quarrel tales");
    assert_int_equal(info.n_vocab, 2048);
    assert_int_equal(info.n_ctx_train, 1024);
    assert_int_equal(info.n_threads, 2);
    assert_true(info.n_params > 6000000 && info.n_params < 7000000);
    assert_true(info.weight_bytes < info.file_bytes);
    assert_true(info.macs_int8 > info.prompt_macs_int8 && info.prompt_macs_int8 > 0);
    assert_int_equal(info.macs_float, 0);
    assert_int_equal(info.kv_read_bytes, 8 * 4 * (32 + 32) * 2);
    assert_int_equal(info.kv_macs, 8 * 8 * (32 + 32));
}

static void test_vocab_only(void **state) {
    (void)state;
    qrl_error err;
    qrl_model *m;
    qrl_session *s;
    qrl_model_info info;
    qrl_model_params params = qrl_model_default_params();
    params.vocab_only = true;
    assert_ok(qrl_model_open(qrl_test_path("models/tales.gguf"), &params, &m, &err), &err);
    qrl_model_get_info(m, &info);
    assert_int_equal(info.n_vocab, 2048);
    assert_int_equal(info.n_params, 0);
    assert_fails(qrl_session_create(m, NULL, &s, &err), QRL_ERR_ARGUMENT, "vocab_only", &err);
    assert_null(s);
    qrl_model_close(m);
}

static void test_tokens(void **state) {
    (void)state;
    static const char text[] = "Once upon a time, Zo\xc3\xab saw 3 \xe2\x82\xac.";
    qrl_error err;
    int32_t *ids;
    size_t n, size;
    char *back;
    assert_ok(qrl_model_tokenize(tales, text, strlen(text), 0, &ids, &n, &err), &err);
    assert_ok(qrl_model_detokenize(tales, ids, n, 0, &back, &size, &err), &err);
    assert_int_equal(size, strlen(text));
    assert_string_equal(back, text);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        size_t piece;
        qrl_model_token_piece(tales, ids[i], &piece);
        bytes += piece;
    }
    assert_int_equal(bytes, strlen(text));
    qrl_free(back);
    qrl_free(ids);
    assert_ok(qrl_model_tokenize(tales, "", 0, 0, &ids, &n, &err), &err);
    assert_int_equal(n, 0);
    assert_non_null(ids);
    qrl_free(ids);
    assert_ok(qrl_model_detokenize(tales, NULL, 0, 0, &back, &size, &err), &err);
    assert_string_equal(back, "");
    qrl_free(back);
    const int32_t bad = 2048;
    assert_fails(qrl_model_detokenize(tales, &bad, 1, 0, &back, &size, &err), QRL_ERR_ARGUMENT, "2048", &err);
    assert_null(back);
    assert_true(qrl_model_token_is_eog(tales, 0));
    assert_false(qrl_model_token_is_eog(tales, 100));
    qrl_model_token_text(tales, -1, &size);
    assert_int_equal(size, 0);
}

static void test_open_refused(void **state) {
    (void)state;
    qrl_error err;
    qrl_model *m;
    qrl_model_params params = qrl_model_default_params();
    const char *path = qrl_test_path("models/tales.gguf");
    assert_fails(qrl_model_open(NULL, NULL, &m, &err), QRL_ERR_ARGUMENT, "qrl_model_open", &err);
    assert_fails(qrl_model_open("/nowhere.gguf", NULL, &m, &err), QRL_ERR_IO, "/nowhere.gguf", &err);
    assert_null(m);
    params.isa = "sse9";
    assert_fails(qrl_model_open(path, &params, &m, &err), QRL_ERR_ARGUMENT, "sse9", &err);
    params.isa = NULL;
    params.n_threads = -1;
    assert_fails(qrl_model_open(path, &params, &m, &err), QRL_ERR_ARGUMENT, "-1 threads", &err);
    assert_int_equal(qrl_model_open(path, &params, &m, NULL), QRL_ERR_ARGUMENT); /* no error wanted */
    qrl_model_close(NULL);
    qrl_session_close(NULL);
    qrl_free(NULL);
}

static void test_eval(void **state) {
    (void)state;
    enum { N = 9, V = 2048 };
    static const int32_t tokens[N] = {0, 5, 77, 1033, 4, 900, 2047, 12, 13};
    static float all[N][V], last[V];
    qrl_error err;
    qrl_session *s = session(N, 4);
    assert_int_equal(qrl_session_n_ctx(s), N);
    assert_ok(qrl_session_eval(s, tokens, N, QRL_WANT_ALL, all[0], &err), &err);
    assert_int_equal(qrl_session_length(s), N);
    /* beyond the context: nothing changes */
    assert_fails(qrl_session_eval(s, tokens, 1, QRL_WANT_LAST, last, &err), QRL_ERR_LIMIT, "9 positions", &err);
    assert_int_equal(qrl_session_length(s), N);
    /* back to the middle and on again, one by one */
    qrl_session_truncate(s, 3);
    qrl_session_truncate(s, 100);
    assert_int_equal(qrl_session_length(s), 3);
    for (size_t i = 3; i < N; i++) {
        assert_ok(qrl_session_eval(s, tokens + i, 1, QRL_WANT_LAST, last, &err), &err);
        assert_memory_equal(last, all[i], sizeof last);
    }
    qrl_session_truncate(s, 0);
    assert_ok(qrl_session_eval(s, tokens, N - 1, QRL_WANT_NONE, NULL, &err), &err);
    assert_ok(qrl_session_eval(s, tokens + N - 1, 1, QRL_WANT_LAST, last, &err), &err);
    assert_memory_equal(last, all[N - 1], sizeof last);
    /* a bad id anywhere leaves the sequence as it was */
    const int32_t bad[] = {1, 2, 3, 4, 5, 2048};
    qrl_session_truncate(s, 2);
    assert_fails(qrl_session_eval(s, bad, 6, QRL_WANT_LAST, last, &err), QRL_ERR_ARGUMENT, "token id 2048", &err);
    assert_fails(qrl_session_eval(s, bad, 0, QRL_WANT_LAST, last, &err), QRL_ERR_ARGUMENT, "no tokens", &err);
    assert_fails(qrl_session_eval(s, bad, 1, QRL_WANT_LAST, NULL, &err), QRL_ERR_ARGUMENT, "null", &err);
    assert_int_equal(qrl_session_length(s), 2);
    qrl_session_close(s);
}

/* Sessions of one model, of other sizes, used in turn, do not touch each other. */
static void test_two_sessions(void **state) {
    (void)state;
    enum { V = 2048 };
    static const int32_t tokens[40] = {0, 5, 77, 1033, 4, 900, 2047, 12, 13};
    static float alone[V], turns[V], ignored[V];
    qrl_error err;
    qrl_session *a = session(64, 32);
    assert_ok(qrl_session_eval(a, tokens, 40, QRL_WANT_LAST, alone, &err), &err);
    qrl_session_truncate(a, 0);
    assert_ok(qrl_session_eval(a, tokens, 39, QRL_WANT_NONE, NULL, &err), &err);
    qrl_session *b = session(8, 2);
    assert_ok(qrl_session_eval(b, tokens + 3, 7, QRL_WANT_LAST, ignored, &err), &err);
    assert_ok(qrl_session_eval(a, tokens + 39, 1, QRL_WANT_LAST, turns, &err), &err);
    assert_memory_equal(alone, turns, sizeof alone);
    qrl_session_close(b);
    qrl_session_truncate(a, 0);
    assert_ok(qrl_session_eval(a, tokens, 40, QRL_WANT_LAST, turns, &err), &err);
    assert_memory_equal(alone, turns, sizeof alone);
    qrl_session_close(a);
}

static void test_session_refused(void **state) {
    (void)state;
    qrl_error err;
    qrl_session *s;
    qrl_session_params params = qrl_session_default_params();
    params.n_ctx = 1025;
    assert_fails(qrl_session_create(tales, &params, &s, &err), QRL_ERR_LIMIT, "the model can take 1024", &err);
    params.n_ctx = 0;
    params.chunk = 1u << 30;
    assert_fails(qrl_session_create(tales, &params, &s, &err), QRL_ERR_ARGUMENT, "chunk", &err);
    assert_null(s);
}

typedef struct listener {
    uint32_t n, stop_after, first_position;
    int32_t tokens[128];
    char text[1024];
    size_t size;
    bool checked_logprobs;
} listener;

static bool listen(void *context, const qrl_generated *g) {
    listener *l = context;
    if (l->n == 0)
        l->first_position = g->position;
    assert_int_equal(g->position, l->first_position + l->n);
    memcpy(l->text + l->size, g->text, g->text_size);
    l->size += g->text_size;
    if (g->n_top) {
        assert_int_equal(g->top[0].token, g->token); /* greedy */
        assert_true(g->top[0].logprob == g->logprob && g->logprob <= 0 && g->top[1].logprob <= g->logprob);
        l->checked_logprobs = true;
    }
    l->tokens[l->n++] = g->token;
    return l->n != l->stop_after;
}

static qrl_generate_result generate(qrl_session *s, const char *prompt, const qrl_generate_params *params,
                                    listener *l) {
    qrl_error err;
    int32_t *ids;
    size_t n;
    qrl_generate_result r;
    assert_ok(qrl_model_tokenize(tales, prompt, strlen(prompt), QRL_TOKENIZE_ADD_SPECIAL, &ids, &n, &err), &err);
    assert_ok(qrl_session_generate(s, ids, n, params, listen, l, &r, &err), &err);
    assert_int_equal(r.n_prompt, n);
    assert_int_equal(l->first_position, n);
    assert_int_equal(r.n_generated, l->n);
    qrl_free(ids);
    return r;
}

static void test_generate_stops(void **state) {
    (void)state;
    qrl_generate_params params = qrl_generate_default_params();
    params.sampler.temperature = 0;
    params.max_tokens = 10;
    qrl_session *s = session(32, 0);
    listener l = {0};
    qrl_generate_result r = generate(s, "Once upon a time", &params, &l);
    assert_int_equal(r.stop, QRL_STOP_LENGTH);
    assert_int_equal(r.n_generated, 10);
    assert_int_equal(r.n_decoded, 9);
    assert_int_equal(qrl_session_length(s), 5 + 9);

    qrl_session_truncate(s, 0);
    listener few = {.stop_after = 3};
    params.n_top = 2;
    r = generate(s, "Once upon a time", &params, &few);
    assert_int_equal(r.stop, QRL_STOP_CALLER);
    assert_int_equal(r.n_generated, 3);
    assert_memory_equal(few.tokens, l.tokens, 3 * sizeof *few.tokens);
    assert_true(few.checked_logprobs);

    qrl_session_truncate(s, 0);
    listener full = {0};
    params.max_tokens = 100;
    params.n_top = 0;
    params.ignore_eog = true;
    r = generate(s, "Once upon a time", &params, &full);
    assert_int_equal(r.stop, QRL_STOP_CONTEXT);
    assert_int_equal(r.n_generated, 32 - 5 + 1);
    assert_int_equal(qrl_session_length(s), 32);
    qrl_session_close(s);

    /* an end token that the bias makes certain */
    const qrl_logit_bias bias = {0, 1000};
    params.sampler.bias = &bias;
    params.sampler.n_bias = 1;
    params.ignore_eog = false;
    s = session(32, 0);
    listener none = {.first_position = 5};
    r = generate(s, "Once upon a time", &params, &none);
    assert_int_equal(r.stop, QRL_STOP_EOG);
    assert_int_equal(none.n, 0);
    qrl_session_close(s);
}

/* The same seed gives the same text, another seed another. */
static void test_generate_seeds(void **state) {
    (void)state;
    qrl_generate_params params = qrl_generate_default_params();
    params.max_tokens = 40;
    params.sampler.temperature = 1.5;
    params.sampler.min_p = 0;
    params.ignore_eog = true;
    listener l[3] = {{0}, {0}, {0}};
    const uint64_t seeds[] = {7, 7, 8};
    for (int i = 0; i < 3; i++) {
        qrl_session *s = session(64, i == 1 ? 3 : 0);
        params.sampler.seed = seeds[i];
        generate(s, "Once upon a time", &params, &l[i]);
        qrl_session_close(s);
    }
    assert_memory_equal(l[0].tokens, l[1].tokens, sizeof l[0].tokens);
    assert_memory_not_equal(l[0].tokens, l[2].tokens, sizeof l[0].tokens);
}

static void test_generate_refused(void **state) {
    (void)state;
    qrl_error err;
    qrl_session *s = session(32, 0);
    qrl_generate_params params = qrl_generate_default_params();
    const int32_t prompt = 0;
    params.n_top = 5000;
    assert_fails(qrl_session_generate(s, &prompt, 1, &params, NULL, NULL, NULL, &err), QRL_ERR_ARGUMENT, "5000", &err);
    params.n_top = 0;
    params.sampler.temperature = -1;
    assert_fails(qrl_session_generate(s, &prompt, 1, &params, NULL, NULL, NULL, &err), QRL_ERR_ARGUMENT, "temperature",
                 &err);
    params.sampler.temperature = 0;
    assert_fails(qrl_session_generate(s, &prompt, 0, &params, NULL, NULL, NULL, &err), QRL_ERR_ARGUMENT, "no tokens",
                 &err);
    assert_int_equal(qrl_session_length(s), 0);
    qrl_session_close(s);
}

static void test_limits(void **state) {
    (void)state;
    qrl_error err;
    qrl_limits l;
    assert_ok(qrl_measure_limits(1, "scalar", &l, &err), &err);
    assert_true(l.int8_macs > 0 && l.f32_macs > 0 && l.read_bytes > 0);
    assert_fails(qrl_model_measure_limits(NULL, &l, &err), QRL_ERR_ARGUMENT, "qrl_model_measure_limits", &err);
    assert_fails(qrl_measure_limits(-1, NULL, &l, &err), QRL_ERR_ARGUMENT, "threads", &err);
    assert_fails(qrl_measure_limits(1, "mmx", &l, &err), QRL_ERR_ARGUMENT, "mmx", &err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_vocab_only),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_open_refused),
        cmocka_unit_test(test_eval),
        cmocka_unit_test(test_two_sessions),
        cmocka_unit_test(test_session_refused),
        cmocka_unit_test(test_generate_stops),
        cmocka_unit_test(test_generate_seeds),
        cmocka_unit_test(test_generate_refused),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
