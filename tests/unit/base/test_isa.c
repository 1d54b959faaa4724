/* Names of instruction sets, and the one detected against what Linux says of the processor. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"

static qrl_error err;

static void names(void **state) {
    (void)state;
    const qrl_isa best = qrl_isa_best();
    for (qrl_isa i = QRL_ISA_SCALAR; i < QRL_ISA_COUNT; i++) {
        qrl_isa got = QRL_ISA_COUNT;
        if (!qrl_isa_here(i)) {
            assert_fails(qrl_isa_parse(qrl_isa_name(i), &got, &err), QRL_ERR_UNSUPPORTED, qrl_isa_name(best), &err);
            assert_int_equal(got, QRL_ISA_COUNT);
            continue;
        }
        assert_ok(qrl_isa_parse(qrl_isa_name(i), &got, &err), &err);
        /* avx512 takes VNNI along */
        assert_int_equal(got, i == QRL_ISA_AVX512 && qrl_isa_here(QRL_ISA_AVX512VNNI) ? QRL_ISA_AVX512VNNI : i);
    }
    assert_string_equal(qrl_isa_name(QRL_ISA_COUNT), "unknown");
    assert_string_equal(qrl_isa_name((qrl_isa)-1), "unknown");
}

static void automatic(void **state) {
    (void)state;
    qrl_isa got = QRL_ISA_COUNT;
    assert_ok(qrl_isa_parse(NULL, &got, &err), &err);
    assert_int_equal(got, qrl_isa_best());
    got = QRL_ISA_COUNT;
    assert_ok(qrl_isa_parse("auto", &got, &err), &err);
    assert_int_equal(got, qrl_isa_best());
}

static void unknown(void **state) {
    (void)state;
    const char *const bad[] = {"", "AVX2", "avx", "avx5122", "sse", "scalar "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qrl_isa got = QRL_ISA_COUNT;
        assert_fails(qrl_isa_parse(bad[i], &got, &err), QRL_ERR_ARGUMENT,
                     "is unknown; one of auto, scalar, avx2, avx-vnni, avx512, avx512-vnni, amx", &err);
        assert_int_equal(got, QRL_ISA_COUNT);
    }
}

/* Does the line "flags : a b c" of /proc/cpuinfo hold the word? */
static bool has(const char *flags, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = flags; (p = strstr(p, word)) != NULL; p += n)
        if (p[-1] == ' ' && (p[n] == ' ' || p[n] == '\n'))
            return true;
    return false;
}

static void detected(void **state) {
    (void)state;
#if defined(__x86_64__)
    static const struct {
        qrl_isa base; /* which it wants too */
        const char *flags[5];
    } needs[QRL_ISA_COUNT] = {
        [QRL_ISA_AVX2] = {QRL_ISA_SCALAR, {"avx2", "fma", "f16c"}},
        [QRL_ISA_AVXVNNI] = {QRL_ISA_AVX2, {"avx_vnni"}},
        [QRL_ISA_AVX512] = {QRL_ISA_AVX2, {"avx512f", "avx512bw", "avx512dq", "avx512vl"}},
        [QRL_ISA_AVX512VNNI] = {QRL_ISA_AVX512, {"avx512_vnni"}},
        [QRL_ISA_AMX] = {QRL_ISA_AVX512VNNI, {"amx_tile", "amx_int8"}},
    };
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) {
        print_message("skipped: no /proc/cpuinfo\n");
        skip();
    }
    static char line[16384];
    bool here[QRL_ISA_COUNT] = {true}, named = false, flags = false;
    qrl_isa best = QRL_ISA_SCALAR;
    while (fgets(line, sizeof line, f)) {
        if (!named && strncmp(line, "model name\t: ", 13) == 0) {
            named = true;
            line[strcspn(line, "\n")] = 0;
            if (!strstr(qrl_cpu_name(), line + 13))
                fail_msg("the processor is '%s', not '%s'", line + 13, qrl_cpu_name());
        }
        if (flags || strncmp(line, "flags", 5) != 0)
            continue;
        flags = true;
        for (qrl_isa isa = QRL_ISA_AVX2; isa < QRL_ISA_COUNT; isa++) {
            here[isa] = here[needs[isa].base];
            for (size_t k = 0; here[isa] && k < 5 && needs[isa].flags[k]; k++)
                here[isa] = has(line, needs[isa].flags[k]);
            best = here[isa] ? isa : best;
        }
    }
    fclose(f);
    assert_true(flags);
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa++)
        assert_int_equal(qrl_isa_here(isa), here[isa]);
    assert_string_equal(qrl_isa_name(qrl_isa_best()), qrl_isa_name(best));
#else
    assert_int_equal(qrl_isa_best(), QRL_ISA_SCALAR);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(automatic), cmocka_unit_test(unknown),
                                       cmocka_unit_test(detected)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
