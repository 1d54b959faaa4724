#define _GNU_SOURCE
#include "base/cpu.h"

#include <pthread.h>
#include <string.h>

static const char *const isa_names[QRL_ISA_COUNT] = {"scalar", "avx2", "avx-vnni", "avx512", "avx512-vnni", "amx"};

const char *qrl_isa_name(qrl_isa isa) {
    return (unsigned)isa < QRL_ISA_COUNT ? isa_names[isa] : "unknown";
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Tile registers are 8 KiB a thread, which Linux keeps only for processes that have asked for them
 * (Documentation/arch/x86/xstate.rst); to ask again changes nothing. */
static bool tiles_are_ours(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

typedef struct leaf {
    unsigned a, b, c, d;
} leaf;

static leaf leaf_of(unsigned number, unsigned part) {
    leaf l = {0};
    if (!__get_cpuid_count(number, part, &l.a, &l.b, &l.c, &l.d))
        l = (leaf){0};
    return l;
}

bool qrl_isa_here(qrl_isa isa) {
    enum { AVX_VNNI = 1 << 4, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 }; /* of leaf 7 */
#ifdef QRL_EMULATE
    return isa < QRL_ISA_COUNT; /* tests/emulate: AVX2 is enough for all of them */
#endif
    __builtin_cpu_init(); /* checks XGETBV too: a set the system does not save is not reported */
    switch (isa) {
    case QRL_ISA_SCALAR:
        return true;
    case QRL_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (leaf_of(1, 0).c & bit_F16C);
    case QRL_ISA_AVXVNNI:
        return qrl_isa_here(QRL_ISA_AVX2) && leaf_of(7, 0).a >= 1 && (leaf_of(7, 1).a & AVX_VNNI);
    case QRL_ISA_AVX512:
        return qrl_isa_here(QRL_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case QRL_ISA_AVX512VNNI:
        return qrl_isa_here(QRL_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
    case QRL_ISA_AMX:
        return qrl_isa_here(QRL_ISA_AVX512VNNI) && (leaf_of(7, 0).d & AMX_TILE) && (leaf_of(7, 0).d & AMX_INT8) &&
               tiles_are_ours();
    case QRL_ISA_COUNT:
        break;
    }
    return false;
}

static char cpu_name[49] = "unknown";

static void read_cpu_name(void) {
    unsigned r[12];
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) < 0x80000004u)
        return;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
    memcpy(cpu_name, r, 48);
    size_t n = strlen(cpu_name);
    while (n > 0 && cpu_name[n - 1] == ' ')
        cpu_name[--n] = 0;
}

const char *qrl_cpu_name(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_cpu_name);
    return cpu_name;
}
#else
bool qrl_isa_here(qrl_isa isa) {
    return isa == QRL_ISA_SCALAR;
}
const char *qrl_cpu_name(void) {
    return "unknown";
}
#endif

qrl_isa qrl_isa_next(qrl_isa isa) {
    do
        isa++;
    while (isa < QRL_ISA_COUNT && !qrl_isa_here(isa));
    return isa;
}

qrl_isa qrl_isa_best(void) {
    qrl_isa best = QRL_ISA_SCALAR;
    for (qrl_isa isa = best; isa < QRL_ISA_COUNT; isa = qrl_isa_next(isa))
        best = isa;
    return best;
}

qrl_status qrl_isa_parse(const char *name, qrl_isa *out, qrl_error *err) {
    const qrl_isa best = qrl_isa_best();
    if (!name || strcmp(name, "auto") == 0) {
        *out = best;
        return QRL_OK;
    }
    for (qrl_isa isa = 0; isa < QRL_ISA_COUNT; isa++) {
        if (strcmp(name, isa_names[isa]) != 0)
            continue;
        if (!qrl_isa_here(isa))
            return qrl_fail(err, QRL_ERR_UNSUPPORTED,
                            "instruction set %s is not supported by this processor, whose best is %s; leave --isa out "
                            "to use that",
                            name, isa_names[best]);
        *out = isa == QRL_ISA_AVX512 && qrl_isa_here(QRL_ISA_AVX512VNNI) ? QRL_ISA_AVX512VNNI : isa;
        return QRL_OK;
    }
    return qrl_fail(err, QRL_ERR_ARGUMENT,
                    "instruction set '%s' is unknown; one of auto, scalar, avx2, avx-vnni, avx512, avx512-vnni, amx",
                    name);
}
