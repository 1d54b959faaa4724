/* Memory: decoding allocates nothing, and every allocation of a load-and-generate run may fail: each
 * ends in an error, none in a crash or a leak. The linker's --wrap puts the functions below in the
 * place of the allocator, for the library's own calls (CMakeLists.txt). */
#include "support.h"

#include "text/constraint.h"

#include <jansson.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    atomic_size_t calls;   /* since reset */
    atomic_size_t fail_at; /* the call that fails, counted from 1; 0: none */
    atomic_long live;      /* blocks handed out and not freed */
    atomic_llong bytes;    /* of them */
} counter;

void *__real_malloc(size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);
void *__real_qrl_alloc_aligned(size_t bytes);
void __real_qrl_free_aligned(void *p);
void *__wrap_qrl_alloc_aligned(size_t bytes);
void __wrap_qrl_free_aligned(void *p);

/* Called by the test's thread, and by an engine's if it should allocate. */
static bool refuse(void) {
    return atomic_fetch_add(&counter.calls, 1) + 1 == counter.fail_at;
}

static void *count(void *p) {
    counter.live += p != NULL;
    counter.bytes += (long long)malloc_usable_size(p);
    return p;
}

void *__wrap_malloc(size_t n) {
    return refuse() ? NULL : count(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size) {
    return refuse() ? NULL : count(__real_calloc(n, size));
}

void *__wrap_aligned_alloc(size_t align, size_t n) {
    return refuse() ? NULL : count(__real_aligned_alloc(align, n));
}

char *__wrap_strdup(const char *s) {
    return refuse() ? NULL : count(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n) {
    return refuse() ? NULL : count(__real_strndup(s, n));
}

void *__wrap_realloc(void *p, size_t n) {
    if (refuse())
        return NULL;
    const size_t had = malloc_usable_size(p);
    void *q = __real_realloc(p, n);
    counter.live += !p && q;
    counter.bytes += q ? (long long)malloc_usable_size(q) - (long long)had : 0;
    return q;
}

void __wrap_free(void *p) {
    counter.live -= p != NULL;
    counter.bytes -= (long long)malloc_usable_size(p);
    __real_free(p);
}

/* Large ones are mappings (base/mem.c), whose size nobody else knows. */
enum { LARGE = 2 << 20, MAX_LARGE = 256 };
static struct {
    pthread_mutex_t lock;
    struct {
        void *p;
        size_t bytes;
    } at[MAX_LARGE];
} large = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The entry of p (NULL: a free one) becomes q of so many bytes; returns how many p had. */
static size_t replace_large(const void *p, void *q, size_t bytes) {
    size_t had = 0;
    pthread_mutex_lock(&large.lock);
    for (size_t i = 0; i < MAX_LARGE; i++)
        if (large.at[i].p == p) {
            had = large.at[i].bytes;
            large.at[i].p = q;
            large.at[i].bytes = bytes;
            break;
        }
    pthread_mutex_unlock(&large.lock);
    return had;
}

void *__wrap_qrl_alloc_aligned(size_t bytes) {
    if (bytes < LARGE)
        return __real_qrl_alloc_aligned(bytes); /* calls calloc */
    void *p = refuse() ? NULL : __real_qrl_alloc_aligned(bytes);
    if (p) {
        replace_large(NULL, p, bytes);
        counter.live++;
        counter.bytes += (long long)bytes;
    }
    return p;
}

void __wrap_qrl_free_aligned(void *p) {
    const size_t bytes = p ? replace_large(p, NULL, 0) : 0;
    counter.live -= bytes != 0;
    counter.bytes -= (long long)bytes;
    __real_qrl_free_aligned(p);
}

typedef struct decoding {
    size_t calls_before; /* at the first token */
    size_t calls;        /* between the first token and the last */
    int n;
} decoding;

static bool on_token(void *context, const qrl_generated *g) {
    decoding *d = context;
    (void)g;
    if (d->n++ == 0)
        d->calls_before = counter.calls;
    d->calls = counter.calls - d->calls_before;
    return true;
}

/* Everything once: open, make a session, tokenize where there is text, generate. */
static qrl_status run(const char *path, const char *text, decoding *d, qrl_error *err) {
    qrl_model *m;
    qrl_session *s = NULL;
    int32_t *ids = NULL, plain[] = {1, 2, 3};
    size_t n = 3;
    qrl_model_params mp = qrl_model_default_params();
    mp.n_threads = 2;
    qrl_session_params sp = qrl_session_default_params();
    sp.n_ctx = 24;
    sp.chunk = 2;
    qrl_generate_params gp = qrl_generate_default_params();
    gp.max_tokens = 12;
    gp.n_top = 3;
    gp.ignore_eog = true;
    gp.sampler.repeat_penalty = 1.1;
    qrl_status status = qrl_model_open(path, &mp, &m, err);
    if (status != QRL_OK)
        return status;
    status = qrl_session_create(m, &sp, &s, err);
    if (status == QRL_OK && text)
        status = qrl_model_tokenize(m, text, strlen(text), QRL_TOKENIZE_ADD_SPECIAL, &ids, &n, err);
    if (status == QRL_OK)
        status = qrl_session_generate(s, ids ? ids : plain, n, &gp, on_token, d, NULL, err);
    qrl_free(ids);
    qrl_session_close(s);
    qrl_model_close(m);
    return status;
}

static void test_decode(void **state) {
    (void)state;
    qrl_error err;
    decoding d = {0};
    assert_ok(run(qrl_test_path("models/tales.gguf"), "Once upon", &d, &err), &err);
    assert_int_equal(d.n, 12);
    assert_true(d.calls_before > 100); /* the counting works */
    assert_int_equal(d.calls, 0);
}

static void test_eval(void **state) {
    (void)state;
    enum { N = 70 };
    static int32_t tokens[N];
    static float logits[N * 2048];
    qrl_error err;
    qrl_model *m;
    qrl_session *s;
    assert_ok(qrl_model_open(qrl_test_path("models/tales.gguf"), NULL, &m, &err), &err);
    assert_ok(qrl_session_create(m, NULL, &s, &err), &err);
    const size_t before = counter.calls;
    assert_ok(qrl_session_eval(s, tokens, N, QRL_WANT_ALL, logits, &err), &err);
    assert_ok(qrl_session_eval(s, tokens, 1, QRL_WANT_LAST, logits, &err), &err);
    assert_int_equal(counter.calls, before);
    qrl_session_close(s);
    qrl_model_close(m);
}

/* Fails allocation 1, 2, 3 ... of a run until it needs no more. */
static void fail_each(const char *path, const char *text) {
    size_t failed = 0, bad = 0;
    const long live = counter.live;
    for (size_t at = 1;; at++) {
        qrl_error err = {0};
        decoding d = {0};
        counter.calls = 0;
        counter.fail_at = at;
        const qrl_status status = run(path, text, &d, &err);
        const bool reached = counter.calls >= at;
        counter.fail_at = 0;
        if (counter.live != live || (reached ? status != QRL_ERR_MEMORY || !err.text[0] : status != QRL_OK)) {
            printf("%s: allocation %zu: status %d, \"%s\", %ld blocks left\n", path, at, (int)status, err.text,
                   counter.live - live);
            counter.live = live;
            if (++bad == 10)
                break;
        }
        if (!reached)
            break;
        failed++;
    }
    printf("%zu failed allocations of %s\n", failed, path);
    assert_int_equal(bad, 0);
    assert_true(failed > 20);
}

static void test_fail_each(void **state) {
    (void)state;
    fail_each(qrl_test_path("tests/golden/mini/llama-rope-freqs.gguf"), NULL);
}

static void test_fail_text(void **state) {
    (void)state;
    fail_each(qrl_test_path("models/tales.gguf"), "Once upon a time");
}

/* ---- constraints ---- */

/* A vocabulary of bytes; makes a constraint and follows a text under it, token by token. */
static qrl_status constrain(qrl_constraint_kind kind, const char *source, const char *text, qrl_error *err) {
    static qrl_token_bytes tokens[257];
    static char bytes[256];
    qrl_token_trie *trie;
    qrl_constraint *c = NULL;
    qrl_matcher *m = NULL;
    const uint32_t *mask;
    bool matches;
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        tokens[i] = (qrl_token_bytes){&bytes[i], 1, QRL_TOKEN_IS_TEXT};
    }
    tokens[256] = (qrl_token_bytes){"", 0, QRL_TOKEN_IS_END};
    const qrl_constraint_params p = {
        .kind = kind, .text = source, .size = strlen(source), .trigger = ">", .trigger_size = 1, .trigger_token = -1};
    qrl_status status = qrl_token_trie_create(tokens, 257, &trie, err);
    if (status == QRL_OK) {
        status = qrl_constraint_compile(&p, trie, &c, err);
        qrl_token_trie_release(trie);
    }
    if (status == QRL_OK)
        status = qrl_matcher_create(c, 257, &m, err);
    for (const char *at = text; status == QRL_OK && *at; at++) {
        status = qrl_matcher_mask(m, &mask, err);
        if (status == QRL_OK)
            status = qrl_matcher_accept(m, (unsigned char)*at, err);
    }
    if (status == QRL_OK)
        status = qrl_constraint_test(c, text + 2, strlen(text + 2), &matches, err);
    qrl_matcher_destroy(m);
    qrl_constraint_release(c);
    return status;
}

/* jansson tells a lack of memory as a mistake in the text, so its own calls are counted and do not fail. */
static void *steady_malloc(size_t n) {
    return count(__real_malloc(n));
}

static void test_fail_constraints(void **state) {
    (void)state;
    static const struct {
        qrl_constraint_kind kind;
        const char *source, *text;
    } cases[] = {
        {QRL_CONSTRAINT_JSON_SCHEMA,
         "{\"$defs\":{\"x\":{\"$anchor\":\"y\",\"enum\":[1,\"a\",2.5,{\"k\":1}]}},\"properties\":{\"n\":{\"type\":"
         "\"integer\","
         "\"minimum\":3},\"s\":{\"type\":\"string\",\"pattern\":\"^a|b$\",\"maxLength\":4},\"l\":{\"type\":\"array\","
         "\"items\":{"
         "\"$ref\":\"#y\"},\"maxItems\":3}},\"additionalProperties\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":"
         "\"string\"}]}}",
         "x>{\"n\":4,\"s\":\"ab\",\"l\":[1,2.5],\"o\":null}"},
        {QRL_CONSTRAINT_JSON_OBJECT, "", "x>{\"a\":[1,{\"b\":\"c\"}]}"},
        {QRL_CONSTRAINT_REGEX, "(a|b$)\\W{2,3}[^\\s]", "x>a..x"},
        {QRL_CONSTRAINT_CHOICE, "[\"yes\",\"no\"]", "x>no"},
        {QRL_CONSTRAINT_GRAMMAR, "root ::= \"a\" b{2,3}\nb ::= [^a]+ | \"(\" b \")\"", "x>a((b))c"},
        {QRL_CONSTRAINT_CALLS,
         "{\"format\":\"llama4\",\"special_text\":true,\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":{"
         "\"properties\":{\"s\":{\"type\":\"string\",\"maxLength\":2}}}}},{\"function\":{\"name\":\"g\","
         "\"parameters\":{\"not\":{}}}}]}",
         "x>[f(s=\"a\"), g(a=1)]"},
    };
    json_set_alloc_funcs(steady_malloc, free);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const long live = counter.live;
        size_t failed = 0;
        for (bool reached = true; reached; failed++) {
            qrl_error err = {0};
            counter.calls = 0;
            counter.fail_at = failed + 1;
            const qrl_status status = constrain(cases[i].kind, cases[i].source, cases[i].text, &err);
            reached = counter.calls >= counter.fail_at;
            counter.fail_at = 0;
            if (counter.live != live || (reached ? status != QRL_ERR_MEMORY || !err.text[0] : status != QRL_OK))
                fail_msg("kind %d, allocation %zu: status %d, \"%s\", %ld blocks left", (int)cases[i].kind, failed + 1,
                         (int)status, err.text, counter.live - live);
        }
        printf("%zu failed allocations of a constraint of kind %d\n", failed - 1, (int)cases[i].kind);
        assert_true(failed > 20);
    }
}

/* ---- engines ---- */

static void on_done(void *context, qrl_request *r) {
    (void)r;
    *(size_t *)context = counter.calls;
}

/* Three requests at once, over more than one page, with too few pages for all and guesses. submitted and
 * ended: allocations when all were submitted, and when the last ended. */
static qrl_status run_engine(const char *path, const char *cache_file, size_t *submitted, size_t *ended,
                             qrl_error *err) {
    qrl_model *m;
    qrl_engine *e = NULL;
    qrl_request *r[3] = {NULL, NULL, NULL};
    qrl_model_params mp = qrl_model_default_params();
    mp.n_threads = 2;
    const qrl_engine_params ep = {
        .n_ctx = 96, .n_pages = 4, .lookup = 4, .max_running = 3, .step_tokens = 8, .cache_file = cache_file};
    qrl_status status = qrl_model_open(path, &mp, &m, err);
    if (status == QRL_OK)
        status = qrl_engine_create(m, &ep, &e, err);
    static const int32_t prompt[] = {1, 2, 3, 1, 2, 3, 1, 2};
    static const char *const stops[] = {"no such text"};
    for (size_t i = 0; status == QRL_OK && i < 3; i++) {
        qrl_request_params p = qrl_request_default_params();
        p.tokens = prompt;
        p.n_tokens = sizeof prompt / sizeof *prompt;
        p.max_tokens = 60;
        p.ignore_eog = true;
        p.n_top = 2;
        p.stop = stops;
        p.n_stop = 1;
        p.stop_tokens = &(const int32_t){63};
        p.sampler.seed = i;
        p.on_done = on_done;
        p.context = ended;
        status = qrl_engine_submit(e, &p, &r[i], err);
    }
    *submitted = counter.calls;
    for (size_t i = 0; i < 3; i++) {
        if (r[i] && status == QRL_OK)
            status = qrl_request_wait(r[i], NULL, err);
        qrl_request_close(r[i]);
    }
    if (status == QRL_OK && cache_file)
        status = qrl_engine_save_cache(e, cache_file, err);
    qrl_engine_close(e);
    qrl_model_close(m);
    return status;
}

static const char *const engine_models[] = {"llama", "granitehybrid", "gemma3"};

static void test_engine_steps(void **state) {
    (void)state;
    qrl_error err;
    for (size_t i = 0; i < sizeof engine_models / sizeof *engine_models; i++) {
        size_t submitted, ended = 0;
        const char *path = qrl_test_path("tests/golden/mini/%s.gguf", engine_models[i]);
        assert_ok(run_engine(path, NULL, &submitted, &ended, &err), &err);
        assert_int_equal(submitted, ended);
    }
}

/* With a cache file that is read and written. */
static void fail_each_of_engine(const char *path, const char *cache_file) {
    size_t bad = 0, at = 1, submitted, ended;
    const long live = counter.live;
    for (bool reached = true; reached && bad < 10; at++) {
        qrl_error err = {0};
        counter.calls = 0;
        counter.fail_at = at;
        const qrl_status status = run_engine(path, cache_file, &submitted, &ended, &err);
        reached = counter.calls >= at;
        counter.fail_at = 0;
        if (counter.live != live || (reached ? status != QRL_ERR_MEMORY || !err.text[0] : status != QRL_OK)) {
            printf("engine: allocation %zu: status %d, \"%s\", %ld blocks left\n", at, (int)status, err.text,
                   counter.live - live);
            counter.live = live;
            bad++;
        }
    }
    printf("%zu failed allocations of an engine with %s\n", at - 2, path);
    assert_int_equal(bad, 0);
}

static void test_engine_fail_each(void **state) {
    (void)state;
    char path[1024], cache_file[1024];
    snprintf(cache_file, sizeof cache_file, "%s", qrl_write_temp("cache", "", 0));
    for (size_t i = 0; i < sizeof engine_models / sizeof *engine_models; i++) {
        qrl_error err;
        size_t submitted, ended;
        snprintf(path, sizeof path, "%s", qrl_test_path("tests/golden/mini/%s.gguf", engine_models[i]));
        unlink(cache_file);
        assert_ok(run_engine(path, cache_file, &submitted, &ended, &err), &err);
        fail_each_of_engine(path, cache_file);
    }
}

/* ---- plans ---- */

/* A plan against what is then allocated. */
static void test_plan(void **state) {
    (void)state;
    static const struct {
        const char *path;
        bool engine;
        qrl_session_params session;
        qrl_engine_params with;
    } cases[] = {
        {"models/tales.gguf", false, {.n_ctx_most = 600}, {0}},
        {"models/tales.gguf", false, {.n_ctx = 1024, .chunk = 32, .kv_type_k = QRL_KV_Q8_0}, {0}},
        {"models/tales.gguf", true, {0}, {0}},
        {"models/tales.gguf", true, {0}, {.max_running = 4, .n_ctx = 512, .lookup = 8, .kv_type_v = QRL_KV_Q4_0}},
        {"models/tales.gguf", true, {0}, {.max_running = 64, .n_pages = 4000, .no_prefix_cache = true}},
        {"tests/golden/mini/qwen3moe.gguf", true, {0}, {.max_running = 512, .max_waiting = 16}},
        {"tests/golden/mini/deepseek2.gguf", true, {0}, {.max_running = 512, .max_waiting = 16}},
        {"tests/golden/mini/mamba2.gguf", true, {0}, {.max_running = 512, .max_waiting = 16}},
        {"tests/golden/mini/granitehybrid.gguf", true, {0}, {.max_running = 512, .max_waiting = 16}},
        {"tests/golden/mini/gemma3.gguf", true, {0}, {.max_running = 512, .max_waiting = 16}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = qrl_test_path("%s", cases[i].path);
        qrl_error err;
        qrl_model *m;
        qrl_session *s = NULL;
        qrl_engine *e = NULL;
        qrl_memory_plan plan;
        qrl_model_params mp = qrl_model_default_params();
        mp.n_threads = 2;
        const qrl_plan_params pp = {.session = cases[i].engine ? NULL : &cases[i].session, .engine = &cases[i].with};
        const long long before = counter.bytes;
        assert_ok(qrl_plan_memory(path, &mp, &pp, &plan, &err), &err);
        assert_true(counter.bytes == before);
        assert_ok(qrl_model_open(path, &mp, &m, &err), &err);
        if (cases[i].engine)
            assert_ok(qrl_engine_create(m, &cases[i].with, &e, &err), &err);
        else
            assert_ok(qrl_session_create(m, &cases[i].session, &s, &err), &err);
        const double real = (double)(counter.bytes - before), planned = (double)plan.total;
        printf("%s: planned %.0f, allocated %.0f (%+.1f%%)\n", cases[i].path, planned, real,
               100 * (planned / real - 1));
        assert_true(planned > 0.97 * real && planned < 1.03 * real);
        qrl_session_close(s);
        qrl_engine_close(e);
        qrl_model_close(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),         cmocka_unit_test(test_decode),
        cmocka_unit_test(test_eval),         cmocka_unit_test(test_fail_each),
        cmocka_unit_test(test_fail_text),    cmocka_unit_test(test_fail_constraints),
        cmocka_unit_test(test_engine_steps), cmocka_unit_test(test_engine_fail_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
